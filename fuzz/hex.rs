//! The committed corpus is text: a line of hexadecimal digits for each file of the fuzzer's
//! own. Compiled with rustc alone.
//!
//!     hex unpack FILE DIR     each line becomes a file, DIR/line-N
//!     hex pack DIR FILE       and back, the shortest first

use std::fmt::Write;
use std::fs;
use std::io::{Error, Result};

fn unpack(file: &str, dir: &str) -> Result<()> {
    fs::create_dir_all(dir)?;
    for (i, line) in fs::read_to_string(file)?.lines().enumerate() {
        let bytes: Option<Vec<u8>> = (0..line.len() / 2)
            .map(|i| u8::from_str_radix(line.get(2 * i..2 * i + 2)?, 16).ok())
            .collect();
        let bytes = bytes.ok_or_else(|| Error::other(format!("{file}: line {}", i + 1)))?;
        fs::write(format!("{dir}/line-{}", i + 1), bytes)?;
    }
    Ok(())
}

fn pack(dir: &str, file: &str) -> Result<()> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir)? {
        all.push(fs::read(entry?.path())?);
    }
    all.sort_by(|a, b| a.len().cmp(&b.len()).then(a.cmp(b)));
    all.dedup();
    let mut text = String::new();
    for bytes in all.iter().filter(|bytes| !bytes.is_empty()) {
        for b in bytes {
            let _ = write!(text, "{b:02x}");
        }
        text.push('\n');
    }
    fs::write(file, text)
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["unpack", file, dir] => unpack(file, dir),
        ["pack", dir, file] => pack(dir, file),
        _ => Err(Error::other("hex unpack FILE DIR | hex pack DIR FILE")),
    }
}
