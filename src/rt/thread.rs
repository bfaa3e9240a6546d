//! The runtime's threads. Not the standard library's, which ends the process when there is no
//! memory for what it keeps of a thread; these need none but what the system gives them.

use super::{RT, worker};
use crate::error::{Error, Result};
use crate::procs::P;
use std::ffi::c_void;
use std::io::Write as _;
use std::mem::MaybeUninit;

/// As std's threads have.
const STACK: usize = 2 << 20;

/// glibc takes the program's static thread-local storage out of a thread's stack, and says, but
/// not in its headers, how much it needs beside PTHREAD_STACK_MIN: that comes on top.
///
/// # Safety
/// `attr` is initialised.
unsafe fn stack_size(attr: *const libc::pthread_attr_t) -> usize {
    type MinStack = unsafe extern "C" fn(*const libc::pthread_attr_t) -> libc::size_t;
    // SAFETY: a name that ends with 0; where there is such a function, it is of this type, as
    // the standard library has it too.
    let least = unsafe {
        let f = libc::dlsym(libc::RTLD_DEFAULT, c"__pthread_get_minstack".as_ptr());
        std::mem::transmute::<*mut c_void, Option<MinStack>>(f).map_or(0, |f| f(attr))
    };
    (STACK + least.saturating_sub(libc::PTHREAD_STACK_MIN)).next_multiple_of(1 << 16)
}

pub(super) struct Thread(libc::pthread_t);

/// Starts a worker, or a spare: one without a P.
pub(super) fn spawn(p: Option<&'static P>) -> Result<Thread> {
    let arg = p.map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: begin gets what it expects; attr and id are ours, and initialised before their use.
    unsafe {
        let mut attr = MaybeUninit::uninit();
        let mut id = MaybeUninit::uninit();
        if libc::pthread_attr_init(attr.as_mut_ptr()) != 0 {
            return Err(Error::NoMem);
        }
        libc::pthread_attr_setstacksize(attr.as_mut_ptr(), stack_size(attr.as_ptr()));
        let arg = arg.cast_mut().cast();
        let made =
            without_signals(|| libc::pthread_create(id.as_mut_ptr(), attr.as_ptr(), begin, arg));
        libc::pthread_attr_destroy(attr.as_mut_ptr());
        match made {
            0 => Ok(Thread(id.assume_init())),
            _ => Err(Error::NoMem),
        }
    }
}

extern "C" fn begin(p: *mut c_void) -> *mut c_void {
    // SAFETY: null, or the P that spawn was given.
    let p = unsafe { p.cast::<P>().as_ref() };
    let mut name = [0u8; 16];
    let _ = match p {
        Some(p) => write!(&mut name[..15], "gotimer-{}", p.index - 1),
        None => write!(&mut name[..15], "gotimer-spare"),
    };
    // SAFETY: a name that ends with 0.
    unsafe { libc::pthread_setname_np(libc::pthread_self(), name.as_ptr().cast()) };
    if let Some(s) = RT.made() {
        let to_its_end = ToItsEnd;
        worker::run(s, p);
        std::mem::forget(to_its_end);
    }
    std::ptr::null_mut()
}

/// A callback that ends its thread, by pthread_exit, would take a worker away without a word,
/// with all that it had in hand.
struct ToItsEnd;

impl Drop for ToItsEnd {
    fn drop(&mut self) {
        if !worker::is_over() {
            eprintln!("fatal error: a callback has ended its thread, which is the runtime's");
            std::process::abort();
        }
    }
}

impl Thread {
    /// Waits for its end. Of a fork child's lost threads nobody asks.
    pub(super) fn join(self) {
        // SAFETY: a thread of ours, which nobody has joined: then we would be gone.
        unsafe { libc::pthread_join(self.0, std::ptr::null_mut()) };
    }

    /// Is it over? Then it has been joined.
    pub(super) fn try_join(&self) -> bool {
        // SAFETY: as above; who sees true drops us.
        unsafe { libc::pthread_tryjoin_np(self.0, std::ptr::null_mut()) == 0 }
    }
}

/// What `f` starts has all signals blocked: the program's handlers are for its own threads.
fn without_signals<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: sets of ours, filled before they are read.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut was: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut was);
        let r = f();
        libc::pthread_sigmask(libc::SIG_SETMASK, &was, std::ptr::null_mut());
        r
    }
}
