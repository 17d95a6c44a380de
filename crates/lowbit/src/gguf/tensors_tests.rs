//! Names of tensors, and numbers inside of them that strangers chose.

use super::families::FAMILIES;
use super::family::Family;
use super::tensors::target;
use crate::error::Code;

#[test]
fn names_with_numbers_out_of_range_are_refused() {
    let llama = Family::find("llama").unwrap();
    let code = |name: &str| target(llama, name, 2, 4).unwrap_err().code;
    assert_eq!(code("model.layers.2.self_attn.q_proj.weight"), Code::Name);
    assert_eq!(
        code("model.layers.99999999999999999999.mlp.up_proj.weight"),
        Code::Name
    );
    assert_eq!(code("model.layers.-1.mlp.up_proj.weight"), Code::Name);
    assert_eq!(
        code("model.layers.0.mlp.experts.4.up_proj.weight"),
        Code::Name
    );
    assert_eq!(
        code("model.layers.0.self_attn.q_proj.weight.absmax"),
        Code::Unsupported
    );
    assert_eq!(code("visual.blocks.0.attn.qkv.weight"), Code::Unsupported);
    let skipped = target(llama, "model.layers.0.self_attn.rotary_emb.inv_freq", 2, 4);
    assert_eq!(skipped.unwrap(), None);
    let bias = target(llama, "model.layers.1.self_attn.q_proj.bias", 2, 4).unwrap();
    assert_eq!(bias.unwrap().name, "blk.1.attn_q.bias");
    assert_eq!(
        Family::find("lama").unwrap_err().code,
        Code::UnknownArchitecture
    );
    let mut types: Vec<_> = FAMILIES.iter().flat_map(|f| f.model_types).collect();
    types.sort_unstable();
    types.dedup();
    assert_eq!(
        types.len(),
        FAMILIES.iter().map(|f| f.model_types.len()).sum::<usize>()
    );
}
