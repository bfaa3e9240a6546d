//! A sched: Ps, timers, a clock and a host that belong together. The part of the
//! runtime's `sched` and `allp` that timers need, as a value: there may be many.

use super::blocks::Blocks;
use super::bubble::Bubble;
use super::lifetime::Lifetime;
use super::p::P;
use super::registry::Registry;
use super::{fork, registry, tls};
use crate::engine::{
    Block, Counter, Histogram, Procs, Slab, TimerRef, Timers, WATCHED, cache, slab_generation,
    slab_raise_generation, slack_flags, stop_for_good,
};
use crate::error::{Error, Result};
use crate::host::{Clock, Hooks, Host, Kind, Outside, environment_says, tsan};
use crate::sync::{RawLock, rank};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

const CHAN_LOCKS: usize = 64;
/// No sched has this uid.
const QUICK_NEVER: u64 = u64::MAX;

/// How a sched is made.
pub(crate) struct Config {
    pub hooks: Hooks,
    pub kind: Kind,
    pub verify: bool,
    pub lateness: bool,
    /// Of new timers, in ns.
    pub slack: i64,
    /// The built-in runtime's: it stays.
    pub builtin: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            hooks: Hooks::default(),
            kind: Kind::Monotonic,
            verify: false,
            lateness: false,
            slack: 0,
            builtin: false,
        }
    }
}

/// A sum over all threads.
pub(crate) struct Stats {
    pub counts: [u64; Stats::COUNTERS.len()],
    pub pending: u64,
    pub zombies: u64,
    pub timers: u64,
    pub bytes: u64,
}

impl Stats {
    pub(crate) const COUNTERS: [Counter; 11] = [
        Counter::Armed,
        Counter::Fired,
        Counter::Ticks,
        Counter::Stopped,
        Counter::Replaced,
        Counter::Steals,
        Counter::Wakes,
        Counter::Scans,
        Counter::Sweeps,
        Counter::Early,
        Counter::Overdue,
    ];

    pub(crate) fn get(&self, what: Counter) -> u64 {
        self.counts[what as usize]
    }
}

pub(crate) struct Sched {
    /// Never used twice, unlike addresses.
    pub(crate) uid: u64,
    /// The uid, while the short paths of engine/fast.rs are open: no hook wants to be told of
    /// each lock, nor does a ThreadSanitizer, and this is no fork child that has not been
    /// repaired. Else QUICK_NEVER.
    quick: AtomicU64,
    host: Host,
    clock: Clock,
    pub(crate) slab: Slab,
    pub(crate) registry: Registry,
    verify: bool,
    lateness: bool,
    builtin: bool,
    /// What a new timer has in its status word.
    pub(super) new_flags: u32,
    /// Channel timers that are not shut down.
    pub(crate) chans: AtomicU64,
    /// Locks of the channels, by their address (src/time/chan.rs). Here, since fork takes them.
    chan_locks: [RawLock; CHAN_LOCKS],
    pub(crate) bubble: Bubble,
    pub(super) life: Lifetime,
    pub(super) blocks: Blocks,
}

/// A reference to a sched, given back when this is dropped.
pub(crate) struct Keep<'a>(&'a Sched);

impl Drop for Keep<'_> {
    fn drop(&mut self) {
        self.0.unref();
    }
}

impl Sched {
    /// A new sched. It is destroyed by `unref`.
    pub(crate) fn new(config: Config) -> Result<NonNull<Sched>> {
        static UID: AtomicU64 = AtomicU64::new(1);
        fork::register();
        tsan::find();
        let host = Host::new(config.hooks);
        let p = host
            .alloc(size_of::<Sched>(), align_of::<Sched>())
            .ok_or(Error::NoMem)?
            .cast::<Sched>();
        let s = Sched {
            uid: UID.fetch_add(1, Ordering::Relaxed),
            quick: AtomicU64::new(QUICK_NEVER),
            host,
            clock: Clock::new(config.kind),
            slab: Slab::new(),
            registry: Registry::new(),
            verify: config.verify || verify_from_environment(),
            lateness: config.lateness,
            builtin: config.builtin,
            new_flags: slack_flags(config.slack) | if tsan::on() { WATCHED } else { 0 },
            chans: AtomicU64::new(0),
            chan_locks: [const { RawLock::new(rank::CHAN) }; CHAN_LOCKS],
            bubble: Bubble::new(),
            life: Lifetime::new(),
            blocks: Blocks::new(config.lateness),
        };
        // SAFETY: fresh memory of a Sched's size and alignment.
        unsafe { p.write(s) };
        // SAFETY: just written; it stays until unref destroys it.
        let s = unsafe { p.as_ref() };
        let made = s.registry.make_orphan(s);
        if let Err(e) = made.and_then(|()| fork::add_sched(s)) {
            // SAFETY: nobody has seen it yet.
            unsafe { Self::destroy(p) };
            return Err(e);
        }
        s.open_quick();
        Ok(p)
    }

    pub(crate) fn quick(&self) -> u64 {
        // Relaxed: it changes in a fork child, which has one thread, and when the sched is
        // closed, of which the locks tell (engine/cache.rs).
        self.quick.load(Ordering::Relaxed)
    }

    /// Opens the short paths, if the hooks and the embedder's ThreadSanitizer allow them.
    pub(crate) fn open_quick(&self) {
        if !self.host.pins() && !self.host.is_watched() && !self.is_closed() {
            self.set_quick(self.uid);
        }
    }

    /// In a fork child: whoever comes must ask whether it was repaired. Or the sched is closed:
    /// see engine/cache.rs.
    pub(crate) fn close_quick(&self) {
        self.set_quick(QUICK_NEVER);
    }

    /// Each P has it too: a re-arm reads nothing of the sched.
    fn set_quick(&self, uid: u64) {
        self.quick.store(uid, Ordering::Relaxed);
        self.registry.for_each_slot(|p| p.set_quick(uid));
    }

    #[inline(always)]
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn keeps_lateness(&self) -> bool {
        self.lateness
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.life.is_closed()
    }

    /// At the end of gt_p_free: the handle's reference.
    pub(super) fn give_up(&self, p: &P) {
        if self.registry.free.give_up(p.index, &p.slot) {
            self.leave_open();
        }
    }

    /// In a fork child: a lost thread may have given back the last reference to a P, and have done
    /// nothing else yet.
    pub(super) fn fork_find_free_slots(&self) {
        let free = &self.registry.free;
        free.clear();
        let mut used = 0;
        self.registry.for_each_slot(|p| {
            if !p.slot.is_free() {
                used += 1;
            } else if p.index > 0 {
                free.put_again(p.index, &p.slot);
            }
        });
        if !self.is_closed() {
            self.life.set_open(used); // the orphan set's stands for gt_sched_free's
        }
    }

    /// A P's slot is free again, or gt_sched_free is done.
    fn leave_open(&self) {
        let last = self.life.leave_open(|| self.sum_up_timers());
        self.destroy_if(last);
    }

    /// Gives a reference back. The last one destroys the sched.
    fn unref(&self) {
        self.destroy_if(self.life.unref());
    }

    fn destroy_if(&self, last: bool) {
        if last {
            fork::remove_sched(self);
            // SAFETY: the last reference; nobody finds it any more.
            unsafe { Self::destroy(NonNull::from(self)) };
        }
    }

    /// Keeps the sched while callbacks run that may free it.
    pub(crate) fn keep(&self) -> Keep<'_> {
        self.life.add_ref();
        Keep(self)
    }

    /// # Safety
    /// Nobody else uses the sched.
    unsafe fn destroy(p: NonNull<Sched>) {
        // SAFETY: the caller's promise; it was written by `new`.
        let mut s = unsafe { p.read() };
        // SAFETY: the caller's promise.
        unsafe {
            s.blocks.destroy(&s.host);
            s.registry.destroy(&s.host);
            s.slab.destroy(&s.host);
            s.host
                .free(p.cast(), size_of::<Sched>(), align_of::<Sched>());
        }
    }

    /// The lock of a channel.
    pub(crate) fn chan_lock(&self, address: usize) -> &RawLock {
        &self.chan_locks[address / 64 % CHAN_LOCKS]
    }

    /// gt_sched_free: stops and drops all timers; those of the layer above first, by
    /// `shutdown`. Their handles stay good for gt_timer_free.
    pub(crate) fn close(&self, shutdown: impl FnOnce(&Sched)) -> Result<()> {
        self.registry.lock.lock();
        if self.builtin || self.registry.any_live() {
            self.registry.lock.unlock();
            return Err(Error::Busy);
        }
        let again = self.life.close();
        self.registry.lock.unlock();
        if again {
            return Err(Error::Shutdown);
        }
        self.close_quick();
        shutdown(self);
        self.slab.for_each(|t| stop_for_good(self, t));
        self.registry.empty_orphans(self);
        // Each timer's lock was taken meanwhile, now each P's: see engine/cache.rs.
        self.registry.for_each_slot(|p| p.pass_by());
        self.leave_open();
        Ok(())
    }

    /// The timer of an id, with the generation that the id names.
    pub(crate) fn find(&self, id: u64) -> Result<(TimerRef, u32)> {
        self.slab.find(id).ok_or(Error::Stale)
    }

    /// The calling thread ends, and this is its token: others may use its block, and the nodes
    /// that it had for itself.
    pub(crate) fn release_blocks(&self, token: u64) {
        let nodes = self.blocks.leave(token);
        self.slab.pool.give_all(nodes);
    }

    pub(crate) fn stats(&self) -> Stats {
        let mut stats = Stats {
            counts: [0; Stats::COUNTERS.len()],
            pending: 0,
            zombies: 0,
            timers: 0,
            bytes: self.host.bytes(),
        };
        let mut live = 0u64;
        self.blocks.for_each(|b| {
            live = live.wrapping_add(b.cache.live());
            for what in Stats::COUNTERS {
                let sum = &mut stats.counts[what as usize];
                *sum = sum.wrapping_add(b.get(what));
            }
        });
        self.registry.for_each_slot(|p| {
            let (all, dead) = self.counts(p);
            stats.pending += all.saturating_sub(dead);
            stats.zombies += dead;
        });
        // Below 0: counted by one who gave it back, and not yet by one who made it.
        let in_use = self.slab.pool.in_use().wrapping_add_unsigned(live);
        stats.timers = in_use.max(0) as u64;
        stats
    }

    /// Entries of a P, and dead ones. Somebody may be sweeping, who publishes the one when he
    /// is done, and the other as he goes: so not in the middle of that, if it can be helped.
    fn counts(&self, p: &P) -> (u64, u64) {
        let mut backoff = crate::sync::Backoff::new();
        for _ in 0..100 {
            if let Some(h) = p.try_lock(self) {
                return (h.heap.total() as u64, p.deleted_timers() as u64);
            }
            backoff.snooze(&self.host);
        }
        (p.num_timers() as u64, p.deleted_timers() as u64)
    }

    /// How many callbacks began as late as this bucket says.
    pub(crate) fn lateness(&self, bucket: usize) -> u64 {
        debug_assert!(bucket < Histogram::BUCKETS);
        let mut sum = 0;
        self.blocks.for_each(|b| sum += b.lateness.get(bucket));
        sum
    }

    pub(crate) fn fork_lock(&self) {
        self.registry.lock.lock();
        rank::leave(rank::REGISTRY);
        for l in &self.chan_locks {
            l.lock();
            rank::leave(rank::CHAN);
        }
        self.bubble.fork_lock();
        self.registry.for_each_slot(|p| {
            p.fd.fork_lock();
            p.fork_lock();
        });
        self.blocks.fork_lock();
        self.registry.free.fork_lock();
        self.slab.pool.lock_for_fork();
        rank::leave(rank::SLAB);
    }

    /// With FORKING set, and the Ps' locks held: waits until no thread is in the middle of
    /// changing a timer's fields.
    pub(crate) fn fork_wait_for_writers(&self) {
        // SAFETY: fork_lock has taken the lock.
        unsafe { self.blocks.for_each_held(|b| b.writer.wait(&self.host)) };
    }

    pub(crate) fn fork_unlock(&self) {
        self.slab.pool.unlock_for_fork();
        self.registry.free.fork_unlock();
        self.blocks.fork_unlock();
        self.registry.for_each_slot(|p| {
            p.fork_unlock();
            p.fd.fork_unlock();
        });
        self.bubble.fork_unlock();
        for l in &self.chan_locks {
            l.unlock();
        }
        self.registry.lock.unlock();
    }

    /// In a fork child: timers that lost threads held are released; what was done to them
    /// counts as done or as not done.
    pub(crate) fn fork_repair(&self, me: u64) {
        self.blocks.for_each(|b| {
            b.writer.forget();
            b.cache.forget_live();
            // SAFETY: the child has one thread.
            unsafe { b.cache.take_all() };
            if b.owner.load(Ordering::Relaxed) != me {
                b.owner.store(0, Ordering::Relaxed);
            }
        });
        self.slab.for_each(|t| {
            t.release_lost();
        });
        self.slab.find_free();
    }

    pub(crate) fn fork_rebase(&self, correction: i64) {
        let s = self.stats();
        let ended = [Counter::Fired, Counter::Stopped, Counter::Replaced]
            .iter()
            .map(|&c| s.get(c))
            .sum::<u64>();
        let pending = s.pending.wrapping_add_signed(correction);
        let off = (ended + pending).wrapping_sub(s.get(Counter::Armed));
        self.blocks.shared.add(Counter::Armed, off);
    }
}

/// GOTIMER_VERIFY=1 in the environment. Read once; a race of two readers is harmless,
/// and nothing can block a fork child here.
fn verify_from_environment() -> bool {
    static SET: once_cell::race::OnceBool = once_cell::race::OnceBool::new();
    SET.get_or_init(|| environment_says(c"GOTIMER_VERIFY", c"1"))
}

impl Procs for Sched {
    #[inline(always)]
    fn host(&self) -> &Host {
        &self.host
    }

    #[inline]
    fn now(&self) -> i64 {
        self.clock.now(&self.host)
    }

    #[inline(always)]
    fn of(p: &Timers) -> &Sched {
        // SAFETY: P::new was told so, and a sched outlives its Ps.
        unsafe { &*p.owner.cast() }
    }

    fn pick(&self, last: u32) -> &Timers {
        if let Some(p) = tls::bound_p(self) {
            return p;
        }
        let p = self.registry.p(last);
        if last != 0 && !p.is_dead() {
            p
        } else {
            self.registry.choose()
        }
    }

    fn wake(&self, tm: &Timers, when: i64) {
        let p = self.registry.p(tm.index);
        if p.index == 0 {
            return; // the orphan set: nobody sleeps on it, and gt_p_new adopts it
        }
        p.slot.call_hook(|| {
            self.block().add(Counter::Wakes, 1);
            self.host.assert_unlocked();
            tls::in_hook_of(&p.slot, || {
                match self.host.hooks().wake_netpoller {
                    Some(f) => {
                        let _out = Outside::enter(self.host.is_watched());
                        // SAFETY: the embedder's hook; the P is not freed before we are done.
                        unsafe { f(self.host.hooks().ctx, p.handle().cast(), when) }
                    }
                    None => p.note.wakeup(),
                }
                p.update_fd_now();
            });
        });
        if p.slot.is_left_to_hook() && tls::hooks_of(&p.slot) == 0 {
            registry::finish_free(self, p);
        }
    }

    fn set_mask(&self, p: u32, on: bool) {
        self.registry.set_mask(p, on);
    }

    fn hold(&self, tm: &Timers) {
        if !self.registry.p(tm.index).slot.hold() {
            self.host.throw("gotimer: a P was used after gt_p_free");
        }
    }

    fn unhold(&self, tm: &Timers) {
        let slot = &self.registry.p(tm.index).slot;
        if self.registry.free.unhold(tm.index, slot) {
            self.leave_open();
        }
    }

    fn pass_done(&self, tm: &Timers) {
        self.registry.p(tm.index).update_fd();
    }

    #[inline]
    fn block(&self) -> &Block {
        tls::block(self)
    }

    #[inline(always)]
    fn quick_block(p: &Timers) -> Option<&Block> {
        tls::quick_block(p)
    }

    #[inline(always)]
    fn quick_block_here(&self) -> Option<&Block> {
        tls::quick_block_here(self)
    }

    #[inline(always)]
    fn quick_p(p: &Timers) -> Option<&Timers> {
        tls::quick_p(p).map(|p| &**p)
    }

    fn verifying(&self) -> bool {
        self.verify
    }

    #[inline(always)]
    fn generation(&self, t: TimerRef) -> u32 {
        slab_generation(t)
    }

    fn raise_generation(&self, t: TimerRef) {
        slab_raise_generation(t);
    }

    fn give_back(&self, t: TimerRef) {
        let mut last = false;
        self.slab.give_back(t, || last = true);
        if last {
            self.unref();
        }
    }

    #[inline(always)]
    fn give_back_to(&self, block: &Block, t: TimerRef) {
        cache::take_back(block, &self.slab.pool, t);
    }
}
