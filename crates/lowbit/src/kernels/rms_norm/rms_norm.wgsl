// y[t, i] = x[t, i] · w[i] / √(mean(x[t]²) + ε)
//
// x and y are [tokens, stride] with width ≤ stride; the sum of squares is f32, in 64 partial sums
// and a tree. One workgroup of 64 threads does one row; thread j takes columns j, j + 64, …
// The row read is `now.first` rows further down, so that the final norm can skip all but the last.

struct Params {
    width: u32,
    stride: u32,
    epsilon: f32,
    unused: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> now: Pass;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read> input: array<f32>;
@group(0) @binding(4) var<storage, read_write> output: array<f32>;

const THREADS: u32 = 64u;

var<workgroup> partial: array<f32, THREADS>;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = folded(group, groups);
    let from_row = (now.first + row) * params.stride;
    var sum = 0.0;
    for (var i = thread; i < params.width; i += THREADS) {
        let x = input[from_row + i];
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
    if (row < now.tokens) {
        let to_row = row * params.stride;
        for (var i = thread; i < params.width; i += THREADS) {
            output[to_row + i] = input[from_row + i] * factor * weight[i];
        }
    }
}
