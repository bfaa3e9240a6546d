//! The built-in runtime: n threads that run timers, each with a P, and where they wait.
//! The part of Go's scheduler that timers need: `schedinit`, `startTheWorld`.
//!
//! There is one, as in Go. Its sched is made at first use and stays; timers may be armed
//! before it is started and after it was stopped, and fire when it runs (again).

mod cpus;
mod deadline;
mod netpoll;
mod poller;
mod stopping;
mod thread;
mod worker;

pub(crate) use cpus::cpus;
pub(crate) use netpoll::{Desc, READ, WRITE, close, open, set_deadline, wait};

use crate::engine::Procs;
use crate::error::{Error, Result};
use crate::host::{Hooks, Inside, tell_of_blocking};
use crate::procs::{self, Config, P, Sched};
use crate::sync::{Guarded, RawLock, rank};
use crate::time;
use poller::Poller;
use std::ffi::c_void;
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use stopping::{Stopping, Turns};
use thread::Thread;

/// How the runtime is started.
pub(crate) struct RuntimeConfig {
    pub workers: usize,
    pub sched: Config,
    /// All that `sched` says, to be compared with how the sched was made. All zero: as it is.
    pub how: How,
}

/// Words in which a configuration can be compared with another.
pub(crate) type How = [usize; 24];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Stopped,
    /// Being started or stopped; no lock is held meanwhile.
    Changing,
    Running,
}

struct State {
    phase: Phase,
    threads: Vec<Thread>,
    /// Threads that are being started: there is room for them in `threads`.
    coming: usize,
    ps: Vec<&'static P>,
    turns: Turns,
    /// How the sched was made, if a start made it.
    how: How,
}

struct Runtime {
    lock: RawLock,
    /// Guarded by `lock`.
    state: Guarded<State>,
    /// Set once.
    sched: AtomicPtr<Sched>,
    poller: Poller,
    /// Workers that run.
    workers: AtomicUsize,
    stopping: Stopping,
    /// Threads beside the workers, while all of these are blocked (worker.rs). Changed under
    /// `lock`, as `blocked` is: workers and spares that wait in a callback.
    spares: AtomicUsize,
    blocked: AtomicUsize,
    /// How often this process became the child of a fork.
    forks: AtomicUsize,
}

// SAFETY: `state` is guarded by `lock`.
unsafe impl Sync for Runtime {}

static RT: Runtime = Runtime {
    lock: RawLock::new(rank::RUNTIME),
    state: Guarded::new(State {
        phase: Phase::Stopped,
        threads: Vec::new(),
        coming: 0,
        ps: Vec::new(),
        turns: Turns::new(),
        how: [0; 24],
    }),
    sched: AtomicPtr::new(std::ptr::null_mut()),
    poller: Poller::new(),
    workers: AtomicUsize::new(0),
    stopping: Stopping::new(),
    spares: AtomicUsize::new(0),
    blocked: AtomicUsize::new(0),
    forks: AtomicUsize::new(0),
};

impl Runtime {
    fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        self.lock.lock();
        // SAFETY: the lock is held; f gets the only reference.
        let r = f(unsafe { self.state.get() });
        self.lock.unlock();
        r
    }

    fn made(&self) -> Option<&'static Sched> {
        // SAFETY: set once, to a sched that stays.
        unsafe { self.sched.load(Ordering::Acquire).as_ref() }
    }
}

/// A configuration for the runtime's sched, with its hooks.
pub(crate) fn builtin(config: Config) -> Config {
    Config {
        hooks: Hooks {
            wake_netpoller: Some(wake_netpoller),
            before_call: Some(before_call),
            is_over: Some(worker::is_over),
            ..config.hooks
        },
        builtin: true,
        ..config
    }
}

/// The runtime's sched; made if it was not used before.
pub(crate) fn sched() -> Result<&'static Sched> {
    match RT.made() {
        Some(s) => Ok(s),
        None => RT.with(|_| make_sched(Config::default())),
    }
}

/// The runtime's lock is held.
fn make_sched(config: Config) -> Result<&'static Sched> {
    if let Some(s) = RT.made() {
        return Ok(s);
    }
    register_for_fork();
    tell_of_blocking(worker::syscall);
    let s = Sched::new(builtin(config))?;
    RT.sched.store(s.as_ptr(), Ordering::Release);
    // SAFETY: just made; it stays.
    Ok(unsafe { s.as_ref() })
}

/// Go's wakeNetPoller: a deadline got earlier.
unsafe extern "C" fn wake_netpoller(_ctx: *mut c_void, _p: *mut c_void, _when: i64) {
    let _in = Inside::enter();
    if let Some(s) = RT.made()
        && RT.poller.is_open()
    {
        if !worker::is_worker() {
            RT.poller.arm(s);
        } else if !worker::is_alone() {
            RT.poller.arm_in_call(s);
        } // else nobody could be woken
    }
}

fn before_call(now: i64) {
    if !worker::is_alone()
        && worker::is_worker()
        && let Some(s) = RT.made()
    {
        RT.poller.hand_over(s, now);
    }
}

/// Room for `n` more.
fn room<T>(v: &mut Vec<T>, n: usize) -> Result<()> {
    v.try_reserve(n).map_err(|_| Error::NoMem)
}

/// gt_runtime_start.
pub(crate) fn start(config: RuntimeConfig) -> Result<()> {
    let s = RT.with(|state| {
        let made = RT.made().is_some();
        if state.phase != Phase::Stopped
            || made && ![state.how, How::default()].contains(&config.how)
        {
            return Err(Error::Busy);
        }
        let s = make_sched(config.sched)?;
        if !made {
            state.how = config.how;
        }
        RT.poller.open()?;
        state.phase = Phase::Changing;
        Ok(s)
    })?;
    RT.stopping.end();
    // All count from the beginning: the first one may have a long callback.
    RT.workers.store(config.workers, Ordering::Release);
    let mut threads = Vec::new();
    let mut ps = Vec::new();
    let mut result = room(&mut threads, config.workers).and(room(&mut ps, config.workers));
    result = result.and(RT.with(|state| {
        room(&mut state.threads, config.workers)?;
        state.coming = config.workers; // all of before were joined
        Ok(())
    }));
    let coming = result.map_or(0, |()| config.workers);
    for _ in 0..config.workers {
        if result.is_err() {
            break;
        }
        result = worker::spawn(s).map(|(thread, p)| {
            threads.push(thread);
            ps.push(p);
        });
    }
    RT.with(|state| {
        state.coming -= coming;
        state.threads.append(&mut threads);
        state.ps = ps;
        state.phase = Phase::Running;
    });
    if result.is_err() {
        let _ = stop();
    }
    result
}

/// gt_runtime_stop: waits for callbacks under way. Timers stay.
pub(crate) fn stop() -> Result<()> {
    if worker::is_worker() {
        return Err(Error::Deadlk);
    }
    RT.with(|state| match state.phase {
        Phase::Stopped => Err(Error::Inval),
        Phase::Changing => Err(Error::Busy),
        Phase::Running => {
            state.phase = Phase::Changing;
            state.turns = Turns::new();
            Ok(())
        }
    })?;
    RT.stopping.begin();
    RT.poller.stop(true);
    // Those that are started meanwhile too. The room for them stays.
    while let Some(t) = RT.with(|state| state.threads.pop()) {
        t.join();
    }
    RT.poller.stop(false);
    RT.workers.store(0, Ordering::Release);
    for p in RT.with(|state| std::mem::take(&mut state.ps)) {
        // Its timers move to the next one, at last to the orphan set. It can fail for
        // want of memory only; then the P stays, and others run its timers.
        let _ = procs::p_free(p);
    }
    RT.with(|state| state.phase = Phase::Stopped);
    Ok(())
}

/// How many workers run.
pub(crate) fn workers() -> usize {
    RT.workers.load(Ordering::Acquire)
}

/// A change of the runtime is not cut in half by a fork: its locks are held over it.
fn register_for_fork() {
    extern "C" fn prepare() {
        RT.lock.lock();
        rank::leave(rank::RUNTIME);
        netpoll::fork_lock();
        RT.poller.fork_lock();
    }
    extern "C" fn child() {
        RT.forks.fetch_add(1, Ordering::Relaxed);
        parent();
    }
    extern "C" fn parent() {
        RT.poller.fork_unlock();
        netpoll::fork_unlock();
        RT.lock.unlock();
    }
    static ONCE: Once = Once::new();
    // After the scheds' own handlers, so that ours, which come first in the order, run first.
    ONCE.call_once(|| {
        procs::register_for_fork();
        // SAFETY: the handlers take and release locks of ours.
        unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
    });
}

/// gt_after_fork: the scheds, then the runtime, whose workers the child does not have: it
/// is stopped there, and may be started again.
pub(crate) fn after_fork() -> Result<()> {
    if !procs::forked() {
        return Ok(());
    }
    let had_poller = RT.poller.renew()?;
    procs::after_fork(|s| {
        time::after_fork(s);
        time::pending_correction(s)
    })?;
    RT.workers.store(0, Ordering::Release);
    RT.stopping.forget();
    for count in [&RT.spares, &RT.blocked] {
        count.store(0, Ordering::Relaxed);
    }
    let ps = RT.with(|state| {
        state.threads.clear(); // the child has none of them
        state.coming = 0;
        state.phase = Phase::Stopped;
        std::mem::take(&mut state.ps)
    });
    for p in ps {
        let _ = procs::p_free(p);
    }
    if had_poller {
        netpoll::after_fork();
    }
    Ok(())
}

/// The clock of the runtime.
pub(crate) fn now() -> Result<i64> {
    Ok(sched()?.now())
}
