//! Codes ⇄ words: a dense little-endian bit stream, element 0 in the lowest bits.
//!
//! ```text
//! 3 bits:  word 0  [ c10₁c10₀ | c9 | … | c1 | c0 ]     code 10 straddles words 0 and 1
//! ```
//! Source: compressed-tensors ≥ 0.18, `pack-quantized`; equal to the plain nibble or byte order
//! for 4 and 8 bits.

/// Words that `codes` codes of `bits` take.
pub const fn words_len(codes: usize, bits: u8) -> usize {
    (codes * bits as usize).div_ceil(32)
}

/// Packs codes, each below `2^bits`, into `words_len(codes.len(), bits)` words.
pub fn words_from_codes(codes: &[u8], bits: u8) -> Vec<u32> {
    let mut words = vec![0; words_len(codes.len(), bits)];
    pack(codes, bits, &mut words);
    words
}

/// Packs codes, each below `2^bits`, into exactly the words that they take.
pub fn pack(codes: &[u8], bits: u8, words: &mut [u32]) {
    assert_eq!(
        words.len(),
        words_len(codes.len(), bits),
        "wrong number of words"
    );
    // 32 codes take exactly `bits` words.
    let (whole, rest) = codes.as_chunks::<32>();
    let (whole_words, rest_words) = words.split_at_mut(whole.len() * usize::from(bits));
    let blocks = whole
        .iter()
        .zip(whole_words.chunks_exact_mut(usize::from(bits)));
    match bits {
        4 => blocks.for_each(|(codes, words)| pack_even::<4>(codes, words)),
        8 => blocks.for_each(|(codes, words)| pack_even::<8>(codes, words)),
        _ => blocks.for_each(|(codes, words)| pack_stream(codes, bits, words)),
    }
    pack_stream(rest, bits, rest_words);
}

/// Widths that divide a word: the codes of a word by themselves.
#[inline(always)]
fn pack_even<const BITS: usize>(codes: &[u8; 32], words: &mut [u32]) {
    for (word, codes) in words.iter_mut().zip(codes.chunks_exact(32 / BITS)) {
        let each = codes.iter().enumerate();
        *word = each.fold(0, |word, (i, code)| word | u32::from(*code) << (i * BITS));
    }
}

fn pack_stream(codes: &[u8], bits: u8, words: &mut [u32]) {
    let (mut buffer, mut held, mut next) = (0u64, 0u32, 0);
    for &code in codes {
        debug_assert!(
            u32::from(code) >> bits == 0,
            "code {code} does not fit {bits} bits"
        );
        buffer |= u64::from(code) << held;
        held += u32::from(bits);
        if held >= 32 {
            words[next] = buffer as u32;
            next += 1;
            buffer >>= 32;
            held -= 32;
        }
    }
    if held > 0 {
        words[next] = buffer as u32;
    }
}

/// Unpacks `codes.len()` codes from the words that `words_from_codes` makes.
pub fn codes_from_words(words: &[u32], bits: u8, codes: &mut [u8]) {
    assert!(words.len() >= words_len(codes.len(), bits), "too few words");
    let mask = (1u32 << bits) - 1;
    let (mut buffer, mut held, mut next) = (0u64, 0u32, 0);
    for code in codes {
        if held < u32::from(bits) {
            buffer |= u64::from(words[next]) << held;
            next += 1;
            held += 32;
        }
        *code = (buffer as u32 & mask) as u8;
        buffer >>= bits;
        held -= u32::from(bits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_equal_the_compressed_tensors_vectors() {
        let int4: Vec<u8> = (0..32).map(|j| (5 * j % 16) as u8).collect();
        assert_eq!(
            words_from_codes(&int4, 4),
            [0x3e94_fa50, 0xb61c_72d8, 0x3e94_fa50, 0xb61c_72d8]
        );
        let int3: Vec<u8> = (0..32).map(|j| (3 * j % 8) as u8).collect();
        assert_eq!(
            words_from_codes(&int3, 3),
            [0x98ab_c398, 0xc398_abc3, 0xabc3_98ab]
        );
    }

    proptest! {
        #[test]
        fn unpacking_inverts_packing(raw in prop::collection::vec(0u8..=255, 0..300), i in 0usize..4) {
            let bits = [2, 3, 4, 8][i];
            let codes: Vec<u8> = raw.iter().map(|c| (u32::from(*c) & ((1 << bits) - 1)) as u8).collect();
            let mut back = vec![0; codes.len()];
            codes_from_words(&words_from_codes(&codes, bits), bits, &mut back);
            prop_assert_eq!(back, codes);
        }
    }
}
