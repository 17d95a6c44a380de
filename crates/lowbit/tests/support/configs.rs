//! Configs of any family, for tests of what they mean.

use lowbit::model::config::Config;
use serde_json::{Value, json};

/// A config with four blocks.
pub(crate) fn config(model_type: &str, changes: &Value) -> lowbit::Result<Config> {
    let mut json = json!({
        "model_type": model_type, "hidden_size": 96, "intermediate_size": 160,
        "num_hidden_layers": 4, "num_attention_heads": 6, "num_key_value_heads": 3,
        "vocab_size": 131, "max_position_embeddings": 2048, "head_dim": 16,
    });
    for (key, value) in changes.as_object().expect("an object") {
        json[key] = value.clone();
    }
    Config::from_json(&json)
}
