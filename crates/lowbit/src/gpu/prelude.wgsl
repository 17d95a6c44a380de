// Put in front of every shader; the only text they share.

// What one pass is about. Written once per pass, bound by every kernel as `now`.
struct Pass {
    // Rows of the activations that take part.
    tokens: u32,
    // Position of the first of them in the sequence.
    position: u32,
    // First row that the final norm reads.
    first: u32,
    unused: u32,
}

// Types in which floats are stored: half types lie two to a word, the first in the low half.
const KIND_F32: u32 = 0u;
const KIND_F16: u32 = 1u;
const KIND_BF16: u32 = 2u;

// A workgroup's number when counts above 65,535 are folded into the second dimension.
fn folded(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.x + group.y * groups.x;
}

// IEEE half to single, exact also for subnormals, which `unpack2x16float` may flush.
//   [ sign 15 | exponent 14..10 | mantissa 9..0 ]
fn f32_from_f16(bits: u32) -> f32 {
    let exponent = (bits >> 10u) & 31u;
    let mantissa = bits & 1023u;
    let normal = bitcast<f32>(((exponent + 112u) << 23u) | (mantissa << 13u));
    let small = f32(mantissa) * 5.9604644775390625e-8;
    let size = select(normal, small, exponent == 0u);
    return select(size, -size, (bits & 0x8000u) != 0u);
}

// The two halves of a word, widened exactly.
fn pair(word: u32, kind: u32) -> vec2<f32> {
    if (kind == KIND_BF16) {
        return bitcast<vec2<f32>>(vec2<u32>(word << 16u, word & 0xffff0000u));
    }
    return vec2<f32>(f32_from_f16(word & 0xffffu), f32_from_f16(word >> 16u));
}

// exp(x) as `maths::exp` computes it: range reduction by ln 2 in two parts, then a polynomial of
// degree 6 (Cody and Waite). The built-in may be wrong by (3 + 2·|x|) units in the last place.
fn exp_f32(x: f32) -> f32 {
    let clamped = clamp(x, -87.3, 88.3);
    let n = round(clamped * 1.4426950408889634);
    let r = (clamped - n * 0.693359375) + n * 2.12194440e-4;
    var p = 1.9875691e-4;
    p = p * r + 1.3982000e-3;
    p = p * r + 8.3334520e-3;
    p = p * r + 4.1665796e-2;
    p = p * r + 1.6666665e-1;
    p = p * r + 0.5;
    let y = (p * r) * r + r + 1.0;
    let power = bitcast<f32>(u32(i32(n) + 127) << 23u);
    return select(y * power, 0.0, x < -87.3);
}
