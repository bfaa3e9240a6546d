//! Options, results and the virtual clock are those of the programs in C; the versions come from the lock file.
fn main() {
    println!("cargo:rerun-if-changed=../core");
    println!("cargo:rerun-if-changed=Cargo.lock");
    cc::Build::new()
        .files(["../core/common.c", "../core/vclock.c"])
        .opt_level(2)
        .compile("benchcore");
    let lock = std::fs::read_to_string("Cargo.lock").unwrap_or_default();
    for (name, variable) in [
        ("tokio", "TOKIO"),
        ("hierarchical_hash_wheel_timer", "WHEEL"),
    ] {
        let after = lock
            .split(&format!("name = \"{name}\"\nversion = \""))
            .nth(1);
        let version = after.and_then(|a| a.split('"').next()).unwrap_or("");
        println!("cargo:rustc-env={variable}_VERSION={version}");
    }
}
