// gate[i] ← gate[i] · σ(gate[i]) · up[i], in place
//
// Both are [tokens, stride], read as vectors of 4; zeros of the pad stay zero. One thread does one
// vector.

struct Params {
    // Vectors of 4 in a token.
    vectors: u32,
    unused0: u32,
    unused1: u32,
    unused2: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> now: Pass;
@group(0) @binding(2) var<storage, read> up: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> gate: array<vec4<f32>>;

const THREADS: u32 = 64u;

fn sigmoid(x: f32) -> f32 {
    return 1.0 / (1.0 + exp_f32(-x));
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = folded(group, groups) * THREADS + thread;
    if (i < now.tokens * params.vectors) {
        let x = gate[i];
        let s = vec4<f32>(sigmoid(x.x), sigmoid(x.y), sigmoid(x.z), sigmoid(x.w));
        gate[i] = x * s * up[i];
    }
}
