//! Asks the linker for what a Node module needs.

fn main() {
    napi_build::setup();
}
