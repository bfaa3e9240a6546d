//! Making timers, and how many there are at the end: see engine/cache.rs.

use super::sched::Sched;
use crate::engine::{ArgRef, CHAN, DropFn, Func, HAS_DROP, Procs, TimerRef, WATCHED, cache};
use crate::error::{Error, Result};
use std::ffi::c_void;

impl Sched {
    /// A new timer with these flags in its status word.
    #[inline(always)]
    pub(crate) fn timer_new(
        &self,
        f: Func,
        arg: *mut c_void,
        drop: Option<DropFn>,
        flags: u32,
    ) -> Result<TimerRef> {
        let flags = if flags & CHAN == 0 {
            flags | self.new_flags
        } else {
            (flags | self.new_flags) & !WATCHED
        };
        match drop {
            None => self.make(f, arg, flags),
            Some(drop) => self.make_boxed(f, arg, drop, flags),
        }
    }

    #[inline(always)]
    fn make(&self, f: Func, arg: *mut c_void, flags: u32) -> Result<TimerRef> {
        match cache::make(self, self.registry.orphan(), f, arg, flags) {
            Some(t) => Ok(t),
            None => self.make_from_slab(f, arg, flags),
        }
    }

    /// The argument has a drop function: it goes into a box that counts its users.
    #[cold]
    fn make_boxed(&self, f: Func, arg: *mut c_void, drop: DropFn, flags: u32) -> Result<TimerRef> {
        if self.is_closed() {
            return Err(Error::Shutdown);
        }
        let b = ArgRef::new(self.host(), arg, drop).ok_or(Error::NoMem)?;
        let made = self.make(f, b.as_field(), flags | HAS_DROP);
        if made.is_err() {
            b.discard(self.host());
        }
        made
    }

    /// The thread has no node for itself.
    #[cold]
    #[inline(never)]
    fn make_from_slab(&self, f: Func, arg: *mut c_void, flags: u32) -> Result<TimerRef> {
        if self.is_closed() {
            return Err(Error::Shutdown);
        }
        let home = self.registry.orphan();
        self.block(); // this sched is the thread's last one
        if let Some(b) = self.quick_block_here() {
            // SAFETY: the short paths are open, so the block is the thread's own.
            unsafe { self.slab.fill(&b.cache, self.host(), home) }?;
            if let Some(t) = cache::make(self, self.registry.orphan(), f, arg, flags) {
                return Ok(t);
            }
        }
        self.slab.alloc(self.host(), home, (f, arg, flags))
    }

    /// The sched is closed, and nobody makes timers: from now on the slab knows how many are in
    /// use. They keep the sched.
    pub(super) fn sum_up_timers(&self) {
        let mut live = 0u64;
        self.blocks.for_each(|b| {
            live = live.wrapping_add(b.cache.live());
            b.cache.forget_live();
        });
        self.slab.pool.close(live, || self.life.add_ref());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Arm, fast, modtimer, set_generation, timer_free, trim};
    use crate::procs::{Config, p_new};

    unsafe extern "C-unwind" fn nothing(_: *mut c_void, _: usize, _: i64) {}

    /// So many that each node which is free is used again.
    const MANY: usize = 200;

    fn is_used_again(s: &Sched, t: TimerRef) -> bool {
        let make = || s.timer_new(nothing, std::ptr::null_mut(), None, 0).unwrap();
        let all: Vec<_> = (0..MANY).map(|_| make()).collect();
        for &t in &all {
            timer_free(s, t, None).unwrap();
        }
        all.contains(&t)
    }

    #[test]
    fn a_node_whose_generation_would_wrap_is_not_used_again() {
        let s = Sched::new(Config::default()).unwrap();
        // SAFETY: it is alive until it is closed and its last timer is freed, at the end.
        let s = unsafe { s.as_ref() };
        let p = p_new(s).unwrap();
        super::super::acquirep(p).unwrap();
        let make = || s.timer_new(nothing, std::ptr::null_mut(), None, 0).unwrap();
        for armed in [false, true] {
            for last in [false, true] {
                let t = make();
                if armed {
                    modtimer(s, t, None, None, &Arm::at(1 << 62, 0)).unwrap();
                }
                if last {
                    set_generation(t, u32::MAX - 1);
                }
                let freed = match armed {
                    false => fast::free_removed::<Sched>(t),
                    true => fast::free::<Sched>(t),
                };
                assert_eq!(freed.is_none(), last, "the short path leaves it alone");
                if last {
                    assert_eq!(timer_free(s, t, None), Ok(armed));
                }
                trim(s, p);
                assert_eq!(is_used_again(s, t), !last);
            }
        }
        assert_eq!(s.stats().timers, 0);
        assert_eq!(
            super::super::releasep().map(std::ptr::from_ref),
            Some(std::ptr::from_ref(p))
        );
        super::super::p_free(p).unwrap();
        s.close(|_| ()).unwrap();
    }
}
