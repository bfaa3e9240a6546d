//! The hooks: what the embedder may replace, and the defaults.

use super::tsan::{self, Outside};
use crate::sync::rank;
use std::ffi::{CStr, c_char, c_void};

/// The hooks as given, none of them called without its default being thought of.
/// The wake hook belongs to procs (its default needs a P), but is kept here.
#[derive(Clone, Copy)]
#[allow(clippy::type_complexity)]
pub(crate) struct Hooks {
    pub ctx: *mut c_void,
    pub nanotime: Option<unsafe extern "C" fn(*mut c_void) -> i64>,
    pub wake_netpoller: Option<unsafe extern "C" fn(*mut c_void, *mut c_void, i64)>,
    pub osyield: Option<unsafe extern "C" fn(*mut c_void)>,
    pub acquirem: Option<unsafe extern "C" fn(*mut c_void)>,
    pub releasem: Option<unsafe extern "C" fn(*mut c_void)>,
    pub current_context: Option<unsafe extern "C" fn(*mut c_void) -> usize>,
    pub throw_: Option<unsafe extern "C" fn(*mut c_void, *const c_char)>,
    pub alloc: Option<unsafe extern "C" fn(*mut c_void, usize, usize) -> *mut c_void>,
    pub free: Option<unsafe extern "C" fn(*mut c_void, *mut c_void, usize, usize)>,
    pub preempt_stop: Option<unsafe extern "C" fn(*mut c_void) -> i32>,
    pub park: Option<unsafe extern "C" fn(*mut c_void, Commit, *mut c_void) -> i32>,
    pub ready: Option<unsafe extern "C" fn(*mut c_void, usize)>,
    /// Of the built-in runtime only: a callback is about to begin, in a pass of this `now`.
    pub before_call: Option<fn(i64)>,
    /// Of the built-in runtime only: must this thread call nothing more?
    pub is_over: Option<fn() -> bool>,
}

/// What `park` calls when the green thread is off its stack. 0: it does not park.
pub(crate) type Commit = unsafe extern "C" fn(arg: *mut c_void) -> i32;

impl Default for Hooks {
    fn default() -> Self {
        Hooks {
            ctx: std::ptr::null_mut(),
            nanotime: None,
            wake_netpoller: None,
            osyield: None,
            acquirem: None,
            releasem: None,
            current_context: None,
            throw_: None,
            alloc: None,
            free: None,
            preempt_stop: None,
            park: None,
            ready: None,
            before_call: None,
            is_over: None,
        }
    }
}

/// The size of a huge page.
pub(crate) const HUGE: usize = 2 << 20;

/// The host of one sched.
pub(crate) struct Host {
    hooks: Hooks,
    /// Bytes taken from alloc and not given back.
    bytes: std::sync::atomic::AtomicU64,
    watched: bool,
}

// SAFETY: the hooks are functions that the embedder promises to be callable from any
// thread with their ctx (header, "Hooks").
unsafe impl Send for Host {}
// SAFETY: as above.
unsafe impl Sync for Host {}

impl Host {
    pub(crate) fn new(hooks: Hooks) -> Self {
        Host {
            hooks,
            bytes: std::sync::atomic::AtomicU64::new(0),
            watched: tsan::on(),
        }
    }

    /// Does the embedder's ThreadSanitizer look on? (see tsan.rs)
    #[inline(always)]
    pub(crate) fn is_watched(&self) -> bool {
        self.watched
    }

    pub(crate) fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    #[inline]
    pub(crate) fn osyield(&self) {
        match self.hooks.osyield {
            // SAFETY: the embedder's hook with its own ctx (gt_host's contract).
            Some(f) => unsafe { f(self.hooks.ctx) },
            None => crate::sync::os_yield(),
        }
    }

    #[inline(always)]
    pub(crate) fn pins(&self) -> bool {
        self.hooks.acquirem.is_some()
    }

    /// Pins the running green thread to its thread until `releasem`.
    #[inline(always)]
    pub(crate) fn acquirem(&self) {
        if let Some(f) = self.hooks.acquirem {
            // SAFETY: as for osyield.
            unsafe { f(self.hooks.ctx) }
        }
    }

    #[inline(always)]
    pub(crate) fn releasem(&self) {
        if let Some(f) = self.hooks.releasem {
            // SAFETY: as for osyield.
            unsafe { f(self.hooks.ctx) }
        }
    }

    /// Who is calling: the host's green thread, or by default the thread. 0: nobody known.
    #[inline(always)]
    pub(crate) fn current_context(&self) -> usize {
        match self.hooks.current_context {
            Some(f) => {
                let _out = Outside::enter(self.watched);
                // SAFETY: as for osyield.
                unsafe { f(self.hooks.ctx) }
            }
            None => thread_context(),
        }
    }

    pub(crate) fn has_own_contexts(&self) -> bool {
        self.hooks.current_context.is_some()
    }

    /// Should a pass end after the callback that just returned?
    #[inline(always)]
    pub(crate) fn preempt_stop(&self) -> bool {
        match self.hooks.preempt_stop {
            None => false,
            Some(f) => {
                let _out = Outside::enter(self.watched);
                // SAFETY: as for osyield; no lock is held by the caller.
                unsafe { f(self.hooks.ctx) != 0 }
            }
        }
    }

    #[inline(always)]
    pub(crate) fn before_call(&self, now: i64) {
        if let Some(f) = self.hooks.before_call {
            f(now);
        }
    }

    #[inline(always)]
    pub(crate) fn is_over(&self) -> bool {
        self.hooks.is_over.is_some_and(|f| f())
    }

    /// Parks the calling green thread: `commit(arg)` runs when it is off its stack. False:
    /// the caller is not one, and nothing was done.
    pub(crate) fn park(&self, commit: Commit, arg: *mut c_void) -> bool {
        match self.hooks.park {
            Some(f) => {
                let _out = Outside::enter(self.watched);
                // SAFETY: the embedder's hook with its own ctx (gt_host's contract).
                unsafe { f(self.hooks.ctx, commit, arg) != 0 }
            }
            None => false,
        }
    }

    /// Makes a green thread runnable. No lock is held.
    pub(crate) fn ready(&self, context: usize) {
        if let Some(f) = self.hooks.ready {
            let _out = Outside::enter(self.watched);
            // SAFETY: as for park.
            unsafe { f(self.hooks.ctx, context) }
        }
    }

    /// Corruption: says what is broken and never comes back.
    #[cold]
    #[inline(never)]
    pub(crate) fn throw(&self, msg: &str) -> ! {
        let mut line = [0u8; 256];
        let n = msg.len().min(line.len() - 1);
        line[..n].copy_from_slice(&msg.as_bytes()[..n]);
        let text = CStr::from_bytes_until_nul(&line).unwrap_or(c"gotimer: throw");
        if let Some(f) = self.hooks.throw_ {
            let _out = Outside::enter(self.watched);
            // SAFETY: as for osyield; the text lives through the call.
            unsafe { f(self.hooks.ctx, text.as_ptr()) }
        }
        eprintln!("fatal error: {}", text.to_string_lossy());
        std::process::abort()
    }

    /// Memory from the host. `None` when there is none.
    pub(crate) fn alloc(&self, size: usize, align: usize) -> Option<std::ptr::NonNull<u8>> {
        let p = match self.hooks.alloc {
            // SAFETY: as for osyield; called under our locks, which the header says.
            Some(f) => unsafe { f(self.hooks.ctx, size, align) },
            // SAFETY: align is a power of two and a multiple of a pointer's size here.
            None => unsafe {
                let mut p = std::ptr::null_mut();
                if libc::posix_memalign(&mut p, align.max(size_of::<usize>()), size) == 0 {
                    p
                } else {
                    std::ptr::null_mut()
                }
            },
        };
        let p = std::ptr::NonNull::new(p.cast())?;
        self.bytes
            .fetch_add(size as u64, std::sync::atomic::Ordering::Relaxed);
        Some(p)
    }

    /// Gives memory back.
    ///
    /// # Safety
    /// `p` came from `alloc` of this host with the same size and align; nobody uses it.
    pub(crate) unsafe fn free(&self, p: std::ptr::NonNull<u8>, size: usize, align: usize) {
        self.bytes
            .fetch_sub(size as u64, std::sync::atomic::Ordering::Relaxed);
        match self.hooks.free {
            // SAFETY: the caller's promise, and the hook's contract.
            Some(f) => unsafe { f(self.hooks.ctx, p.as_ptr().cast(), size, align) },
            // SAFETY: without an alloc hook it came from posix_memalign.
            None => unsafe { libc::free(p.as_ptr().cast()) },
        }
    }

    /// Zeroed memory of HUGE bytes, aligned to that, which the kernel may back with one huge
    /// page. `None`: the host has its own allocator, or there is none.
    pub(crate) fn alloc_huge(&self) -> Option<std::ptr::NonNull<u8>> {
        let p = self.reserve(2 * HUGE)?;
        let skip = p.as_ptr().align_offset(HUGE);
        // SAFETY: the range has room for HUGE aligned bytes; what is before and behind them
        // goes back at once.
        unsafe {
            let at = p.as_ptr().add(skip);
            if skip > 0 {
                libc::munmap(p.as_ptr().cast(), skip);
            }
            if skip < HUGE {
                libc::munmap(at.add(HUGE).cast(), HUGE - skip);
            }
            let at = std::ptr::NonNull::new(at)?;
            libc::madvise(at.as_ptr().cast(), HUGE, libc::MADV_HUGEPAGE);
            if self.commit(at, 0, HUGE) {
                Some(at)
            } else {
                self.unreserve(at, HUGE, 0);
                None
            }
        }
    }

    /// A range of addresses that `commit` makes usable bit by bit, so that what grows large
    /// need not be copied. `None`: the host has its own allocator, or there is no such range.
    pub(crate) fn reserve(&self, size: usize) -> Option<std::ptr::NonNull<u8>> {
        if self.hooks.alloc.is_some() || cfg!(gt_model) {
            return None;
        }
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping, which nothing else uses.
        let p = unsafe { libc::mmap(std::ptr::null_mut(), size, libc::PROT_NONE, flags, -1, 0) };
        if p == libc::MAP_FAILED {
            return None;
        }
        std::ptr::NonNull::new(p.cast())
    }

    /// Makes bytes from..to of a reserved range usable; multiples of the page size.
    ///
    /// # Safety
    /// They lie in a range of `reserve`, and are not committed.
    pub(crate) unsafe fn commit(&self, p: std::ptr::NonNull<u8>, from: usize, to: usize) -> bool {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the caller's promise.
        let good = unsafe { libc::mprotect(p.as_ptr().add(from).cast(), to - from, prot) == 0 };
        if good {
            self.bytes
                .fetch_add((to - from) as u64, std::sync::atomic::Ordering::Relaxed);
        }
        good
    }

    /// The counterpart of commit: the bytes are gone.
    ///
    /// # Safety
    /// They were committed, and nobody uses them.
    pub(crate) unsafe fn decommit(&self, p: std::ptr::NonNull<u8>, from: usize, to: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let at = p.as_ptr().add(from).cast();
            libc::madvise(at, to - from, libc::MADV_DONTNEED);
            libc::mprotect(at, to - from, libc::PROT_NONE);
        }
        self.bytes
            .fetch_sub((to - from) as u64, std::sync::atomic::Ordering::Relaxed);
    }

    /// Gives a reserved range back, of which `committed` bytes from its beginning are.
    ///
    /// # Safety
    /// It came from `reserve` with this size, and nobody uses it.
    pub(crate) unsafe fn unreserve(&self, p: std::ptr::NonNull<u8>, size: usize, committed: usize) {
        // SAFETY: the caller's promise.
        unsafe { libc::munmap(p.as_ptr().cast(), size) };
        self.bytes
            .fetch_sub(committed as u64, std::sync::atomic::Ordering::Relaxed);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// The call of `f` or of a hook that may call back into the library stands behind this.
    #[inline(always)]
    pub(crate) fn assert_unlocked(&self) {
        rank::assert_none();
    }
}

/// The default context: an address that only this thread has.
#[inline(always)]
fn thread_context() -> usize {
    #[cfg(not(gt_model))]
    {
        thread_local! {
            static HERE: std::cell::Cell<u8> = const { std::cell::Cell::new(0) };
        }
        HERE.with(|h| std::ptr::from_ref(h) as usize)
    }
    #[cfg(gt_model)]
    1
}
