//! With the feature `header`: generates the C header from src/ffi into OUT_DIR, and to the path
//! that GOTIMER_HEADER_OUT names, if any (`make header`). Sets the SONAME, and that the library is never unloaded.

fn main() {
    println!("cargo:rerun-if-changed=src");
    println!("cargo:rerun-if-changed=cbindgen.toml");
    println!("cargo:rerun-if-changed=docs/header-front.txt");
    println!("cargo:rerun-if-env-changed=GOTIMER_HEADER_OUT");

    // The library itself is instrumented: it needs nobody to tell its runtime what it does.
    if std::env::var("CARGO_CFG_SANITIZE").is_ok_and(|s| s.split(',').any(|s| s == "thread")) {
        println!("cargo:rustc-cfg=gt_tsan");
    }
    let checkers = ["CARGO_CFG_GT_LOOM", "CARGO_CFG_GT_SHUTTLE"];
    if checkers.iter().any(|c| std::env::var_os(c).is_some()) {
        // For a model checker (src/sync/mod.rs). The models need no header.
        println!("cargo:rustc-cfg=gt_model");
        return;
    }
    println!(
        "cargo:rustc-cdylib-link-arg=-Wl,-soname,libgotimer.so.{}",
        var("CARGO_PKG_VERSION_MAJOR")
    );
    // A thread's end calls into the library (src/procs/at_end.rs).
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    #[cfg(feature = "header")]
    header::generate();
}

fn var(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

#[cfg(feature = "header")]
mod header {
    use super::var;
    use std::path::PathBuf;

    const FRONT: &str = include_str!("docs/header-front.txt");

    pub fn generate() {
        let root = PathBuf::from(var("CARGO_MANIFEST_DIR"));
        let version = var("CARGO_PKG_VERSION");

        let mut config = match cbindgen::Config::from_file(root.join("cbindgen.toml")) {
            Ok(config) => config,
            Err(e) => panic!("cbindgen.toml: {e}"),
        };
        config.header = Some(FRONT.trim_end().to_string());
        config.after_includes = Some(format!(
            "\n/* The version of this header; gt_version() is that of the library. A release that changes\n   \
         what a program was compiled against raises the first number (before 1.0: the second). */\n\
         #define GT_VERSION_MAJOR {}\n#define GT_VERSION_MINOR {}\n#define GT_VERSION_PATCH {}\n#define GT_VERSION \"{version}\"\n",
            var("CARGO_PKG_VERSION_MAJOR"),
            var("CARGO_PKG_VERSION_MINOR"),
            var("CARGO_PKG_VERSION_PATCH"),
        ));
        let header = match cbindgen::Builder::new()
            .with_crate(&root)
            .with_config(config)
            .generate()
        {
            Ok(header) => header,
            Err(e) => panic!("cbindgen: {e}"),
        };
        let mut text = Vec::new();
        header.write(&mut text);
        let text = tidy(&String::from_utf8_lossy(&text));
        let write = |path: PathBuf| {
            if let Err(e) = std::fs::write(&path, &text) {
                panic!("{}: {e}", path.display());
            }
        };
        write(PathBuf::from(var("OUT_DIR")).join("gotimer.h"));
        let out = var("GOTIMER_HEADER_OUT");
        if !out.is_empty() {
            write(PathBuf::from(out));
        }
    }

    /// Rust's "# Safety" sections are for Rust; C readers have them in the sections above.
    fn tidy(text: &str) -> String {
        let mut out = String::new();
        let mut skipping = false;
        for line in text.lines() {
            let bare = line.trim_start_matches([' ', '*']).trim();
            if bare == "# Safety" {
                skipping = true;
                while out.ends_with(" *\n") {
                    out.truncate(out.len() - 3);
                }
                continue;
            }
            if line.trim_start().starts_with("*/") {
                skipping = false;
            }
            if !skipping {
                out.push_str(&parenthesised(line.trim_end()));
                out.push('\n');
            }
        }
        out
    }

    /// A negative constant must stay one in `x GT_EINVAL` too.
    fn parenthesised(line: &str) -> String {
        match line
            .strip_prefix("#define ")
            .and_then(|rest| rest.split_once(" -"))
        {
            Some((name, value)) => format!("#define {name} (-{value})"),
            None => line.to_string(),
        }
    }
}
