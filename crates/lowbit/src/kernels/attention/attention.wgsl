// y[t, h] = Σ_j softmax_j(q[t, h] · k[j, h'] / √d) · v[j, h'],   j ≤ position + t
//
// Causal, h' = h / (heads / kv_heads). q and y are [tokens, stride] with heads of d ≤ 256 columns,
// k and v [capacity, kv_heads, quads] in vectors of 4, padded with zeros; sums are f32. Keys are taken in tiles of 64 with a running
// maximum m and sum l (FlashAttention, section 3.1: after each tile the accumulated output is
// multiplied by exp(m_old − m_new)), so that no row of scores is ever stored.
// One workgroup of 64 threads does one head of one token. For the scores, thread j does key j of
// the tile; for the output, thread j does vector j mod quads over every slice-th key.

struct Params {
    // Query heads for one key-value head.
    shared_by: u32,
    // Vectors of 4 in a head of the caches.
    quads: u32,
    q_stride: u32,
    // Vectors of 4 in a position of the caches.
    kv_stride: u32,
    scale: f32,
    width: u32,
    unused0: u32,
    unused1: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> now: Pass;
@group(0) @binding(2) var<storage, read> keys: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> values: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> queries: array<f32>;
@group(0) @binding(5) var<storage, read_write> output: array<f32>;

const THREADS: u32 = 64u;
const LOWEST: f32 = -3.0e38;

var<workgroup> query: array<vec4<f32>, THREADS>;
var<workgroup> scores: array<f32, THREADS>;
var<workgroup> weights: array<f32, THREADS>;
var<workgroup> parts: array<vec4<f32>, THREADS>;

fn score(key: u32, first: u32) -> f32 {
    var sum = 0.0;
    for (var i = 0u; i < params.quads; i++) {
        sum += dot(query[i], keys[key * params.kv_stride + first + i]);
    }
    return sum * params.scale;
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let head = group.x;
    let token = group.z;
    let first = (head / params.shared_by) * params.quads;
    let at = token * params.q_stride + head * params.width;
    let slices = THREADS / params.quads;
    let slice = thread / params.quads;
    let quad = thread % params.quads;
    if (thread < params.quads) {
        var x = vec4<f32>(0.0);
        for (var c = 0u; c < min(4u, params.width - 4u * thread); c++) {
            x[c] = queries[at + 4u * thread + c];
        }
        query[thread] = x;
    }
    // Uniform over the workgroup: position and token are the same for all of its threads.
    let length = now.position + token + 1u;
    var highest = LOWEST;
    var total = 0.0;
    var sum = vec4<f32>(0.0);
    for (var base = 0u; base < length; base += THREADS) {
        let keys_left = min(THREADS, length - base);
        // The query is there; the previous tile's scores and weights have been read.
        workgroupBarrier();
        var own = LOWEST;
        if (thread < keys_left) {
            own = score(base + thread, first);
        }
        scores[thread] = own;
        // All scores of the tile are there.
        workgroupBarrier();
        var peak = highest;
        for (var j = 0u; j < keys_left; j++) {
            peak = max(peak, scores[j]);
        }
        weights[thread] = select(0.0, exp_f32(own - peak), thread < keys_left);
        // All weights of the tile are there.
        workgroupBarrier();
        let fade = exp_f32(highest - peak);
        var tile = 0.0;
        for (var j = 0u; j < keys_left; j++) {
            tile += weights[j];
        }
        total = total * fade + tile;
        highest = peak;
        sum *= fade;
        if (slice < slices) {
            for (var j = slice; j < keys_left; j += slices) {
                sum += weights[j] * values[(base + j) * params.kv_stride + first + quad];
            }
        }
    }
    parts[thread] = sum;
    // All slices are there.
    workgroupBarrier();
    if (thread < params.quads && token < now.tokens) {
        var whole = vec4<f32>(0.0);
        for (var s = 0u; s < slices; s++) {
            whole += parts[s * params.quads + thread];
        }
        for (var c = 0u; c < min(4u, params.width - 4u * thread); c++) {
            output[at + 4u * thread + c] = whole[c] / total;
        }
    }
}
