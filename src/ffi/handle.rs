//! Handles and results: from C and back.

use crate::engine::{self, TimerRef};
use crate::error::{Error, Result};
use crate::host::Boundary;
use crate::procs::{P, Sched, hot};
use std::ptr::NonNull;

/// A scheduling domain: Ps, timers, a clock and hooks that belong together.
#[allow(non_camel_case_types)]
pub struct gt_sched {
    _opaque: [u8; 0],
}

/// A P: the right to run timers, with a heap of them. At most one thread is bound to it.
#[allow(non_camel_case_types)]
pub struct gt_p {
    _opaque: [u8; 0],
}

/// A timer.
#[allow(non_camel_case_types)]
pub struct gt_timer {
    _opaque: [u8; 0],
}

/// What the boundary does for each call: refuses it in a fork child that has not called
/// gt_after_fork, and turns its result into a number.
pub(super) fn call<T: Code>(f: impl FnOnce() -> Result<T>) -> T::Number {
    let inside = match Boundary::begin() {
        Ok(inside) => inside,
        Err(e) => return T::error(e.code()),
    };
    inside.end(match f() {
        Ok(v) => v.number(),
        Err(e) => T::error(e.code()),
    })
}

/// The same for calls that are made very often: the usual way through stands apart, so that
/// it needs not look again at its end. It is for closures that take all they need with them
/// (`move`).
#[inline(always)]
pub(super) fn call_often<F, T: Code>(f: F) -> T::Number
where
    F: FnOnce() -> Result<T> + Copy,
{
    if !Boundary::is_usual() {
        return unusually(f);
    }
    match f() {
        Ok(v) => v.number(),
        Err(e) => T::error(e.code()),
    }
}

#[cold]
#[inline(never)]
fn unusually<T: Code>(f: impl FnOnce() -> Result<T>) -> T::Number {
    call(f)
}

/// The same for calls that return a pointer: NULL, and gt_last_error knows why.
pub(super) fn call_ptr<T>(f: impl FnOnce() -> Result<*mut T>) -> *mut T {
    match Boundary::begin() {
        Ok(inside) => inside.end(pointer(f())),
        Err(e) => pointer(Err(e)),
    }
}

/// What a call that returns a pointer returns.
#[inline(always)]
pub(super) fn pointer<T>(result: Result<*mut T>) -> *mut T {
    result.unwrap_or_else(|e| {
        hot().last_error.set(e.code());
        std::ptr::null_mut()
    })
}

/// A panic of this library must not unwind into C; a C++ exception of a callback may.
pub(super) struct AbortOnPanic {
    /// The caller was unwinding already: a Rust program's destructor.
    before: bool,
}

impl AbortOnPanic {
    pub(super) fn new() -> Self {
        AbortOnPanic {
            before: std::thread::panicking(),
        }
    }
}

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if !self.before && std::thread::panicking() {
            eprintln!("gotimer: internal error, see the message above");
            std::process::abort();
        }
    }
}

/// How a result looks in C.
pub(super) trait Code {
    type Number;
    fn number(self) -> Self::Number;
    fn error(code: i32) -> Self::Number;
}

macro_rules! code {
    ($t:ty, $n:ty, $v:ident => $e:expr) => {
        impl Code for $t {
            type Number = $n;
            #[inline(always)]
            fn number(self) -> $n {
                let $v = self;
                $e
            }
            #[inline(always)]
            fn error(code: i32) -> $n {
                code as $n
            }
        }
    };
}

code!((), i32, _v => 0);
code!(bool, i32, v => v as i32);
code!(i32, i32, v => v);
code!(usize, i32, v => v.min(i32::MAX as usize) as i32);
code!(i64, i64, v => v);

#[inline(always)]
pub(super) fn sched_handle(s: NonNull<Sched>) -> *mut gt_sched {
    s.as_ptr().cast()
}

#[inline(always)]
pub(super) fn timer_handle(t: TimerRef) -> *mut gt_timer {
    let p = t.as_ptr();
    if cfg!(feature = "checked") {
        p.map_addr(|a| a | (engine::slab_generation(t) as usize & 63))
            .cast()
    } else {
        p.cast()
    }
}

/// The sched of a handle, also one that was closed.
///
/// # Safety
/// `s` is NULL or a handle of a sched that has not been destroyed.
pub(super) unsafe fn any_sched<'a>(s: *mut gt_sched) -> Result<&'a Sched> {
    if s.is_null() {
        return Err(Error::Inval);
    }
    #[cfg(feature = "checked")]
    if !crate::procs::is_sched(s.addr()) {
        return Err(Error::Fault);
    }
    // SAFETY: the caller's promise.
    Ok(unsafe { &*s.cast::<Sched>() })
}

/// The open sched of a handle.
///
/// # Safety
/// As for `any_sched`.
#[inline(always)]
pub(super) unsafe fn sched<'a>(s: *mut gt_sched) -> Result<&'a Sched> {
    // SAFETY: the caller's promise.
    let s = unsafe { any_sched(s) }?;
    if s.is_closed() {
        Err(Error::Shutdown)
    } else {
        Ok(s)
    }
}

/// The P of a handle.
///
/// # Safety
/// `p` is NULL or a handle of a P that has not been freed (the checked build forgives).
#[inline(always)]
pub(super) unsafe fn live_p<'a>(p: *mut gt_p) -> Result<&'a P> {
    if p.is_null() {
        return Err(Error::Inval);
    }
    #[cfg(feature = "checked")]
    {
        let tag = p.addr() & 63;
        let p = p.map_addr(|a| a & !63);
        if !crate::procs::is_p(p.addr()) {
            return Err(Error::Fault);
        }
        // SAFETY: a slot of a live sched's table.
        let p = unsafe { &*p.cast::<P>() };
        let generation = p.slot.generation() as usize;
        // While a wake hook for it runs, a P that is being freed may still be named.
        if p.is_dead() && !p.slot.is_in_hook() || generation & 63 != tag {
            Err(Error::Stale)
        } else {
            Ok(p)
        }
    }
    #[cfg(not(feature = "checked"))]
    // SAFETY: the caller's promise.
    Ok(unsafe { &*p.cast::<P>() })
}

/// The timer of a handle and its sched, which may be closed.
///
/// # Safety
/// `t` is NULL or a handle of a timer that has not been freed (the checked build forgives).
#[inline(always)]
pub(super) unsafe fn any_timer<'a>(t: *mut gt_timer) -> Result<(TimerRef, &'a Sched)> {
    if t.is_null() {
        return Err(Error::Inval);
    }
    #[cfg(feature = "checked")]
    let t = {
        let tag = t.addr() & 63;
        let t = t.map_addr(|a| a & !63);
        if !engine::checked::is_timer(t.addr()) {
            return Err(Error::Fault);
        }
        // SAFETY: a node of a slab; not NULL.
        let node = unsafe { TimerRef::new(NonNull::new_unchecked(t.cast())) };
        let generation = engine::slab_generation(node);
        if generation == 0 || generation as usize & 63 != tag {
            return Err(Error::Stale);
        }
        t
    };
    // SAFETY: the caller's promise: a node of a slab, and not NULL.
    let t = unsafe { TimerRef::new(NonNull::new_unchecked(t.cast())) };
    // SAFETY: the sched outlives the handles of its timers.
    Ok((t, unsafe { &*engine::owner(t).cast::<Sched>() }))
}

/// The timer of a handle, for the short paths (engine/fast.rs): the timer's flags say when its
/// sched was freed, and its P when it is a fork child's. `None`: the long way.
///
/// # Safety
/// As for `any_timer`.
#[inline(always)]
pub(super) unsafe fn fast_timer(t: *mut gt_timer) -> Option<TimerRef> {
    if cfg!(feature = "checked") {
        return None;
    }
    // SAFETY: the caller's promise: a node of a slab, or NULL.
    Some(unsafe { TimerRef::new(NonNull::new(t.cast())?) })
}

/// The timer of a handle, which has no channel, and its open sched.
///
/// # Safety
/// As for `any_timer`.
#[inline(always)]
pub(super) unsafe fn func_timer<'a>(t: *mut gt_timer) -> Result<(TimerRef, &'a Sched)> {
    // SAFETY: the caller's promise.
    let (t, s) = unsafe { timer(t) }?;
    if crate::time::is_chan(t) {
        Err(Error::Inval)
    } else {
        Ok((t, s))
    }
}

/// The timer of a handle, and its open sched.
///
/// # Safety
/// As for `any_timer`.
#[inline(always)]
pub(super) unsafe fn timer<'a>(t: *mut gt_timer) -> Result<(TimerRef, &'a Sched)> {
    // SAFETY: the caller's promise.
    let (t, s) = unsafe { any_timer(t) }?;
    if s.is_closed() {
        Err(Error::Shutdown)
    } else {
        Ok((t, s))
    }
}
