//! Any bytes as a GGUF file: no panic, and what is accepted lies inside the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lowbit::gguf::imatrix::Imatrix;
use lowbit::gguf::{Limits, Parsed, decode, parse};

fuzz_target!(|bytes: &[u8]| {
    let _ = Imatrix::parse(bytes);
    let Ok(Parsed::Header(header)) = parse(bytes, bytes.len() as u64, &Limits::default()) else {
        return;
    };
    for tensor in &header.tensors {
        let start = (header.data_start + tensor.offset) as usize;
        let blocks = &bytes[start..start + tensor.bytes as usize];
        let mut values = vec![0.0; tensor.shape.iter().product()];
        let _ = decode(tensor.ty, blocks, &mut values);
    }
});
