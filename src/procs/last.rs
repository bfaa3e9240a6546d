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
    // variable's distance from it, which the loader has put down.
    unsafe {
        std::arch::asm!(
            "mov {at}, qword ptr fs:[0]",
            "add {at}, qword ptr [rip + gotimer_last@gottpoff]",
            at = out(reg) at,
            options(nostack, readonly),
        );
    }
    at
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
