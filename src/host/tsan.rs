//! The embedder's ThreadSanitizer: the counterpart of Go's raceenabled.
//!
//! A program built with `-fsanitize=thread` links this library as it is, not instrumented.
//! Its ThreadSanitizer then sees neither the locks here nor what they order. So, if its
//! runtime is found in the process when the first sched is made, it is told:
//!
//! - **what is ordered**, and not more than is promised, or true races would be hidden:
//!
//!   | before | after |
//!   |---|---|
//!   | a call that armed, stopped or replaced (gave 0 or more for it) | the callback of that arming; later calls of these kinds on the timer |
//!   | the end of a callback | the return of gt_deltimer_sync; drop of its argument |
//!   | gt_timer_free, and whatever else gave the argument up | drop of the argument |
//!   | gt_notewakeup | the gt_notetsleep that returns 1 for it |
//!   | gt_releasep, the end of a thread with a P | gt_acquirep of that P |
//!   | gt_p_set_userdata | gt_p_userdata |
//!   | a call that made, stopped, reset or freed a channel timer | what is received from it |
//!   | gt_netpoll_set_deadline, gt_netpoll_close | the return of gt_netpoll_wait |
//!   | a thread of a bubble blocks or leaves | the return of gt_synctest_wait; callbacks of the thread that moves the clock |
//!   | these callbacks | what the threads that they wake do next |
//!
//! - **what is ours**: the runtime intercepts memcpy, free, read and their like in this library
//!   too. What they touch here is guarded by locks that it does not see, so accesses are not
//!   looked at while a thread is in this library; in callbacks, drops and the hooks that may
//!   call back they are.
//!
//! Without that runtime each of these places costs a load of a static and a branch, and so
//! does the end of a call; its beginning looks at that word anyway.

#[cfg(all(not(gt_model), not(gt_tsan)))]
mod imp {
    use super::super::environment_says;
    use super::super::unusual::{self, WATCHED};
    use std::cell::Cell;
    use std::ffi::{CStr, c_char, c_int, c_void};
    use std::mem::transmute;
    use std::sync::Once;
    use std::sync::atomic::{AtomicPtr, Ordering};

    type Address = unsafe extern "C" fn(*mut c_void);
    type Annotation = unsafe extern "C" fn(*const c_char, c_int);

    // Relaxed throughout: whoever has a sched has what `find` wrote before it was made.
    static ACQUIRE: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
    static RELEASE: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
    static IGNORE: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
    static HEED: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

    thread_local! {
        /// Is this thread in this library, so that its accesses are ignored?
        static INSIDE: Cell<bool> = const { Cell::new(false) };
    }

    /// Looks for the runtime; `GOTIMER_TSAN=0` in the environment keeps it off.
    pub(crate) fn find() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            if environment_says(c"GOTIMER_TSAN", c"0") {
                return;
            }
            let wanted: [(&AtomicPtr<c_void>, &CStr); 4] = [
                (&ACQUIRE, c"__tsan_acquire"),
                (&RELEASE, c"__tsan_release"),
                (&IGNORE, c"AnnotateIgnoreWritesBegin"),
                (&HEED, c"AnnotateIgnoreWritesEnd"),
            ];
            for (place, name) in wanted {
                // SAFETY: a name that ends in NUL; asks only.
                let f = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
                if f.is_null() {
                    return;
                }
                place.store(f, Ordering::Relaxed);
            }
            unusual::set(WATCHED);
        });
    }

    /// Is there a runtime? Known before the first sched exists, so that no call of a thread
    /// begins without it and ends with it.
    #[inline(always)]
    pub(crate) fn on() -> bool {
        unusual::is(WATCHED)
    }

    /// All that was released on this address comes before what this thread does now.
    #[inline(always)]
    pub(crate) fn acquire<T>(at: *const T) {
        if on() {
            tell_acquire(at.cast());
        }
    }

    /// All that this thread did comes before whoever acquires this address later.
    #[inline(always)]
    pub(crate) fn release<T>(at: *const T) {
        if on() {
            tell_release(at.cast());
        }
    }

    /// `acquire`, for those who know that there is a runtime.
    #[cold]
    #[inline(never)]
    pub(crate) fn tell_acquire(at: *const u8) {
        tell(&ACQUIRE, at.cast());
    }

    /// `release`, for those who know.
    #[cold]
    #[inline(never)]
    pub(crate) fn tell_release(at: *const u8) {
        tell(&RELEASE, at.cast());
    }

    /// Both: a call that changes a timer, or its channel, comes between those before it and those after it.
    #[cold]
    #[inline(never)]
    pub(crate) fn tell_both(at: *const u8) {
        tell(&ACQUIRE, at.cast());
        tell(&RELEASE, at.cast());
    }

    fn tell(what: &AtomicPtr<c_void>, at: *const c_void) {
        // SAFETY: found by `find` under the name of a function of this type.
        unsafe {
            let f: Address = transmute(what.load(Ordering::Relaxed));
            f(at.cast_mut());
        }
    }

    /// Never inlined: a thread-local's address must not be kept over a callback, which may
    /// end on another thread. Returns what it was.
    #[cold]
    #[inline(never)]
    fn set_inside(inside: bool) -> bool {
        let was = INSIDE.replace(inside);
        if was != inside {
            let what = if inside { &IGNORE } else { &HEED };
            // SAFETY: as in `tell`.
            unsafe {
                let f: Annotation = transmute(what.load(Ordering::Relaxed));
                f(c"gotimer".as_ptr(), 0);
            }
        }
        was
    }

    /// A call of the embedder's begins. It comes from outside, always: callbacks and hooks
    /// that may call us are outside (see `Outside`).
    pub(crate) fn begin_call() {
        if on() {
            set_inside(true);
        }
    }

    /// It ends, maybe on another thread than it began on; or it made the first sched.
    pub(crate) fn end_call() {
        if on() {
            set_inside(false);
        }
    }

    /// The thread is in this library until this is dropped; nests.
    pub(crate) struct Inside {
        /// What to go back to; none: there is no runtime.
        was: Option<bool>,
    }

    impl Inside {
        #[inline(always)]
        pub(crate) fn enter() -> Self {
            Inside {
                was: if on() { Some(set_inside(true)) } else { None },
            }
        }
    }

    impl Drop for Inside {
        #[inline(always)]
        fn drop(&mut self) {
            if let Some(was) = self.was {
                set_inside(was);
            }
        }
    }

    /// The embedder's code runs until this is dropped: a callback, a drop, a hook. It may
    /// switch stacks: dropped on another thread, that one is in this library from then on.
    pub(crate) struct Outside {
        was: Option<bool>,
    }

    impl Outside {
        /// `watched`: is there a runtime?
        #[inline(always)]
        pub(crate) fn enter(watched: bool) -> Self {
            Outside {
                was: watched.then(|| set_inside(false)),
            }
        }
    }

    impl Drop for Outside {
        #[inline(always)]
        fn drop(&mut self) {
            if let Some(was) = self.was {
                set_inside(was);
            }
        }
    }

    /// A timer's callback runs until this is dropped, by an exception too.
    pub(crate) struct Callback {
        runs: *const u8,
        _out: Outside,
    }

    impl Callback {
        /// Its end is told under this address.
        pub(crate) fn begin(runs: *const u8) -> Self {
            Callback {
                runs,
                _out: Outside::enter(true),
            }
        }
    }

    impl Drop for Callback {
        fn drop(&mut self) {
            tell_release(self.runs);
        }
    }
}

/// An instrumented build of this library is seen as it is; loom sees more.
#[cfg(any(gt_model, gt_tsan))]
mod imp {
    pub(crate) fn find() {}

    #[inline(always)]
    pub(crate) fn on() -> bool {
        false
    }

    #[inline(always)]
    pub(crate) fn acquire<T>(_at: *const T) {}

    #[inline(always)]
    pub(crate) fn release<T>(_at: *const T) {}

    pub(crate) fn tell_acquire(_at: *const u8) {}

    pub(crate) fn tell_release(_at: *const u8) {}

    pub(crate) fn tell_both(_at: *const u8) {}

    pub(crate) fn begin_call() {}

    pub(crate) fn end_call() {}

    pub(crate) struct Inside;

    impl Inside {
        #[inline(always)]
        pub(crate) fn enter() -> Self {
            Inside
        }
    }

    pub(crate) struct Outside;

    impl Outside {
        #[inline(always)]
        pub(crate) fn enter(_watched: bool) -> Self {
            Outside
        }
    }

    pub(crate) struct Callback;

    impl Callback {
        pub(crate) fn begin(_runs: *const u8) -> Self {
            Callback
        }
    }
}

pub(crate) use imp::{
    Callback, Inside, Outside, acquire, find, on, release, tell_acquire, tell_both, tell_release,
};
pub(super) use imp::{begin_call, end_call};
