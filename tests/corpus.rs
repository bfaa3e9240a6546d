//! Replays what the fuzzer has kept (engine/corpus.hex): sequences of calls that together
//! reach all code that it ever reached. Needs no fuzzer and no nightly toolchain.
//!
//! GOTIMER_REPLAY=file plays one file of the fuzzer instead, and says what it does: `make
//! fuzz-show`.

#[path = "engine/decode.rs"]
mod decode;
#[path = "engine/world.rs"]
mod world;

use decode::decode;
use world::World;

const CORPUS: &str = include_str!("engine/corpus.hex");

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
    for (i, line) in CORPUS.lines().enumerate() {
        let (setup, ops) = decode(&bytes(line));
        if let Err(why) = World::run(setup, &ops, &format!("line {} of the corpus", i + 1)) {
            panic!(
                "line {} of tests/engine/corpus.hex: {setup:?}, {ops:#?}\n{why}",
                i + 1
            );
        }
        n += 1;
    }
    println!("{n} sequences");
}
