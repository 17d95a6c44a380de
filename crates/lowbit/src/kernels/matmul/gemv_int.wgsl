// y[t, n] = Σ_k x[t, k] · s[n, k / group] · (q[n, k] − z[n, k / group]) + bias[n]
//
// x is [tokens, in_stride], y [tokens, out_stride], both f32. q are codes of BITS = 4 or 8, row
// after row in blocks of 32 columns, 4 or 8 words; a group is whole blocks of a row.
//   word of 4 bits: [ q7 31..28 | … | q1 7..4 | q0 3..0 ]     of 8 bits: [ q3 | q2 | q1 | q0 ]
// One workgroup of 64 threads does 4 rows of one token: thread j takes blocks j, j + 64, … of all
// four, sums each block before it is scaled, and a tree adds the threads. Sums are f32.
// The matrix may be cut: this one holds `rows` rows whose first is row `first_row` of y.

override BITS: u32;
override SCALE_KIND: u32;

struct Params {
    rows: u32,
    first_row: u32,
    in_stride: u32,
    out_stride: u32,
    blocks: u32,
    group_blocks: u32,
    groups: u32,
    // Zero of every group, unless they have their own.
    centre: f32,
    // Each group has its own zero, a byte.
    has_zeros: u32,
    has_bias: u32,
    // Add to y instead of writing it.
    accumulate: u32,
    unused: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> now: Pass;
@group(0) @binding(2) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
@group(0) @binding(4) var<storage, read> zeros: array<u32>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;
@group(0) @binding(6) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> output: array<f32>;

const THREADS: u32 = 64u;
const ROWS: u32 = 4u;

var<workgroup> partial: array<vec4<f32>, THREADS>;

fn scale(i: u32) -> f32 {
    if (SCALE_KIND == KIND_F32) {
        return bitcast<f32>(scales[i]);
    }
    let both = pair(scales[i / 2u], SCALE_KIND);
    return select(both.x, both.y, (i & 1u) == 1u);
}

fn zero(i: u32) -> f32 {
    if (params.has_zeros == 0u) {
        return params.centre;
    }
    return f32((zeros[i / 4u] >> (8u * (i & 3u))) & 255u);
}

// Eight codes of 4 bits times eight inputs.
fn nibbles(word: u32, z: f32, a: vec4<f32>, b: vec4<f32>) -> f32 {
    let low = vec4<f32>((vec4<u32>(word) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u));
    let high = vec4<f32>((vec4<u32>(word) >> vec4<u32>(16u, 20u, 24u, 28u)) & vec4<u32>(15u));
    return dot(low - z, a) + dot(high - z, b);
}

// Four codes of 8 bits times four inputs.
fn bytes(word: u32, z: f32, a: vec4<f32>) -> f32 {
    let codes = vec4<f32>((vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(255u));
    return dot(codes - z, a);
}

// One block of one row, unscaled; `x` is where the inputs of the block start.
fn block_sum(row: u32, block: u32, z: f32, x: u32) -> f32 {
    var sum = 0.0;
    if (BITS == 4u) {
        let w = weights[row * params.blocks + block];
        for (var i = 0u; i < 4u; i++) {
            sum += nibbles(w[i], z, input[x + 2u * i], input[x + 2u * i + 1u]);
        }
    } else {
        for (var half = 0u; half < 2u; half++) {
            let w = weights[(row * params.blocks + block) * 2u + half];
            for (var i = 0u; i < 4u; i++) {
                sum += bytes(w[i], z, input[x + 4u * half + i]);
            }
        }
    }
    return sum;
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let token = group.z;
    let first = folded(group, groups) * ROWS;
    var sum = vec4<f32>(0.0);
    for (var block = thread; block < params.blocks; block += THREADS) {
        let x = (token * params.in_stride + block * 32u) / 4u;
        let in_row = block / params.group_blocks;
        for (var r = 0u; r < ROWS; r++) {
            let row = min(first + r, params.rows - 1u);
            let g = row * params.groups + in_row;
            sum[r] += scale(g) * block_sum(row, block, zero(g), x);
        }
    }
    partial[thread] = sum;
    for (var half = THREADS / 2u; half > 0u; half >>= 1u) {
        // Sums of the previous round must be visible before they are read.
        workgroupBarrier();
        if (thread < half) {
            partial[thread] += partial[thread + half];
        }
    }
    // The rows are stored by four threads.
    workgroupBarrier();
    let row = first + thread;
    if (thread < ROWS && row < params.rows && token < now.tokens) {
        let at = token * params.out_stride + params.first_row + row;
        var y = partial[0][thread];
        if (params.has_bias == 1u) {
            y += bias[params.first_row + row];
        }
        if (params.accumulate == 1u) {
            y += output[at];
        }
        output[at] = y;
    }
}
