// (a, b) ← (a·cos − b·sin, b·cos + a·sin) for the pairs a = x[h, i], b = x[h, i + half]
//
// Queries and keys, in place; half = head_dim / 2. Cosines and sines come from the host, one pair
// per token and i, because those of a GPU may be wrong in the fourth digit at large positions.
// One thread does one pair: heads of the queries first, then those of the keys.

struct Params {
    heads: u32,
    kv_heads: u32,
    half: u32,
    q_stride: u32,
    k_stride: u32,
    unused0: u32,
    unused1: u32,
    unused2: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> now: Pass;
// [tokens, half] of (cos, sin).
@group(0) @binding(2) var<storage, read> table: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read_write> queries: array<f32>;
@group(0) @binding(4) var<storage, read_write> keys: array<f32>;

const THREADS: u32 = 64u;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let unit = folded(group, groups) * THREADS + thread;
    let per_token = (params.heads + params.kv_heads) * params.half;
    let token = unit / per_token;
    if (token < now.tokens) {
        let head = (unit % per_token) / params.half;
        let i = unit % params.half;
        let turn = table[token * params.half + i];
        if (head < params.heads) {
            let at = token * params.q_stride + head * 2u * params.half + i;
            let a = queries[at];
            let b = queries[at + params.half];
            queries[at] = a * turn.x - b * turn.y;
            queries[at + params.half] = b * turn.x + a * turn.y;
        } else {
            let at = token * params.k_stride + (head - params.heads) * 2u * params.half + i;
            let a = keys[at];
            let b = keys[at + params.half];
            keys[at] = a * turn.x - b * turn.y;
            keys[at + params.half] = b * turn.x + a * turn.y;
        }
    }
}
