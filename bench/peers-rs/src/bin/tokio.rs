//! tokio in the workloads: a current-thread runtime, a Sleep for each timer, a turn of the runtime as the check. tokio
//! counts in whole milliseconds, rounded up. A firing is the call of the Sleep's waker. To stop is to drop the
//! Sleep and make a new one.

use gotimer_peers::*;
use std::ffi::CStr;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, RawWaker, RawWakerVTable, Waker};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, Interval, MissedTickBehavior, Sleep};

/// What a waker points to: the peer's account, and the list of tickers to poll.
struct Slot {
    account: *mut Account,
    number: u64,
}

#[derive(Default)]
struct Account {
    fired: Fired,
    ready: Vec<u64>,
    keep: bool,
}

static VTABLE: RawWakerVTable =
    RawWakerVTable::new(|p| RawWaker::new(p, &VTABLE), wake, wake, |_| ());

fn wake(slot: *const ()) {
    // SAFETY: slots and accounts outlive the runtime's turn; only the thread of the runtime calls wakers.
    unsafe {
        let slot = &*(slot as *const Slot);
        let account = &mut *slot.account;
        account.fired.at();
        if account.keep {
            account.ready.push(slot.number);
        }
    }
}

struct Tokio {
    rt: &'static Runtime,
    sleeps: Vec<Sleep>, // never moved
    intervals: Vec<Interval>,
    slots: Vec<Slot>,
    base: Instant, // the Instant of BASE
    account: Box<Account>,
}

const FAR: Duration = Duration::from_secs(1 << 30);

impl Tokio {
    fn waker(&self, i: u64) -> ManuallyDrop<Waker> {
        let slot = &self.slots[i as usize] as *const Slot;
        // SAFETY: the table's functions do what a waker's must; the slots stay where they are.
        ManuallyDrop::new(unsafe { Waker::from_raw(RawWaker::new(slot as *const (), &VTABLE)) })
    }

    #[inline(always)]
    fn instant(&self, when: i64) -> Instant {
        self.base + Duration::from_nanos((when - BASE) as u64)
    }

    #[inline(always)]
    fn sleep(&mut self, i: u64) -> Pin<&mut Sleep> {
        // SAFETY: the vector is never moved nor resized.
        unsafe { Pin::new_unchecked(&mut self.sleeps[i as usize]) }
    }

    fn poll_interval(&mut self, i: u64) {
        let waker = self.waker(i);
        let mut cx = Context::from_waker(&waker);
        while self.intervals[i as usize].poll_tick(&mut cx).is_ready() {}
    }
}

impl Peer for Tokio {
    const NAME: &'static CStr = c"tokio";
    const VERSION: &'static str = env!("TOKIO_VERSION");
    const ORDER: &'static str = "1 ms ticks";
    const NOTES: &'static str = "\"W5\": \"each Sleep under a mutex of its own\", \"W2\": \"to stop is to drop and make a new one\"";
    const MORE: &'static str = ", \"W5\", \"W7\"";

    fn new(n: u64) -> Self {
        let rt: &'static Runtime = Box::leak(Box::new(
            Builder::new_current_thread().enable_all().build().unwrap(),
        ));
        std::mem::forget(rt.enter());
        let base = Instant::now();
        let mut account = Box::<Account>::default();
        let at: *mut Account = &mut *account;
        Tokio {
            rt,
            sleeps: (0..n)
                .map(|_| tokio::time::sleep_until(base + FAR))
                .collect(),
            intervals: vec![],
            slots: (0..n)
                .map(|number| Slot {
                    account: at,
                    number,
                })
                .collect(),
            base,
            account,
        }
    }

    fn fired(&mut self) -> &mut Fired {
        &mut self.account.fired
    }

    #[inline(always)]
    fn arm(&mut self, i: u64, when: i64) {
        let (at, waker) = (self.instant(when), self.waker(i));
        let mut s = self.sleep(i);
        s.as_mut().reset(at);
        let _ = s.poll(&mut Context::from_waker(&waker));
    }

    #[inline(always)]
    fn rearm(&mut self, i: u64, when: i64) {
        let at = self.instant(when);
        self.sleep(i).reset(at);
    }

    fn stop(&mut self, i: u64) {
        let far = self.base + FAR;
        // SAFETY: dropped in place, as a pinned value must be, and another put in its place.
        unsafe {
            let at: *mut Sleep = &mut self.sleeps[i as usize];
            std::ptr::drop_in_place(at);
            at.write(tokio::time::sleep_until(far));
        }
    }

    fn fresh(&mut self, when: i64) {
        let waker = self.waker(0);
        let mut s = Box::pin(tokio::time::sleep_until(self.instant(when)));
        let _ = s.as_mut().poll(&mut Context::from_waker(&waker));
    }

    fn tick(&mut self, i: u64, when: i64, period: i64) {
        self.account.keep = true;
        let mut interval =
            tokio::time::interval_at(self.instant(when), Duration::from_nanos(period as u64));
        interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
        self.intervals.push(interval);
        self.poll_interval(i);
    }

    fn check(&mut self, _now: i64) {
        self.rt.block_on(tokio::task::yield_now());
        while let Some(i) = self.account.ready.pop() {
            self.poll_interval(i);
        }
    }

    fn more(name: &str) -> bool {
        clock_on(false);
        match name {
            "W5" => w5(),
            "W7" => w7(),
            _ => return false,
        }
        true
    }
}

/// In real time, on a runtime with as many threads, which have nothing to do: nothing comes due.
fn w5() {
    let rt = Builder::new_multi_thread()
        .worker_threads(threads())
        .enable_all()
        .build()
        .unwrap();
    let _guard = rt.enter();
    let (n, all) = (bench().n, bench().n * threads() as u64);
    let base = Instant::now();
    let mut rng = Rng(bench().seed);
    let mut sleep = || {
        let mut s = Box::pin(tokio::time::sleep_until(
            base + Duration::from_nanos(rng.when(0) as u64),
        ));
        let _ = s.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        Mutex::new(s)
    };
    let sleeps: Vec<Mutex<Pin<Box<Sleep>>>> = (0..all).map(|_| sleep()).collect();
    team(|t| {
        let (sleeps, mut rng) = (&sleeps, Rng(bench().seed + t as u64 * 1000003 + n));
        move |ops| {
            for _ in 0..ops {
                let k = rng.below(all);
                let at = base + Duration::from_nanos(rng.when(0) as u64);
                sleeps[k as usize].lock().unwrap().as_mut().reset(at);
            }
        }
    });
}

/// As a program of tokio's would: a task for each timer.
fn w7() {
    let rt = Builder::new_multi_thread().enable_all().build().unwrap();
    let (n, mut rng) = (bench().n as usize, Rng(bench().seed));
    let late: Arc<Vec<AtomicU64>> = Arc::new((0..n).map(|_| AtomicU64::new(0)).collect());
    let before = cpu();
    let (begin, base) = (real_now(), Instant::now());
    rt.block_on(async {
        let tasks: Vec<_> = (0..n)
            .map(|i| {
                let (d, late) = (
                    50 * MILLISECOND + rng.below(SECOND as u64) as i64,
                    late.clone(),
                );
                tokio::spawn(async move {
                    tokio::time::sleep_until(base + Duration::from_nanos(d as u64)).await;
                    late[i].store((real_now() - begin - d) as u64, Ordering::Relaxed);
                })
            })
            .collect();
        for t in tasks {
            t.await.unwrap();
        }
    });
    let used = cpu() - before;
    emit_lateness(
        late.iter()
            .map(|l| l.load(Ordering::Relaxed) as i64)
            .collect(),
        used,
    );
}

fn main() {
    run::<Tokio>();
}
