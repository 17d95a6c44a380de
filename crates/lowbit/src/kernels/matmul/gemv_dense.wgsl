// y[t, n] = Σ_k x[t, k] · w[n, k] + bias[n]
//
// x is [tokens, in_stride], y [tokens, out_stride], both f32. w are floats of KIND, row after row
// in blocks of 32 columns: 8 vectors of 4 words in f32, 4 in the half types.
// One workgroup of 64 threads does 4 rows of one token: thread j takes runs j, j + 64, … of 8
// columns of all four, and a tree adds the threads. Sums are f32.
// The matrix may be cut: this one holds `rows` rows whose first is row `first_row` of y.

override KIND: u32;

struct Params {
    rows: u32,
    first_row: u32,
    in_stride: u32,
    out_stride: u32,
    blocks: u32,
    unused0: u32,
    unused1: u32,
    unused2: f32,
    unused3: u32,
    has_bias: u32,
    // Add to y instead of writing it.
    accumulate: u32,
    unused4: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> now: Pass;
@group(0) @binding(2) var<storage, read> weights: array<vec4<u32>>;
// Bound so that the layout is that of the other products.
@group(0) @binding(3) var<storage, read> scales: array<u32>;
@group(0) @binding(4) var<storage, read> zeros: array<u32>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;
@group(0) @binding(6) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> output: array<f32>;

const THREADS: u32 = 64u;
const ROWS: u32 = 4u;

var<workgroup> partial: array<vec4<f32>, THREADS>;

// Run `run` of 8 columns of a row times eight inputs.
fn run_sum(row: u32, run: u32, a: vec4<f32>, b: vec4<f32>) -> f32 {
    let at = row * params.blocks * 4u + run;
    if (KIND == KIND_F32) {
        let low = bitcast<vec4<f32>>(weights[2u * at]);
        let high = bitcast<vec4<f32>>(weights[2u * at + 1u]);
        return dot(low, a) + dot(high, b);
    }
    let w = weights[at];
    let low = vec4<f32>(pair(w.x, KIND), pair(w.y, KIND));
    let high = vec4<f32>(pair(w.z, KIND), pair(w.w, KIND));
    return dot(low, a) + dot(high, b);
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let token = group.z;
    let first = folded(group, groups) * ROWS;
    let last = params.rows - 1u;
    let row0 = min(first, last);
    let row1 = min(first + 1u, last);
    let row2 = min(first + 2u, last);
    let row3 = min(first + 3u, last);
    var sum = vec4<f32>(0.0);
    for (var run = thread; run < params.blocks * 4u; run += THREADS) {
        let x = (token * params.in_stride) / 4u + run * 2u;
        let a = input[x];
        let b = input[x + 1u];
        sum += vec4<f32>(
            run_sum(row0, run, a, b),
            run_sum(row1, run, a, b),
            run_sum(row2, run, a, b),
            run_sum(row3, run, a, b),
        );
    }
    partial[thread] = sum;
    for (var half = THREADS / 2u; half > 0u; half >>= 1u) {
        // Sums of the previous round must be visible before they are read.
        workgroupBarrier();
        if (thread < half) {
            partial[thread] += partial[thread + half];
        }
    }
    // The rows are stored by four threads.
    workgroupBarrier();
    let row = first + thread;
    if (thread < ROWS && row < params.rows && token < now.tokens) {
        let at = token * params.out_stride + params.first_row + row;
        var y = partial[0][thread];
        if (params.has_bias == 1u) {
            y += bias[params.first_row + row];
        }
        if (params.accumulate == 1u) {
            y += output[at];
        }
        output[at] = y;
    }
}
