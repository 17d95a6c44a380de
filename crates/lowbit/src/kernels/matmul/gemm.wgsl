// y[t, n] = Σ_k x[t, k] · w[n, k] + bias[n],   w = s · (q − z) or a dense float
//
// The same operands as gemv_int.wgsl and gemv_dense.wgsl, chosen by KIND (4 and 8 are codes of as
// many bits). One workgroup of 128 threads does a tile of 32 tokens × 64 rows: per block of 32
// columns it puts x and the dequantized w into workgroup memory (12 KiB), then thread (i, j) adds
// 4 tokens j, j + 8, … × 4 rows i, i + 16, …. A block is summed before it is added to the total.
// Vector q of tile row r lies at r · 8 + (q xor (r mod 8)), so that threads of neighbouring rows
// read different memory banks.

override KIND: u32;
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

const THREADS: u32 = 128u;
const TOKENS: u32 = 32u;
const ROWS: u32 = 64u;
// Vectors of 4 in a block of 32 columns.
const QUADS: u32 = 8u;

var<workgroup> tile_x: array<vec4<f32>, 256>;
var<workgroup> tile_w: array<vec4<f32>, 512>;

fn slot(row: u32, quad: u32) -> u32 {
    return row * QUADS + (quad ^ (row & 7u));
}

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

fn halves(w: vec4<u32>) -> array<vec4<f32>, 2> {
    return array(vec4<f32>(pair(w.x, KIND), pair(w.y, KIND)), vec4<f32>(pair(w.z, KIND), pair(w.w, KIND)));
}

fn nibbles(word: u32) -> vec4<f32> {
    return vec4<f32>((vec4<u32>(word) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u));
}

fn bytes(word: u32) -> vec4<f32> {
    return vec4<f32>((vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(255u));
}

// Half `half` of a block of a row, 16 columns, as floats.
fn weights16(row: u32, block: u32, half: u32) -> mat4x4<f32> {
    let at = row * params.blocks + block;
    if (KIND == KIND_F32) {
        let first = at * 8u + half * 4u;
        return mat4x4<f32>(
            bitcast<vec4<f32>>(weights[first]),
            bitcast<vec4<f32>>(weights[first + 1u]),
            bitcast<vec4<f32>>(weights[first + 2u]),
            bitcast<vec4<f32>>(weights[first + 3u]),
        );
    }
    if (KIND == KIND_F16 || KIND == KIND_BF16) {
        let a = halves(weights[at * 4u + half * 2u]);
        let b = halves(weights[at * 4u + half * 2u + 1u]);
        return mat4x4<f32>(a[0], a[1], b[0], b[1]);
    }
    let g = row * params.groups + block / params.group_blocks;
    let z = vec4<f32>(zero(g));
    let s = scale(g);
    if (KIND == 4u) {
        let all = weights[at];
        let w = select(all.xy, all.zw, half == 1u);
        return s * mat4x4<f32>(
            nibbles(w.x) - z,
            nibbles(w.x >> 16u) - z,
            nibbles(w.y) - z,
            nibbles(w.y >> 16u) - z,
        );
    }
    let w = weights[at * 2u + half];
    return s * mat4x4<f32>(bytes(w.x) - z, bytes(w.y) - z, bytes(w.z) - z, bytes(w.w) - z);
}

fn load(thread: u32, block: u32, first_token: u32, first_row: u32) {
    for (var i = thread; i < TOKENS * QUADS; i += THREADS) {
        let token = first_token + i / QUADS;
        var x = vec4<f32>(0.0);
        if (token < now.tokens) {
            x = input[(token * params.in_stride) / 4u + block * QUADS + i % QUADS];
        }
        tile_x[slot(i / QUADS, i % QUADS)] = x;
    }
    // Two threads share a row, each does half of its block.
    let row = thread / 2u;
    let half = thread & 1u;
    let w = weights16(min(first_row + row, params.rows - 1u), block, half);
    tile_w[slot(row, half * 4u)] = w[0];
    tile_w[slot(row, half * 4u + 1u)] = w[1];
    tile_w[slot(row, half * 4u + 2u)] = w[2];
    tile_w[slot(row, half * 4u + 3u)] = w[3];
}

fn store(token: u32, row: u32, sum: f32) {
    if (token < now.tokens && row < params.rows) {
        let at = token * params.out_stride + params.first_row + row;
        var y = sum;
        if (params.has_bias == 1u) {
            y += bias[params.first_row + row];
        }
        if (params.accumulate == 1u) {
            y += output[at];
        }
        output[at] = y;
    }
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let first_token = group.z * TOKENS;
    let first_row = folded(group, groups) * ROWS;
    let i = thread % 16u;
    let j = thread / 16u;
    // A token each, with a vector of its four rows. Short loops are written out, because drivers
    // are given loops with a counter against endlessness and then do not unroll them.
    var total0 = vec4<f32>(0.0);
    var total1 = vec4<f32>(0.0);
    var total2 = vec4<f32>(0.0);
    var total3 = vec4<f32>(0.0);
    for (var block = 0u; block < params.blocks; block++) {
        load(thread, block, first_token, first_row);
        // Both tiles are there.
        workgroupBarrier();
        var sum0 = vec4<f32>(0.0);
        var sum1 = vec4<f32>(0.0);
        var sum2 = vec4<f32>(0.0);
        var sum3 = vec4<f32>(0.0);
        for (var quad = 0u; quad < QUADS; quad++) {
            let w = mat4x4<f32>(
                tile_w[slot(i, quad)],
                tile_w[slot(i + 16u, quad)],
                tile_w[slot(i + 32u, quad)],
                tile_w[slot(i + 48u, quad)],
            );
            sum0 += tile_x[slot(j, quad)] * w;
            sum1 += tile_x[slot(j + 8u, quad)] * w;
            sum2 += tile_x[slot(j + 16u, quad)] * w;
            sum3 += tile_x[slot(j + 24u, quad)] * w;
        }
        total0 += sum0;
        total1 += sum1;
        total2 += sum2;
        total3 += sum3;
        // Both tiles have been read.
        workgroupBarrier();
    }
    for (var r = 0u; r < 4u; r++) {
        let row = first_row + i + 16u * r;
        store(first_token + j, row, total0[r]);
        store(first_token + j + 8u, row, total1[r]);
        store(first_token + j + 16u, row, total2[r]);
        store(first_token + j + 24u, row, total3[r]);
    }
}
