//! Replays what the fuzzer has kept (engine/corpus.hex): sequences of calls that together
//! reach all code that it ever reached, and those that once went wrong (engine/found.hex; `make
//! fuzz-keep F=file` adds one). Needs no fuzzer and no nightly toolchain.
//!
//! GOTIMER_REPLAY=file plays one file of the fuzzer instead, and says what it does: `make
//! fuzz-show`.

#[path = "engine/decode.rs"]
mod decode;
#[path = "engine/world.rs"]
mod world;

use decode::decode;
use world::World;

const FILES: [(&str, &str); 2] = [
    ("corpus.hex", include_str!("engine/corpus.hex")),
    ("found.hex", include_str!("engine/found.hex")),
];

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |c: u8| match (c as char).to_digit(16) {
        Some(d) => d as u8,
        None => panic!("not a hexadecimal digit: {c}"),
    };
    hex.as_bytes()
        .chunks(2)
        .map(|c| digit(c[0]) << 4 | digit(c[1]))
        .collect()
}

#[test]
fn corpus_does_as_the_model() {
    if let Some(file) = std::env::var_os("GOTIMER_REPLAY") {
        let data = match std::fs::read(&file) {
            Ok(data) => data,
            Err(e) => panic!("{}: {e}", file.display()),
        };
        let (setup, ops) = decode(&data);
        println!("{setup:?}");
        for (i, op) in ops.iter().enumerate() {
            println!("{i}: {op:?}");
        }
        if let Err(why) = World::run(setup, &ops, "this file") {
            panic!("{why}");
        }
        return;
    }
    let mut n = 0;
    for (file, text) in FILES {
        for (i, line) in text.lines().enumerate() {
            let (setup, ops) = decode(&bytes(line));
            let place = format!("line {} of tests/engine/{file}", i + 1);
            if let Err(why) = World::run(setup, &ops, &place) {
                panic!("{place}: {setup:?}, {ops:#?}\n{why}");
            }
            n += 1;
        }
    }
    assert!(n > 100, "{n} sequences");
    println!("{n} sequences");
}
