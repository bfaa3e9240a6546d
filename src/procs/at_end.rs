//! The end of a thread: a pthread key, whose destructor is called for each thread that has set a
//! value.
//!
//! Not a `thread_local!` with a destructor: for that glibc asks for memory at a thread's first
//! use, and ends the process when there is none. To set the value of one of the first 32 keys of
//! a process needs no memory in glibc; of a later one it may, and says so.
//!
//! **Order.** The destructors of C++'s thread_local variables run before those of all keys: for
//! them the thread is as always. Keys' destructors run in no promised order (in glibc by their
//! numbers, in rounds, up to PTHREAD_DESTRUCTOR_ITERATIONS, while one has set a value again).
//! The first time that ours is called the thread is over for us, and stays so: what another
//! key's destructor asks for after that gets no token, so the shared block, and no P. Ours does
//! not set its value again, to come last: ThreadSanitizer does so, and ends its part of the thread
//! in the last round; what is told to it (`host::release`) must be told before.
//! A thread whose first call comes from a key's destructor is as any: ours runs later in
//! that round or in the next. But after the last round nobody is called any more: a thread whose
//! first call of all comes there keeps its P and its blocks until the P and the sched are freed.
//!
//! **Unloading.** The destructor must not be called when its code is gone. libgotimer.so is never
//! unloaded (`-z nodelete`, build.rs). Where libgotimer.a is a part of somebody's plugin, the
//! plugin's end deletes the key, after which threads that end are none of our business: all
//! scheds must have been freed. What that cannot do is wait for a thread that is in the destructor
//! at that moment: a plugin joins its threads before it goes (header: Linking).
//! When the process exits, it is run too, after the functions of atexit; threads that still run
//! then go on as before, only that their ends change nothing.
//!
//! **fork.** The thread of the child keeps its value, as it keeps its token.

use super::tls;
use crate::error::{Error, Result};
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// The key plus 1; 0: none yet, or none any more. Relaxed throughout: it is made under the lock of the
/// list of scheds, and asked for by those who have a sched of that list.
static KEY: AtomicU64 = AtomicU64::new(0);

/// The list of scheds is held, and gets one. `NoMem`: the process has no key left
/// (PTHREAD_KEYS_MAX); the next call tries again.
pub(super) fn register() -> Result<()> {
    if KEY.load(Ordering::Relaxed) != 0 {
        return Ok(());
    }
    let mut key = 0;
    // SAFETY: at_end is a function of the type asked for; see above for how long it is there.
    if unsafe { libc::pthread_key_create(&raw mut key, Some(at_end)) } != 0 {
        return Err(Error::NoMem);
    }
    KEY.store(u64::from(key) + 1, Ordering::Relaxed);
    Ok(())
}

/// The calling thread's end shall be noted. `NoMem`: it would not be.
pub(super) fn note() -> Result<()> {
    let Some(key) = number(KEY.load(Ordering::Relaxed)) else {
        return Ok(()); // the process exits, or the plugin goes
    };
    // Any value but null: what it points to is not looked at.
    let any = NonNull::<u8>::dangling().as_ptr();
    // SAFETY: of a key that is gone it only says so; then the process exits, too.
    match unsafe { libc::pthread_setspecific(key, any.cast()) } {
        libc::ENOMEM => Err(Error::NoMem),
        _ => Ok(()),
    }
}

fn number(word: u64) -> Option<libc::pthread_key_t> {
    word.checked_sub(1)?.try_into().ok()
}

unsafe extern "C" fn at_end(_: *mut c_void) {
    tls::end_thread();
}

/// The end of the object that this code is a part of.
extern "C" fn unload() {
    if let Some(key) = number(KEY.swap(0, Ordering::Relaxed)) {
        // SAFETY: the number is nowhere else.
        unsafe { libc::pthread_key_delete(key) };
    }
}

// These are run from the last to the first, and the numbered ones stand before the others: ours
// comes after the object's C++ destructors, which may call us. In assembly, to be hidden: else the
// plugin of a program that has libgotimer.a in it too would call the program's.
macro_rules! at_unload {
    ($word:literal) => {
        std::arch::global_asm!(
            ".pushsection .fini_array.00099,\"aw\",%fini_array",
            ".hidden {unload}",
            ".balign {size}",
            concat!($word, " {unload}"),
            ".popsection",
            unload = sym unload,
            size = const size_of::<usize>(),
        );
    };
}

#[cfg(target_pointer_width = "64")]
at_unload!(".8byte");
#[cfg(target_pointer_width = "32")]
at_unload!(".4byte");
