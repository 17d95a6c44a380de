// y[t, j] = x[t, order[j]], zero where order[j] is not a column
//
// x is [tokens, from_stride], y is [tokens, to_stride]. One thread does one element.

struct Params {
    from_stride: u32,
    to_stride: u32,
    unused0: u32,
    unused1: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> now: Pass;
// [to_stride] columns of x.
@group(0) @binding(2) var<storage, read> order: array<u32>;
@group(0) @binding(3) var<storage, read> input: array<f32>;
@group(0) @binding(4) var<storage, read_write> output: array<f32>;

const THREADS: u32 = 64u;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = folded(group, groups) * THREADS + thread;
    let token = i / params.to_stride;
    if (token < now.tokens) {
        let column = order[i % params.to_stride];
        var value = 0.0;
        if (column < params.from_stride) {
            value = input[token * params.from_stride + column];
        }
        output[i] = value;
    }
}
