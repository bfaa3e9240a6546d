//! Readiness with deadlines: Go's `pollDesc`, `poll_runtime_pollOpen`, `pollWait`,
//! `pollSetDeadline`, `pollUnblock`, `pollClose`, `netpollready`, `netpolldeadlineimpl`.
//!
//! Descriptors are watched for edges. An edge that nobody waits for is kept, so the next
//! wait returns at once. A deadline is a timer whose `seq` says which setting it belongs to:
//! one that fires after the deadline was changed finds another number and does nothing.
//!
//! Poll descriptors are never given back to the system, only used again: an event that was
//! taken from the kernel before a close may still name one. At worst somebody is told
//! "ready" once too often, which the rules allow.

use super::{RT, now, sched};
use crate::engine::{Arm, Func, MAX_WHEN, TimerRef, Wake, deltimer, modtimer_quietly, timer_free};
use crate::error::{Error, Result};
use crate::host::{Inside, acquire, release};
use crate::procs::{Sched, Waited, Waiter, copied};
use crate::sync::{Guarded, RawLock, rank};
use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The modes, as bits.
pub(crate) const READ: i32 = 1;
pub(crate) const WRITE: i32 = 2;

const LOCKS: usize = 64;
static DESC_LOCKS: [RawLock; LOCKS] = [const { RawLock::new(rank::NETPOLL) }; LOCKS];

/// A poll descriptor.
#[repr(align(64))]
pub(crate) struct Desc {
    /// Guarded by the lock for this descriptor.
    inner: Guarded<Inner>,
}

struct Inner {
    fd: i32,
    open: bool,
    /// How often it was opened: it is used again.
    life: u32,
    /// Reading, writing.
    sides: [Side; 2],
}

struct Side {
    /// An edge came that nobody has waited for.
    ready: bool,
    /// Who waits.
    waiter: *const Waiter,
    /// 0: none. -1: it has passed.
    deadline: i64,
    /// Raised with each change of the deadline; goes on when the descriptor is used again.
    seq: usize,
    timer: Option<TimerRef>,
}

/// Whose a number is: a descriptor's, in one of its lives.
struct Owner {
    fd: i32,
    life: u32,
    desc: NonNull<Desc>,
}

/// Descriptors that are open or free, for use again and for fork.
struct Pool {
    lock: RawLock,
    all: Guarded<Vec<NonNull<Desc>>>,
    free: Guarded<Vec<NonNull<Desc>>>,
    /// For each number the last that was opened with it, by number. An owner may close its
    /// number before gt_netpoll_close, and it may be somebody else's by then.
    owners: Guarded<Vec<Owner>>,
}

// SAFETY: the lists are guarded by `lock`.
unsafe impl Sync for Pool {}

static POOL: Pool = Pool {
    lock: RawLock::new(rank::SLAB),
    all: Guarded::new(Vec::new()),
    free: Guarded::new(Vec::new()),
    owners: Guarded::new(Vec::new()),
};

impl Pool {
    fn with<R>(&self, f: impl FnOnce(&mut Vec<NonNull<Desc>>, &mut Vec<NonNull<Desc>>) -> R) -> R {
        self.lock.lock();
        // SAFETY: the lock is held; f gets the only references.
        let r = unsafe { f(self.all.get(), self.free.get()) };
        self.lock.unlock();
        r
    }

    fn take(&self) -> Result<NonNull<Desc>> {
        self.with(|all, free| {
            if let Some(d) = free.pop() {
                return Ok(d);
            }
            if all.try_reserve(1).is_err() || free.try_reserve(all.len() + 1).is_err() {
                return Err(Error::NoMem);
            }
            let side = || Side {
                ready: false,
                waiter: std::ptr::null(),
                deadline: 0,
                seq: 0,
                timer: None,
            };
            let desc = Desc {
                inner: Guarded::new(Inner {
                    fd: -1,
                    open: false,
                    life: 0,
                    sides: [side(), side()],
                }),
            };
            // SAFETY: the layout of a Desc, which is not empty; it is written before it is used.
            let desc = unsafe {
                let p = std::alloc::alloc(std::alloc::Layout::new::<Desc>()).cast::<Desc>();
                let p = NonNull::new(p).ok_or(Error::NoMem)?;
                p.write(desc);
                p
            };
            all.push(desc);
            Ok(desc)
        })
    }

    fn with_owners<R>(&self, f: impl FnOnce(&mut Vec<Owner>) -> R) -> R {
        self.lock.lock();
        // SAFETY: the lock is held; f gets the only reference.
        let r = f(unsafe { self.owners.get() });
        self.lock.unlock();
        r
    }

    /// Registers a number with the poller. The one that had it before, if any, has lost it.
    fn register(&self, new: Owner) -> std::result::Result<Option<Owner>, i32> {
        self.with_owners(|owners| {
            owners.try_reserve(1).map_err(|_| libc::ENOMEM)?;
            RT.poller.add(new.fd, new.desc.as_ptr() as u64)?;
            Ok(match owners.binary_search_by_key(&new.fd, |o| o.fd) {
                Ok(at) => Some(std::mem::replace(&mut owners[at], new)),
                Err(at) => {
                    owners.insert(at, new);
                    None
                }
            })
        })
    }

    fn unregister(&self, fd: i32, d: NonNull<Desc>) {
        self.with_owners(|owners| {
            if let Ok(at) = owners.binary_search_by_key(&fd, |o| o.fd)
                && owners[at].desc == d
            {
                owners.remove(at);
                RT.poller.remove(fd);
            }
        });
    }

    fn give_back(&self, d: NonNull<Desc>) {
        self.with(|_, free| free.push(d)); // there is room for all
    }
}

/// How many are open.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// Are any open? A stale answer is that of a moment ago.
pub(super) fn any_open() -> bool {
    OPEN.load(Ordering::Relaxed) > 0
}

pub(super) fn fork_lock() {
    for l in &DESC_LOCKS {
        l.lock();
        rank::leave(rank::NETPOLL);
    }
    POOL.lock.lock();
    rank::leave(rank::SLAB);
}

pub(super) fn fork_unlock() {
    POOL.lock.unlock();
    for l in &DESC_LOCKS {
        l.unlock();
    }
}

/// In a fork child: descriptors are registered with the new poller; threads that waited are
/// gone.
pub(super) fn after_fork() {
    for i in 0..POOL.with(|all, _| all.len()) {
        let d = POOL.with(|all, _| all[i]);
        // SAFETY: descriptors stay.
        unsafe { d.as_ref() }.with(|i| {
            for side in &mut i.sides {
                // SAFETY: a waiter in its place waits; a lost thread's stack is still mapped.
                if unsafe { side.waiter.as_ref() }.is_some_and(Waiter::is_lost) {
                    side.waiter = std::ptr::null();
                }
            }
            if i.open && i.fd >= 0 {
                let _ = RT.poller.add(i.fd, d.as_ptr() as u64);
            }
        });
    }
}

impl Desc {
    fn with<R>(&self, f: impl FnOnce(&mut Inner) -> R) -> R {
        let lock = &DESC_LOCKS[std::ptr::from_ref(self).addr() / 64 % LOCKS];
        lock.lock();
        // SAFETY: the lock is held; f gets the only reference.
        let r = f(unsafe { self.inner.get() });
        lock.unlock();
        r
    }
}

fn side_of(mode: i32) -> usize {
    (mode == WRITE) as usize
}

impl Side {
    /// Takes the waiter, who is told this: 0 for ready, else an error.
    fn wake(&mut self, told: i64) -> Option<NonNull<Waiter>> {
        let w = NonNull::new(self.waiter.cast_mut())?;
        self.waiter = std::ptr::null();
        // SAFETY: it waits; the descriptor's lock is held.
        unsafe { w.as_ref() }.value.set(told);
        Some(w)
    }
}

fn wake_all(s: &Sched, waiters: [Option<NonNull<Waiter>>; 2]) {
    for w in waiters.into_iter().flatten() {
        // SAFETY: taken from its place under the lock: it waits, and only we wake it.
        unsafe { Waiter::wake(s, w.as_ptr()) };
    }
}

/// gt_netpoll_open.
pub(crate) fn open(fd: i32) -> Result<NonNull<Desc>> {
    let _ = sched()?;
    RT.with(|_| RT.poller.open())?;
    let desc = POOL.take()?;
    // SAFETY: descriptors stay.
    let d = unsafe { desc.as_ref() };
    let life = d.with(|i| {
        i.fd = fd;
        i.open = true;
        i.life = i.life.wrapping_add(1);
        for side in &mut i.sides {
            side.ready = false;
            side.deadline = 0;
        }
        i.life
    });
    let before = POOL.register(Owner { fd, life, desc }).map_err(|errno| {
        d.with(|i| i.open = false);
        POOL.give_back(desc);
        match errno {
            libc::EBADF => Error::BadF,
            libc::EPERM | libc::EINVAL | libc::ELOOP => Error::OpNotSupp,
            libc::EEXIST => Error::Already,
            libc::ENOSPC => Error::NoSpc,
            _ => Error::NoMem,
        }
    })?;
    OPEN.fetch_add(1, Ordering::Relaxed);
    if let (Some(old), Some(s)) = (before, RT.made()) {
        // Its number was closed, and no edge will come to it any more. It may have been closed
        // itself meanwhile, and be used for another number.
        // SAFETY: descriptors stay.
        let waiters = unsafe { old.desc.as_ref() }.with(|i| {
            if i.life != old.life {
                return [None; 2];
            }
            i.fd = -1;
            let told = Error::BadF.code() as i64;
            [i.sides[0].wake(told), i.sides[1].wake(told)]
        });
        wake_all(s, waiters);
    }
    Ok(desc)
}

/// What an event of the poller says.
pub(super) fn ready(address: u64, events: u32) {
    let Some(s) = RT.made() else { return };
    // SAFETY: the poller was given the address of a descriptor, which stays.
    let desc = unsafe { &*(address as usize as *const Desc) };
    let has = |bits: i32| events & bits as u32 != 0;
    let broken = has(libc::EPOLLHUP | libc::EPOLLERR);
    let edges = [
        broken || has(libc::EPOLLIN | libc::EPOLLRDHUP),
        broken || has(libc::EPOLLOUT),
    ];
    let waiters = desc.with(|i| {
        let mut waiters = [None; 2];
        for (n, side) in i.sides.iter_mut().enumerate() {
            if edges[n] {
                waiters[n] = side.wake(0);
                side.ready = waiters[n].is_none();
            }
        }
        waiters
    });
    wake_all(s, waiters);
}

/// gt_netpoll_wait: waits until fd may be ready for the mode.
pub(crate) fn wait(desc: &Desc, mode: i32) -> Result<()> {
    if mode != READ && mode != WRITE {
        return Err(Error::Inval);
    }
    let s = sched()?;
    let w = Waiter::new();
    let at_once: Cell<Option<Result<()>>> = Cell::new(None);
    let waited = w.wait(s, &mut || {
        let desc: &Desc = copied(&desc);
        desc.with(|i| {
            let fd = i.fd;
            let side = &mut i.sides[side_of(mode)];
            let result = if !i.open {
                Err(Error::Stale)
            } else if side.deadline < 0 {
                Err(Error::TimedOut)
            } else if !side.waiter.is_null() {
                Err(Error::Busy)
            } else if is_closed(fd) {
                Err(Error::BadF)
            } else if std::mem::take(&mut side.ready) {
                Ok(())
            } else {
                side.waiter = &w;
                return true;
            };
            at_once.set(Some(result));
            false
        })
    });
    debug_assert!(waited == Waited::Woken);
    acquire(desc);
    if let Some(result) = at_once.take() {
        return result;
    }
    match w.value.get() {
        0 => Ok(()),
        told => Err([Error::TimedOut, Error::Canceled, Error::BadF]
            .into_iter()
            .find(|e| e.code() as i64 == told)
            .unwrap_or(Error::Canceled)),
    }
}

/// Did its owner close it behind our back? Then no edge would ever come.
fn is_closed(fd: i32) -> bool {
    // SAFETY: takes no memory of ours.
    unsafe { libc::fcntl(fd, libc::F_GETFD) < 0 }
}

unsafe extern "C-unwind" fn read_deadline(arg: *mut c_void, seq: usize, _delay: i64) {
    // SAFETY: set_deadline gave a descriptor, which stays.
    deadline_passed(unsafe { &*arg.cast::<Desc>() }, 0, seq);
}

unsafe extern "C-unwind" fn write_deadline(arg: *mut c_void, seq: usize, _delay: i64) {
    // SAFETY: as above.
    deadline_passed(unsafe { &*arg.cast::<Desc>() }, 1, seq);
}

/// Go's netpolldeadlineimpl.
fn deadline_passed(desc: &Desc, n: usize, seq: usize) {
    let _in = Inside::enter();
    let Some(s) = RT.made() else { return };
    let waiter = desc.with(|i| {
        let side = &mut i.sides[n];
        if !i.open || side.seq != seq || side.deadline <= 0 {
            return None; // the deadline was changed meanwhile
        }
        side.deadline = -1;
        side.wake(Error::TimedOut.code() as i64)
    });
    wake_all(s, [waiter, None]);
}

/// gt_netpoll_set_deadline: for the modes in `modes`. On failure nothing has changed.
pub(crate) fn set_deadline(desc: &Desc, modes: i32, when: i64) -> Result<()> {
    if modes & !(READ | WRITE) != 0 || modes == 0 || when < 0 {
        return Err(Error::Inval);
    }
    let s = sched()?;
    release(desc);
    let passed = when != 0 && when <= now()?;
    let mut wakes = [Wake::default(), Wake::default()];
    let waiters = desc.with(|i| {
        if !i.open {
            return Err(Error::Stale);
        }
        let chosen = |n: usize| modes >> n & 1 != 0;
        let armed = when != 0 && when != MAX_WHEN && !passed;
        if armed {
            // What may fail comes first.
            for n in (0..2).filter(|&n| chosen(n)) {
                if let Err(e) = i.arm_deadline(s, desc, n, when, 1, &mut wakes[n]) {
                    if n == 1 && chosen(0) {
                        i.restore_deadline(s, desc, 0, &mut wakes[0]);
                    }
                    return Err(e);
                }
            }
        }
        let mut waiters = [None; 2];
        for n in (0..2).filter(|&n| chosen(n)) {
            let side = &mut i.sides[n];
            side.seq = side.seq.wrapping_add(1);
            side.deadline = if passed { -1 } else { when };
            if passed {
                waiters[n] = side.wake(Error::TimedOut.code() as i64);
            }
            if !armed && let Some(t) = side.timer {
                let _ = deltimer(s, t, None);
            }
        }
        Ok(waiters)
    });
    for w in wakes {
        w.call(s);
    }
    wake_all(s, waiters?);
    Ok(())
}

impl Inner {
    /// Arms the deadline's timer; with `next` 1 with the number that the side is about to have.
    fn arm_deadline<'a>(
        &mut self,
        s: &'a Sched,
        desc: &Desc,
        n: usize,
        when: i64,
        next: usize,
        wake: &mut Wake<'a>,
    ) -> Result<()> {
        let f: Func = [read_deadline as Func, write_deadline][n];
        let arg = std::ptr::from_ref(desc).cast_mut().cast::<c_void>();
        let side = &mut self.sides[n];
        let t = match side.timer {
            Some(t) => t,
            None => *side.timer.insert(s.timer_new(f, arg, None, 0)?),
        };
        let arm = Arm {
            set: Some((f, arg, side.seq.wrapping_add(next))),
            ..Arm::at(when, 0)
        };
        modtimer_quietly(s, t, None, None, &arm, wake).map(|_| ())
    }
}

impl Inner {
    /// The deadline's timer was armed anew, and shall not have been. It is in a heap, so that
    /// cannot fail.
    fn restore_deadline<'a>(&mut self, s: &'a Sched, desc: &Desc, n: usize, wake: &mut Wake<'a>) {
        let when = self.sides[n].deadline;
        if when > 0 && when != MAX_WHEN {
            let _ = self.arm_deadline(s, desc, n, when, 0, wake);
        } else if let Some(t) = self.sides[n].timer {
            let _ = deltimer(s, t, None);
        }
    }
}

/// gt_netpoll_close: wakes who waits. The descriptor may be used again.
pub(crate) fn close(desc: &Desc) -> Result<()> {
    let s = sched()?;
    release(desc);
    let (waiters, timers, fd) = desc.with(|i| {
        if !i.open {
            return Err(Error::Stale);
        }
        i.open = false;
        let canceled = Error::Canceled.code() as i64;
        let mut waiters = [None; 2];
        let mut timers = [None; 2];
        for (n, side) in i.sides.iter_mut().enumerate() {
            side.seq = side.seq.wrapping_add(1);
            waiters[n] = side.wake(canceled);
            timers[n] = side.timer.take();
        }
        Ok((waiters, timers, i.fd))
    })?;
    POOL.unregister(fd, NonNull::from(desc));
    for t in timers.into_iter().flatten() {
        let _ = timer_free(s, t, None);
    }
    OPEN.fetch_sub(1, Ordering::Relaxed);
    wake_all(s, waiters);
    POOL.give_back(NonNull::from(desc));
    Ok(())
}
