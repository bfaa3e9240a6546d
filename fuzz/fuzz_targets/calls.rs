//! Bytes become a sequence of calls, which is played on the library and on the model of the
//! property tests (../tests/engine/). The fuzzer looks for bytes that reach new code, or make
//! the two differ.

#![no_main]

#[path = "../../tests/engine/decode.rs"]
mod decode;
#[path = "../../tests/engine/world.rs"]
mod world;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (setup, ops) = decode::decode(data);
    if let Err(why) = world::World::run(setup, &ops, "make fuzz-show F=(this file)") {
        panic!("{setup:?}, {ops:#?}\n{why}");
    }
});
