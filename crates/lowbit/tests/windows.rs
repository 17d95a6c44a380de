//! Which blocks look back over a window only, by family and config.

mod support;

use serde_json::{Value, json};
use support::configs::config;

fn windows(model_type: &str, changes: &Value) -> Vec<usize> {
    let config = config(model_type, changes).expect("a config");
    let blocks = config.blocks.iter();
    blocks.map(|b| b.window.unwrap_or_default()).collect()
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn windows_are_those_of_transformers() {
    let types = [
        "full_attention",
        "sliding_attention",
        "full_attention",
        "sliding_attention",
    ];
    let cases = [
        ("llama", json!({ "sliding_window": 9 }), [0, 0, 0, 0]),
        ("mistral", json!({ "sliding_window": 9 }), [9, 9, 9, 9]),
        ("mistral", json!({ "sliding_window": null }), [0, 0, 0, 0]),
        ("mistral", json!({ "sliding_window": 2048 }), [0, 0, 0, 0]),
        ("mistral", json!({}), [0, 0, 0, 0]),
        (
            "mistral",
            json!({ "max_position_embeddings": 9999 }),
            [4096, 4096, 4096, 4096],
        ),
        (
            "mixtral",
            json!({ "max_position_embeddings": 9999 }),
            [0, 0, 0, 0],
        ),
        ("phi3", json!({ "sliding_window": 9 }), [9, 9, 9, 9]),
        (
            "qwen2",
            json!({ "sliding_window": 9, "max_window_layers": 1 }),
            [0, 0, 0, 0],
        ),
        (
            "qwen2",
            json!({ "sliding_window": 9, "max_window_layers": 1, "use_sliding_window": true }),
            [0, 9, 9, 9],
        ),
        (
            "qwen3",
            json!({ "sliding_window": 9, "layer_types": types, "use_sliding_window": true }),
            [0, 9, 0, 9],
        ),
        (
            "qwen3",
            json!({ "sliding_window": 9, "layer_types": types }),
            [0, 0, 0, 0],
        ),
        (
            "qwen3_moe",
            json!({ "sliding_window": 9, "use_sliding_window": true }),
            [9, 9, 9, 9],
        ),
        ("gemma2", json!({ "sliding_window": 9 }), [9, 0, 9, 0]),
        (
            "gemma2",
            json!({ "sliding_window": 9, "layer_types": types }),
            [0, 9, 0, 9],
        ),
        ("gemma3_text", json!({ "sliding_window": 9 }), [9, 9, 9, 9]),
        (
            "gemma3_text",
            json!({ "sliding_window": 9, "sliding_window_pattern": 3 }),
            [9, 9, 0, 9],
        ),
    ];
    for (model_type, changes, wanted) in cases {
        assert_eq!(
            windows(model_type, &changes),
            wanted,
            "{model_type} {changes}"
        );
    }
}
