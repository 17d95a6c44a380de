// The KEEP largest logits in descending order, ties by lower id, and the parts of log Σ exp.
//
// A pass cuts its candidates into tiles of 1,024. A workgroup of 256 threads sorts one tile
// (bitonic: log₂² rounds of compare and exchange) and keeps the first KEEP; passes repeat on what
// was kept until one tile is left. The FIRST pass takes its candidates from the logits and stores
// of each tile (maximum, Σ exp(x − maximum), count of NaN); the LAST adds these up and writes
//   result: [ maximum | Σ exp(x − maximum) | count of NaN | 0 | logit, id | logit, id | … ]
// NaN is told by its bits, because an implementation may assume that there is none.

override FIRST: u32;
override LAST: u32;

struct Params {
    // Candidates of this pass.
    count: u32,
    // Tiles of the first pass.
    tiles: u32,
    unused0: u32,
    unused1: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
// Pairs of logit bits and id.
@group(0) @binding(2) var<storage, read> kept: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read_write> keeps: array<vec2<u32>>;
@group(0) @binding(4) var<storage, read_write> sums: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> result: array<vec2<u32>>;

const THREADS: u32 = 256u;
const TILE: u32 = 1024u;
const KEEP: u32 = 128u;
const LOWEST: f32 = -3.4028234e38;
const NOBODY: u32 = 0xffffffffu;

var<workgroup> keys: array<f32, TILE>;
var<workgroup> ids: array<u32, TILE>;
var<workgroup> partial: array<vec2<f32>, THREADS>;

fn is_nan(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

// Sorts the tile; after round `size` every run of `size` is sorted, every other one backwards.
fn sort(thread: u32) {
    for (var size = 2u; size <= TILE; size *= 2u) {
        for (var gap = size / 2u; gap > 0u; gap /= 2u) {
            // Exchanges of the previous round must be visible.
            workgroupBarrier();
            for (var n = thread; n < TILE / 2u; n += THREADS) {
                let a = 2u * n - (n & (gap - 1u));
                let b = a + gap;
                let ahead = keys[a] > keys[b] || (keys[a] == keys[b] && ids[a] < ids[b]);
                let forwards = (a & size) == 0u;
                if (ahead != forwards) {
                    let key = keys[a];
                    let id = ids[a];
                    keys[a] = keys[b];
                    ids[a] = ids[b];
                    keys[b] = key;
                    ids[b] = id;
                }
            }
        }
    }
    // Everyone reads the sorted tile.
    workgroupBarrier();
}

// Adds up `partial` over the workgroup; the result is in partial[0].
fn add_partials(thread: u32) {
    for (var half = THREADS / 2u; half > 0u; half >>= 1u) {
        // Sums of the previous round must be visible before they are read.
        workgroupBarrier();
        if (thread < half) {
            partial[thread] += partial[thread + half];
        }
    }
    // Everyone reads the total.
    workgroupBarrier();
}

fn sum_tile(tile: u32, thread: u32) {
    let highest = keys[0];
    var sum = vec2<f32>(0.0);
    for (var n = thread; n < TILE; n += THREADS) {
        let i = tile * TILE + n;
        if (i < params.count) {
            let x = logits[i];
            sum += select(vec2<f32>(exp_f32(x - highest), 0.0), vec2<f32>(0.0, 1.0), is_nan(x));
        }
    }
    partial[thread] = sum;
    add_partials(thread);
    if (thread == 0u) {
        sums[tile] = vec4<f32>(highest, partial[0], 0.0);
    }
}

fn sum_all(thread: u32) {
    let highest = keys[0];
    var sum = vec2<f32>(0.0);
    for (var n = thread; n < params.tiles; n += THREADS) {
        let tile = sums[n];
        sum += vec2<f32>(tile.y * exp_f32(tile.x - highest), tile.z);
    }
    partial[thread] = sum;
    add_partials(thread);
    if (thread == 0u) {
        result[0] = vec2<u32>(bitcast<u32>(highest), bitcast<u32>(partial[0].x));
        result[1] = vec2<u32>(u32(partial[0].y), 0u);
    }
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let tile = folded(group, groups);
    for (var n = thread; n < TILE; n += THREADS) {
        let i = tile * TILE + n;
        var key = LOWEST;
        var id = NOBODY;
        if (i < params.count) {
            if (FIRST == 1u) {
                key = select(max(logits[i], LOWEST), LOWEST, is_nan(logits[i]));
                id = i;
            } else {
                key = bitcast<f32>(kept[i].x);
                id = kept[i].y;
            }
        }
        keys[n] = key;
        ids[n] = id;
    }
    sort(thread);
    if (FIRST == 1u) {
        sum_tile(tile, thread);
    }
    if (LAST == 1u) {
        // With a single tile its own sums are read back.
        storageBarrier();
        sum_all(thread);
    }
    if (thread < KEEP) {
        let candidate = vec2<u32>(bitcast<u32>(keys[thread]), ids[thread]);
        if (LAST == 1u) {
            result[2u + thread] = candidate;
        } else {
            keeps[tile * KEEP + thread] = candidate;
        }
    }
}
