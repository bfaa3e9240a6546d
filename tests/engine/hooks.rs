//! What the library calls: hooks, functions of timers, drop functions.

use super::*;
use gotimer::*;
use std::alloc::Layout;
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};

type Func = unsafe extern "C-unwind" fn(*mut c_void, usize, i64);

thread_local! {
    static WORLD: Cell<*const World> = const { Cell::new(std::ptr::null()) };
}

/// The world of this thread; none: NULL.
pub(super) fn set_world(w: *const World) {
    WORLD.set(w);
}

fn world() -> Option<&'static World> {
    // SAFETY: `run` sets it to a world that it keeps while it uses the library.
    unsafe { WORLD.get().as_ref() }
}

unsafe extern "C-unwind" fn f0(arg: *mut c_void, seq: usize, delay: i64) {
    if let Some(w) = world() {
        w.fire(false, arg as usize, seq, delay);
    }
}

unsafe extern "C-unwind" fn f1(arg: *mut c_void, seq: usize, delay: i64) {
    if let Some(w) = world() {
        w.fire(true, arg as usize, seq, delay);
    }
}

/// The two functions of timers.
pub(super) fn func(f: bool) -> Option<Func> {
    Some(if f { f1 } else { f0 })
}

unsafe extern "C" fn dropped(arg: *mut c_void) {
    let Some(w) = world() else { return };
    let arg = arg as usize;
    let (early, again) = {
        let mut m = w.m();
        let a = &mut m.args[arg];
        a.dropped += 1;
        (a.runs > 0, a.dropped > 1 || !a.given)
    };
    w.expect(!early, || {
        format!("arg {arg} dropped while a call with it is under way")
    });
    w.expect(!again, || {
        format!("arg {arg} dropped twice, or never given")
    });
}

pub(super) fn on_drop(drop: bool) -> gt_drop_func {
    if drop { Some(dropped) } else { None }
}

unsafe extern "C" fn wake(_: *mut c_void, p: *mut gt_p, when: i64) {
    let Some(w) = world() else { return };
    let mut m = w.m();
    m.stats.wakes += 1;
    let p = m.ps.iter().position(|x| x.alive && x.handle == p);
    m.woken.push((p, when));
}

unsafe extern "C" fn preempt_stop(_: *mut c_void) -> c_int {
    let Some(w) = world() else { return 0 };
    let mut m = w.m();
    let left = m.stop_pass.map(|n| n - 1);
    m.stop_pass = left.filter(|&n| n > 0);
    let stop = left == Some(0);
    if let Some(c) = m.calls.last_mut().filter(|_| stop) {
        (c.cut, c.stopped) = (true, c.at);
    }
    stop.into()
}

unsafe extern "C" fn alloc(_: *mut c_void, size: usize, align: usize) -> *mut c_void {
    let (Some(w), Ok(layout)) = (world(), Layout::from_size_align(size, align)) else {
        return std::ptr::null_mut();
    };
    let n = w.fail_alloc.get();
    w.fail_alloc.set(n.saturating_sub(1));
    if n == 1 {
        w.alloc_failed.set(true);
        return std::ptr::null_mut();
    }
    w.bytes.set(w.bytes.get() + size as u64);
    // SAFETY: the size is not 0: that is checked by the library's own tests.
    unsafe { std::alloc::alloc(layout).cast() }
}

unsafe extern "C" fn free(_: *mut c_void, ptr: *mut c_void, size: usize, align: usize) {
    if let Ok(layout) = Layout::from_size_align(size, align) {
        // SAFETY: given by `alloc`, with the same layout.
        unsafe { std::alloc::dealloc(ptr.cast(), layout) };
    }
    if let Some(w) = world() {
        w.bytes.set(w.bytes.get().wrapping_sub(size as u64));
    }
}

/// Corruption: there is no way back to the test from here.
unsafe extern "C" fn throw(_: *mut c_void, msg: *const c_char) {
    // SAFETY: the library's promise: a text.
    let msg = unsafe { CStr::from_ptr(msg) }.to_string_lossy();
    let story = world().map(|w| &w.story);
    eprintln!("the library threw: {msg}\n{story:#?}");
}

pub(super) fn hooks(preempt: bool) -> gt_host {
    // SAFETY: zero is a valid value, and says "default" throughout.
    let mut host: gt_host = unsafe { std::mem::zeroed() };
    host.size = size_of::<gt_host>();
    host.wake_netpoller = Some(wake);
    host.throw_ = Some(throw);
    host.alloc = Some(alloc);
    host.free = Some(free);
    if preempt {
        host.preempt_stop = Some(preempt_stop);
    }
    host
}
