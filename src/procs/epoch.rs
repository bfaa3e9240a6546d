//! Pinning the epoch for a walk over the list of Ps (see registry.rs).
//!
//! With a collector of our own and not crossbeam's default one: so the end of a thread, when it
//! hands over what it had still to free, is told to the embedder's ThreadSanitizer as what it is,
//! the library's own business.

use crate::host::Inside;
use crossbeam_epoch::{Collector, Guard, LocalHandle};
use once_cell::race::OnceBox;
use std::mem::ManuallyDrop;

fn collector() -> &'static Collector {
    static COLLECTOR: OnceBox<Collector> = OnceBox::new();
    COLLECTOR.get_or_init(|| Box::new(Collector::new()))
}

/// A thread's part in it, given up at the thread's end.
struct Handle(ManuallyDrop<LocalHandle>);

impl Drop for Handle {
    fn drop(&mut self) {
        let _in = Inside::enter();
        // SAFETY: dropped here, once.
        unsafe { ManuallyDrop::drop(&mut self.0) };
    }
}

thread_local! {
    static HERE: Handle = Handle(ManuallyDrop::new(collector().register()));
}

/// What is removed from the list meanwhile is kept until the guard is dropped.
pub(crate) fn pin() -> Guard {
    // A thread that is as good as over has no handle left: one for this guard only.
    HERE.try_with(|h| h.0.pin())
        .unwrap_or_else(|_| collector().register().pin())
}
