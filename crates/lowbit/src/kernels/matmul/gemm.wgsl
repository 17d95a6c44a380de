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

// Columns 4 · quad … 4 · quad + 3 of a block of a row, as floats.
fn weight(row: u32, block: u32, quad: u32) -> vec4<f32> {
    let at = row * params.blocks + block;
    if (KIND == KIND_F32) {
        return bitcast<vec4<f32>>(weights[at * 8u + quad]);
    }
    if (KIND == KIND_F16 || KIND == KIND_BF16) {
        let w = weights[at * 4u + quad / 2u];
        let words = select(w.xy, w.zw, (quad & 1u) == 1u);
        return vec4<f32>(pair(words.x, KIND), pair(words.y, KIND));
    }
    let g = row * params.groups + block / params.group_blocks;
    var codes: vec4<u32>;
    if (KIND == 4u) {
        let word = weights[at][quad / 2u] >> (16u * (quad & 1u));
        codes = (vec4<u32>(word) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u);
    } else {
        let word = weights[at * 2u + quad / 4u][quad & 3u];
        codes = (vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(255u);
    }
    return (vec4<f32>(codes) - zero(g)) * scale(g);
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
    let source = min(first_row + row, params.rows - 1u);
    for (var i = 0u; i < QUADS / 2u; i++) {
        let quad = (thread & 1u) * (QUADS / 2u) + i;
        tile_w[slot(row, quad)] = weight(source, block, quad);
    }
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
    // Four tokens, a vector of four rows each.
    var total = array<vec4<f32>, 4>();
    for (var block = 0u; block < params.blocks; block++) {
        load(thread, block, first_token, first_row);
        // Both tiles are there.
        workgroupBarrier();
        var sum = array<vec4<f32>, 4>();
        for (var quad = 0u; quad < QUADS; quad++) {
            let w0 = tile_w[slot(i, quad)];
            let w1 = tile_w[slot(i + 16u, quad)];
            let w2 = tile_w[slot(i + 32u, quad)];
            let w3 = tile_w[slot(i + 48u, quad)];
            for (var t = 0u; t < 4u; t++) {
                let x = tile_x[slot(j + 8u * t, quad)];
                sum[t] += vec4<f32>(dot(x, w0), dot(x, w1), dot(x, w2), dot(x, w3));
            }
        }
        for (var t = 0u; t < 4u; t++) {
            total[t] += sum[t];
        }
        // Both tiles have been read.
        workgroupBarrier();
    }
    for (var t = 0u; t < 4u; t++) {
        for (var r = 0u; r < 4u; r++) {
            store(first_token + j + 8u * t, first_row + i + 16u * r, total[t][r]);
        }
    }
}
