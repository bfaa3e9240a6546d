//! An argument with a drop function. The timer holds one reference while it can still
//! be called with it, each committed run holds one; the last one out drops it.
//! What Go leaves to the garbage collector.

use crate::host::{Host, tsan};
use crate::sync::{AtomicU32, Ordering};
use std::ffi::c_void;
use std::ptr::NonNull;

/// `drop(arg)` as given at gt_timer_new.
pub type DropFn = unsafe extern "C" fn(arg: *mut c_void);

pub(crate) struct ArgBox {
    refs: AtomicU32,
    pub(crate) arg: *mut c_void,
    pub(crate) drop: DropFn,
}

/// One reference to an ArgBox. Must be given to `release`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ArgRef(NonNull<ArgBox>);

impl ArgRef {
    pub(crate) fn new(host: &Host, arg: *mut c_void, drop: DropFn) -> Option<ArgRef> {
        let p = host
            .alloc(size_of::<ArgBox>(), align_of::<ArgBox>())?
            .cast::<ArgBox>();
        // SAFETY: fresh memory of the right size and alignment.
        unsafe {
            p.write(ArgBox {
                refs: AtomicU32::new(1),
                arg,
                drop,
            })
        };
        if host.is_watched() {
            tsan::tell_release(p.as_ptr().cast());
        }
        Some(ArgRef(p))
    }

    /// # Safety
    /// `raw` is the `arg` field of a locked timer that has HAS_DROP.
    pub(crate) unsafe fn from_field(raw: *mut c_void) -> ArgRef {
        // SAFETY: such a field always holds a box.
        ArgRef(unsafe { NonNull::new_unchecked(raw.cast()) })
    }

    pub(crate) fn as_field(self) -> *mut c_void {
        self.0.as_ptr().cast()
    }

    pub(crate) fn get(&self) -> &ArgBox {
        // SAFETY: whoever holds an ArgRef holds a reference; the box lives.
        unsafe { self.0.as_ref() }
    }

    /// One more reference, for a committed run; under the timer's lock.
    pub(crate) fn retain(self) -> ArgRef {
        // Relaxed: the caller holds a reference already, nothing is published by this.
        self.get().refs.fetch_add(1, Ordering::Relaxed);
        self
    }

    /// Gives one reference back; the last one calls drop. No lock may be held.
    pub(crate) fn release(self, host: &Host) {
        if host.is_watched() {
            tsan::tell_release(self.0.as_ptr().cast());
        }
        // AcqRel: the one who drops sees all that the others did with arg.
        if self.get().refs.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        if host.is_watched() {
            tsan::tell_acquire(self.0.as_ptr().cast());
        }
        let (arg, drop) = (self.get().arg, self.get().drop);
        self.discard(host);
        host.assert_unlocked();
        // SAFETY: the embedder's function for this arg; the count makes it the only call.
        unsafe {
            if host.is_watched() {
                let _out = tsan::Outside::enter(true);
                drop(arg);
            } else {
                drop(arg);
            }
        }
    }

    /// Frees the box without calling drop: it was never put to use.
    pub(crate) fn discard(self, host: &Host) {
        // SAFETY: the last reference, or one that nobody else has seen; came from host.alloc.
        unsafe { host.free(self.0.cast(), size_of::<ArgBox>(), align_of::<ArgBox>()) };
    }
}
