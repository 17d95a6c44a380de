// h[i, j] += Σ_t x[t, i] · x[t, j] for j ≤ i: calibration's second moments.
//
// As the sums are symmetric, only tiles of 64 × 64 on and below the diagonal are done. One workgroup
// of 64 threads does a tile: per 16 tokens it puts both sides into workgroup memory (8 KiB), then
// thread (a, b) adds 8 × 8 entries: 64 multiplications for 4 vectors read. 256 tokens are summed
// before the sum is added to h, so that its error does not grow with their number. h holds the rows
// from first_row on, a part of the matrix that fits into a binding.

struct Params {
    in_stride: u32,
    first_row: u32,
    // Rows in h.
    rows: u32,
    // A multiple of 64.
    out_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> now: Pass;
@group(0) @binding(2) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> sums: array<vec4<f32>>;

const THREADS: u32 = 64u;
const SIDE: u32 = 64u;
// Vectors of 4 in a side of a tile.
const QUADS: u32 = 16u;
// Tokens in workgroup memory, and tokens that are summed before the sum is added to h.
const STEP: u32 = 16u;
const BLOCK: u32 = 256u;

var<workgroup> tile_a: array<vec4<f32>, 256>;
var<workgroup> tile_b: array<vec4<f32>, 256>;

fn values(token: u32, quad: u32) -> vec4<f32> {
    if (token >= now.tokens || quad >= params.in_stride / 4u) {
        return vec4<f32>(0.0);
    }
    return input[token * (params.in_stride / 4u) + quad];
}

fn load(thread: u32, first_token: u32, quad_a: u32, quad_b: u32) {
    for (var i = thread; i < STEP * QUADS; i += THREADS) {
        let token = first_token + i / QUADS;
        tile_a[i] = values(token, quad_a + i % QUADS);
        tile_b[i] = values(token, quad_b + i % QUADS);
    }
}

fn add(row: u32, quad: u32, low: vec4<f32>, high: vec4<f32>) {
    if (row < params.rows) {
        let at = row * (params.out_stride / 4u) + quad;
        sums[at] += low;
        sums[at + 8u] += high;
    }
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let tile = folded(group, groups);
    let tiles = params.out_stride / SIDE;
    let row = (tile / tiles) * SIDE;
    let column = (tile % tiles) * SIDE;
    if (row >= params.rows || column > params.first_row + row) {
        return;
    }
    let quad_a = (params.first_row + row) / 4u;
    let quad_b = column / 4u;
    let a = thread / 8u;
    let b = thread % 8u;
    for (var block = 0u; block < now.tokens; block += BLOCK) {
        // Row of the tile, then its low and high columns. Written out, because drivers are given
        // loops with a counter against endlessness and then do not unroll them.
        var low0 = vec4<f32>(0.0);
        var low1 = vec4<f32>(0.0);
        var low2 = vec4<f32>(0.0);
        var low3 = vec4<f32>(0.0);
        var low4 = vec4<f32>(0.0);
        var low5 = vec4<f32>(0.0);
        var low6 = vec4<f32>(0.0);
        var low7 = vec4<f32>(0.0);
        var high0 = vec4<f32>(0.0);
        var high1 = vec4<f32>(0.0);
        var high2 = vec4<f32>(0.0);
        var high3 = vec4<f32>(0.0);
        var high4 = vec4<f32>(0.0);
        var high5 = vec4<f32>(0.0);
        var high6 = vec4<f32>(0.0);
        var high7 = vec4<f32>(0.0);
        let end = min(block + BLOCK, now.tokens);
        for (var first = block; first < end; first += STEP) {
            load(thread, first, quad_a, quad_b);
            // Both tiles are there.
            workgroupBarrier();
            for (var t = 0u; t < STEP; t++) {
                let u = tile_a[t * QUADS + a];
                let v = tile_a[t * QUADS + a + 8u];
                let x = tile_b[t * QUADS + b];
                let y = tile_b[t * QUADS + b + 8u];
                low0 = fma(vec4<f32>(u.x), x, low0);
                low1 = fma(vec4<f32>(u.y), x, low1);
                low2 = fma(vec4<f32>(u.z), x, low2);
                low3 = fma(vec4<f32>(u.w), x, low3);
                low4 = fma(vec4<f32>(v.x), x, low4);
                low5 = fma(vec4<f32>(v.y), x, low5);
                low6 = fma(vec4<f32>(v.z), x, low6);
                low7 = fma(vec4<f32>(v.w), x, low7);
                high0 = fma(vec4<f32>(u.x), y, high0);
                high1 = fma(vec4<f32>(u.y), y, high1);
                high2 = fma(vec4<f32>(u.z), y, high2);
                high3 = fma(vec4<f32>(u.w), y, high3);
                high4 = fma(vec4<f32>(v.x), y, high4);
                high5 = fma(vec4<f32>(v.y), y, high5);
                high6 = fma(vec4<f32>(v.z), y, high6);
                high7 = fma(vec4<f32>(v.w), y, high7);
            }
            // Both tiles have been read.
            workgroupBarrier();
        }
        let quad = quad_b + b;
        let at = row + 4u * a;
        add(at, quad, low0, high0);
        add(at + 1u, quad, low1, high1);
        add(at + 2u, quad, low2, high2);
        add(at + 3u, quad, low3, high3);
        add(at + 32u, quad, low4, high4);
        add(at + 33u, quad, low5, high5);
        add(at + 34u, quad, low6, high6);
        add(at + 35u, quad, low7, high7);
    }
}
