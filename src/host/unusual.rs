//! What each call of the library looks at first and last, all in one word that is nearly
//! always 0.

use super::tsan;
use crate::error::{Error, Result};
use std::sync::atomic::{AtomicU32, Ordering};

/// In a fork child that has not called gt_after_fork.
pub(crate) const FORKED: u32 = 1;
/// The embedder's ThreadSanitizer is in the process (see tsan.rs).
#[cfg_attr(any(gt_model, gt_tsan), allow(dead_code))]
pub(crate) const WATCHED: u32 = 2;

static WORD: AtomicU32 = AtomicU32::new(0);

/// Is nothing unusual?
#[inline(always)]
fn usual() -> bool {
    // Relaxed, here and below: FORKED changes in a process of one thread, WATCHED before
    // there is a sched.
    WORD.load(Ordering::Relaxed) == 0
}

#[inline(always)]
pub(crate) fn is(bit: u32) -> bool {
    WORD.load(Ordering::Relaxed) & bit != 0
}

pub(crate) fn set(bit: u32) {
    WORD.fetch_or(bit, Ordering::Relaxed);
}

pub(crate) fn clear(bit: u32) {
    WORD.fetch_and(!bit, Ordering::Relaxed);
}

/// A call of the embedder's, from its begin to its end, which may be an exception that a
/// callback throws. What is unusual is looked up again at the end, rather than kept: so the
/// usual call needs no register for it.
pub(crate) struct Boundary(());

impl Boundary {
    #[inline(always)]
    pub(crate) fn is_usual() -> bool {
        usual()
    }

    #[inline(always)]
    pub(crate) fn begin() -> Result<Self> {
        if !usual() {
            begin_unusual()?;
        }
        Ok(Boundary(()))
    }

    /// The result goes through here, and so need not be kept over a call either.
    #[inline(always)]
    pub(crate) fn end<R>(self, result: R) -> R {
        std::mem::forget(self);
        if usual() { result } else { end_unusual(result) }
    }
}

impl Drop for Boundary {
    fn drop(&mut self) {
        leave();
    }
}

#[cold]
#[inline(never)]
fn begin_unusual() -> Result<()> {
    if is(FORKED) {
        return Err(Error::Fork);
    }
    tsan::begin_call();
    Ok(())
}

#[cold]
#[inline(never)]
fn end_unusual<R>(result: R) -> R {
    leave();
    result
}

// Never inlined, for then nobody outside of this crate could come to need WORD, and it is
// found without a look into the table of global symbols.
#[inline(never)]
fn leave() {
    tsan::end_call();
}
