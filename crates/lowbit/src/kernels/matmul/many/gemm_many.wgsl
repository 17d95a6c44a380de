// y[t, n] = Σ_k x[t, k] · w[n, k] for a dense W and many tokens: calibration's products.
//
// One workgroup of 128 threads does a tile of 64 tokens × 64 rows: per block of 16 columns it puts
// both sides into workgroup memory (8 KiB), then thread (i, j) adds 8 tokens j, j + 8, … × 4 rows
// i, i + 16, …: 128 multiplications for 12 vectors read. 256 columns are summed before they are
// added to the total, whatever the number of tokens, so that a row of y does not depend on its
// neighbours. Vector q of tile row r lies at r · 4 + (q xor (r / 2 mod 4)), so that eight
// neighbouring rows lie in different memory banks.

override KIND: u32;

struct Params {
    rows: u32,
    first_row: u32,
    in_stride: u32,
    out_stride: u32,
    // Blocks of 16 columns.
    blocks: u32,
    unused0: u32,
    unused1: u32,
    unused2: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> now: Pass;
@group(0) @binding(2) var<storage, read> weights: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> output: array<f32>;

const THREADS: u32 = 128u;
const TOKENS: u32 = 64u;
const ROWS: u32 = 64u;
// Vectors of 4 in a block of 16 columns.
const QUADS: u32 = 4u;
// Blocks that are summed before the sum is added to the total, less one: 256 columns.
const SUMMED: u32 = 15u;

var<workgroup> tile_x: array<vec4<f32>, 256>;
var<workgroup> tile_w: array<vec4<f32>, 256>;

fn slot(row: u32, quad: u32) -> u32 {
    return row * QUADS + (quad ^ ((row >> 1u) & 3u));
}

// Four neighbouring columns of W.
fn weight(quad: u32) -> vec4<f32> {
    if (KIND == KIND_F32) {
        return bitcast<vec4<f32>>(vec4<u32>(weights[2u * quad], weights[2u * quad + 1u]));
    }
    let both = weights[quad];
    return vec4<f32>(pair(both.x, KIND), pair(both.y, KIND));
}

fn load(thread: u32, block: u32, first_token: u32, first_row: u32) {
    let stride = params.in_stride / 4u;
    for (var i = thread; i < TOKENS * QUADS; i += THREADS) {
        let row = i / QUADS;
        let quad = i % QUADS;
        let token = first_token + row;
        var x = vec4<f32>(0.0);
        if (token < now.tokens) {
            x = input[token * stride + block * QUADS + quad];
        }
        tile_x[slot(row, quad)] = x;
        let from_row = min(first_row + row, params.rows - 1u);
        tile_w[slot(row, quad)] = weight(from_row * stride + block * QUADS + quad);
    }
}

// A token's four rows over four columns, added to what is there.
fn madd(x: vec4<f32>, w: mat4x4<f32>, sum: vec4<f32>) -> vec4<f32> {
    let a = fma(vec4<f32>(x.x), w[0], sum);
    let b = fma(vec4<f32>(x.y), w[1], a);
    let c = fma(vec4<f32>(x.z), w[2], b);
    return fma(vec4<f32>(x.w), w[3], c);
}

fn store(token: u32, row: u32, sum: vec4<f32>) {
    if (token >= now.tokens) {
        return;
    }
    let at = token * params.out_stride + params.first_row;
    for (var r = 0u; r < 4u; r++) {
        if (row + 16u * r < params.rows) {
            output[at + row + 16u * r] = sum[r];
        }
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
    // Written out, because drivers are given loops with a counter against endlessness and then do
    // not unroll them.
    var total0 = vec4<f32>(0.0);
    var total1 = vec4<f32>(0.0);
    var total2 = vec4<f32>(0.0);
    var total3 = vec4<f32>(0.0);
    var total4 = vec4<f32>(0.0);
    var total5 = vec4<f32>(0.0);
    var total6 = vec4<f32>(0.0);
    var total7 = vec4<f32>(0.0);
    var sum0 = vec4<f32>(0.0);
    var sum1 = vec4<f32>(0.0);
    var sum2 = vec4<f32>(0.0);
    var sum3 = vec4<f32>(0.0);
    var sum4 = vec4<f32>(0.0);
    var sum5 = vec4<f32>(0.0);
    var sum6 = vec4<f32>(0.0);
    var sum7 = vec4<f32>(0.0);
    for (var block = 0u; block < params.blocks; block++) {
        load(thread, block, first_token, first_row);
        // Both tiles are there.
        workgroupBarrier();
        for (var quad = 0u; quad < QUADS; quad++) {
            // One column of the result is four rows of one column of W.
            let w = transpose(mat4x4<f32>(
                tile_w[slot(i, quad)],
                tile_w[slot(i + 16u, quad)],
                tile_w[slot(i + 32u, quad)],
                tile_w[slot(i + 48u, quad)],
            ));
            sum0 = madd(tile_x[slot(j, quad)], w, sum0);
            sum1 = madd(tile_x[slot(j + 8u, quad)], w, sum1);
            sum2 = madd(tile_x[slot(j + 16u, quad)], w, sum2);
            sum3 = madd(tile_x[slot(j + 24u, quad)], w, sum3);
            sum4 = madd(tile_x[slot(j + 32u, quad)], w, sum4);
            sum5 = madd(tile_x[slot(j + 40u, quad)], w, sum5);
            sum6 = madd(tile_x[slot(j + 48u, quad)], w, sum6);
            sum7 = madd(tile_x[slot(j + 56u, quad)], w, sum7);
        }
        if ((block & SUMMED) == SUMMED || block + 1u == params.blocks) {
            total0 += sum0;
            total1 += sum1;
            total2 += sum2;
            total3 += sum3;
            total4 += sum4;
            total5 += sum5;
            total6 += sum6;
            total7 += sum7;
            sum0 = vec4<f32>(0.0);
            sum1 = vec4<f32>(0.0);
            sum2 = vec4<f32>(0.0);
            sum3 = vec4<f32>(0.0);
            sum4 = vec4<f32>(0.0);
            sum5 = vec4<f32>(0.0);
            sum6 = vec4<f32>(0.0);
            sum7 = vec4<f32>(0.0);
        }
        // Both tiles have been read.
        workgroupBarrier();
    }
    let row = first_row + i;
    store(first_token + j, row, total0);
    store(first_token + j + 8u, row, total1);
    store(first_token + j + 16u, row, total2);
    store(first_token + j + 24u, row, total3);
    store(first_token + j + 32u, row, total4);
    store(first_token + j + 40u, row, total5);
    store(first_token + j + 48u, row, total6);
    store(first_token + j + 56u, row, total7);
}
