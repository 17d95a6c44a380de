// cache[position + t, i] = x[t, i], for keys and values at once
//
// Sources are [tokens, stride], caches [capacity, width], all as vectors of 4. One thread copies
// one vector of each.

struct Params {
    // Vectors of 4 in a row of the sources.
    stride: u32,
    // Vectors of 4 in a row of the caches.
    width: u32,
    unused0: u32,
    unused1: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> now: Pass;
@group(0) @binding(2) var<storage, read> new_keys: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> new_values: array<vec4<f32>>;
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
    let token = i / params.width;
    if (token < now.tokens) {
        let from_at = token * params.stride + i % params.width;
        let to_at = now.position * params.width + i;
        keys[to_at] = new_keys[from_at];
        values[to_at] = new_values[from_at];
    }
}
