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

// The inputs of a block, in vectors of 4.
struct Inputs {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
    e: vec4<f32>,
    f: vec4<f32>,
    g: vec4<f32>,
    h: vec4<f32>,
}

fn inputs(at: u32) -> Inputs {
    return Inputs(
        input[at],
        input[at + 1u],
        input[at + 2u],
        input[at + 3u],
        input[at + 4u],
        input[at + 5u],
        input[at + 6u],
        input[at + 7u],
    );
}

// Four codes of 4 bits, from the low half of a word, times four inputs.
fn nibbles(word: u32, z: f32, x: vec4<f32>) -> f32 {
    let codes = vec4<f32>((vec4<u32>(word) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u));
    return dot(codes - z, x);
}

// Four codes of 8 bits times four inputs.
fn bytes(word: u32, z: f32, x: vec4<f32>) -> f32 {
    let codes = vec4<f32>((vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(255u));
    return dot(codes - z, x);
}

// One block of one row, scaled. Written out, because drivers are given loops with a counter
// against endlessness and then do not unroll them.
fn block_sum(row: u32, block: u32, in_row: u32, x: Inputs) -> f32 {
    let g = row * params.groups + in_row;
    let z = zero(g);
    let at = row * params.blocks + block;
    var sum: f32;
    if (BITS == 4u) {
        let w = weights[at];
        sum = nibbles(w.x, z, x.a) + nibbles(w.x >> 16u, z, x.b)
            + nibbles(w.y, z, x.c) + nibbles(w.y >> 16u, z, x.d)
            + nibbles(w.z, z, x.e) + nibbles(w.z >> 16u, z, x.f)
            + nibbles(w.w, z, x.g) + nibbles(w.w >> 16u, z, x.h);
    } else {
        let v = weights[at * 2u];
        let w = weights[at * 2u + 1u];
        sum = bytes(v.x, z, x.a) + bytes(v.y, z, x.b) + bytes(v.z, z, x.c) + bytes(v.w, z, x.d)
            + bytes(w.x, z, x.e) + bytes(w.y, z, x.f) + bytes(w.z, z, x.g) + bytes(w.w, z, x.h);
    }
    return scale(g) * sum;
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let token = group.z;
    let first = folded(group, groups) * ROWS;
    let last = params.rows - 1u;
    let row0 = min(first, last);
    let row1 = min(first + 1u, last);
    let row2 = min(first + 2u, last);
    let row3 = min(first + 3u, last);
    var sum = vec4<f32>(0.0);
    for (var block = thread; block < params.blocks; block += THREADS) {
        let x = inputs((token * params.in_stride + block * 32u) / 4u);
        let in_row = block / params.group_blocks;
        sum += vec4<f32>(
            block_sum(row0, block, in_row, x),
            block_sum(row1, block, in_row, x),
            block_sum(row2, block, in_row, x),
            block_sum(row3, block, in_row, x),
        );
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
