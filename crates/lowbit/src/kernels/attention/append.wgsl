// cache[position + t, i] = x[t, i], for keys and values at once
//
// Sources are [tokens, stride] with heads of `width` columns; in the caches, [capacity, heads,
// quads] in vectors of 4, heads are padded with zeros to whole vectors. One thread makes one
// vector of each.

struct Params {
    stride: u32,
    heads: u32,
    width: u32,
    // Vectors of 4 in a head of the caches.
    quads: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> now: Pass;
@group(0) @binding(2) var<storage, read> new_keys: array<f32>;
@group(0) @binding(3) var<storage, read> new_values: array<f32>;
@group(0) @binding(4) var<storage, read_write> keys: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> values: array<vec4<f32>>;

const THREADS: u32 = 64u;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = folded(group, groups) * THREADS + thread;
    let per_token = params.heads * params.quads;
    let token = i / per_token;
    if (token < now.tokens) {
        let head = (i % per_token) / params.quads;
        let first = 4u * (i % params.quads);
        let from_at = token * params.stride + head * params.width + first;
        var key = vec4<f32>(0.0);
        var value = vec4<f32>(0.0);
        for (var c = 0u; c < min(4u, params.width - first); c++) {
            key[c] = new_keys[from_at + c];
            value[c] = new_values[from_at + c];
        }
        let to_at = now.position * per_token + i;
        keys[to_at] = key;
        values[to_at] = value;
    }
}
