//! The sched that a thread used last, and what it has there: reached with no call.
//!
//! A `thread_local!` of a shared library is found by calling `__tls_get_addr`, and even where
//! the linker takes the call out again the code around it saves its registers as if for one.
//! That is half of what it costs to re-arm a timer. So these words are declared as the C
//! compilers do for `-ftls-model=initial-exec`: the loader gives them a fixed place beside the
//! thread pointer. glibc keeps room for that in libraries which dlopen loads.

use super::p::P;
use crate::engine::Block;
use std::cell::Cell;

/// All zero at first.
#[repr(C)]
pub(crate) struct Last {
    /// The sched's uid, and this thread's block.
    pub(crate) uid: Cell<u64>,
    pub(crate) block: Cell<*const Block>,
    /// The P that the thread is bound to, if it is that sched's; else null.
    pub(crate) p: Cell<*const P>,
    /// The thread's token, once it has one.
    pub(crate) token: Cell<u64>,
}

#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))]
std::arch::global_asm!(
    ".pushsection .tbss.gotimer_last,\"awT\",@nobits",
    ".balign 32",
    ".globl gotimer_last",
    ".hidden gotimer_last",
    ".type gotimer_last, @object",
    ".size gotimer_last, 32",
    "gotimer_last:",
    ".zero 32",
    ".popsection",
);

/// This thread's. Do not keep the pointer over a callback: a green thread may move.
#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))]
#[inline(always)]
pub(crate) fn last() -> *const Last {
    let at: *const Last;
    // SAFETY: reads the thread pointer, which stands at its own address, and adds the
    // variable's distance from it.
    unsafe {
        std::arch::asm!(
            "mov {at}, qword ptr fs:[0]",
            "add {at}, {distance}",
            at = out(reg) at,
            distance = in(reg) distance(),
            options(nostack, readonly),
        );
    }
    at
}

/// The block of this thread, if the sched that it used last has this uid. The same as by way of
/// `last`, in the fewest instructions.
#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))]
#[inline(always)]
pub(crate) fn block_if_last(uid: u64) -> Option<*const Block> {
    let (was, block): (u64, *const Block);
    // SAFETY: reads two words of this thread's Last; see there for their places.
    unsafe {
        std::arch::asm!(
            "mov {was}, qword ptr fs:[{distance}]",
            was = out(reg) was,
            distance = in(reg) distance(),
            options(nostack, readonly, preserves_flags),
        );
        if was != uid {
            return None;
        }
        std::arch::asm!(
            "mov {block}, qword ptr fs:[{distance} + 8]",
            block = out(reg) block,
            distance = in(reg) distance(),
            options(nostack, readonly, preserves_flags),
        );
    }
    Some(block)
}

/// How far from the thread pointer the variable is. The same for all threads: the loader has put
/// it down, or the linker already.
#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))]
#[inline(always)]
fn distance() -> usize {
    let distance: usize;
    // SAFETY: reads a word that does not change.
    unsafe {
        std::arch::asm!(
            "mov {distance}, qword ptr [rip + gotimer_last@gottpoff]",
            distance = out(reg) distance,
            options(nostack, nomem, pure, preserves_flags),
        );
    }
    distance
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu")))]
#[inline(always)]
pub(crate) fn block_if_last(uid: u64) -> Option<*const Block> {
    // SAFETY: this thread's own, as long as the thread is.
    let l = unsafe { &*last() };
    (l.uid.get() == uid).then(|| l.block.get())
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu")))]
#[inline(always)]
pub(crate) fn last() -> *const Last {
    thread_local! {
        static LAST: Last = const {
            Last {
                uid: Cell::new(0),
                block: Cell::new(std::ptr::null()),
                p: Cell::new(std::ptr::null()),
                token: Cell::new(0),
            }
        };
    }
    LAST.with(|l| std::ptr::from_ref(l))
}
