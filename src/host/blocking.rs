//! A thread that is about to block: Go's `entersyscall`, `exitsyscall`. The built-in runtime wants to
//! know that of its workers, whatever sched it is for whose timer they wait.

use std::sync::OnceLock;

/// The runtime's, from its first use on. Set under its lock, which is held over fork.
static SYSCALL: OnceLock<fn(bool)> = OnceLock::new();

/// `f` is told by each thread that it is about to block (true), or has been blocked (false).
pub(crate) fn tell_of_blocking(f: fn(bool)) {
    let _ = SYSCALL.set(f);
}

/// The thread blocks until what is returned is dropped.
pub(crate) fn blocking() -> impl Drop {
    struct Exit(Option<fn(bool)>);
    impl Drop for Exit {
        fn drop(&mut self) {
            if let Some(f) = self.0 {
                f(false);
            }
        }
    }
    let told = SYSCALL.get().copied();
    if let Some(f) = told {
        f(true);
    }
    Exit(told)
}
