//! Any bytes as a shard index: no panic, and no accepted file name is more than a name.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lowbit::container::shards::parse_index;

fuzz_target!(|bytes: &[u8]| {
    let Ok(index) = parse_index(bytes) else {
        return;
    };
    for file in &index.files {
        assert!(!file.is_empty() && !file.contains(['/', '\\', ':', '\0']));
    }
});
