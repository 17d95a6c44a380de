// x[t, h, i] ← x[t, h, i] · w[i] / √(mean(x[t, h]²) + ε), over each head, in place
//
// x is [tokens, stride] with heads · width ≤ stride; the sum of squares is f32, in 32 partial sums
// and a tree. One workgroup of 32 threads does one head of one token.

struct Params {
    width: u32,
    stride: u32,
    epsilon: f32,
    heads: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> now: Pass;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> values: array<f32>;

const THREADS: u32 = 32u;

var<workgroup> partial: array<f32, THREADS>;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let unit = folded(group, groups);
    let token = unit / params.heads;
    let first = token * params.stride + (unit % params.heads) * params.width;
    var sum = 0.0;
    for (var i = thread; i < params.width; i += THREADS) {
        let x = values[first + i];
        sum += x * x;
    }
    partial[thread] = sum;
    for (var half = THREADS / 2u; half > 0u; half >>= 1u) {
        // Sums of the previous round must be visible before they are read.
        workgroupBarrier();
        if (thread < half) {
            partial[thread] += partial[thread + half];
        }
    }
    // Everyone reads the total.
    workgroupBarrier();
    let factor = 1.0 / sqrt(partial[0] / f32(params.width) + params.epsilon);
    if (token < now.tokens) {
        for (var i = thread; i < params.width; i += THREADS) {
            values[first + i] = values[first + i] * factor * weight[i];
        }
    }
}
