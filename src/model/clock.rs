//! A clock that may step back, read by several threads while it does: time never goes back, and
//! what a step takes away is added once.

use super::explore;
use crate::host::{Clock, Hooks, Host, Kind};
use std::ffi::c_void;
use std::sync::Arc;

/// What the host's clock says. Read by an access that sees the last value, as a clock is.
struct Raw(loom::sync::atomic::AtomicI64);

unsafe extern "C" fn nanotime(ctx: *mut c_void) -> i64 {
    // SAFETY: the model's Raw, which outlives its readers.
    let raw = unsafe { &*ctx.cast::<Raw>() };
    raw.0.fetch_add(0, loom::sync::atomic::Ordering::SeqCst)
}

struct World {
    raw: Box<Raw>,
    host: Host,
    clock: Clock,
}

// SAFETY: the hook's ctx is the Raw, which is atomic.
unsafe impl Send for World {}
// SAFETY: as above.
unsafe impl Sync for World {}

impl World {
    fn new(raw: i64) -> World {
        let raw = Box::new(Raw(loom::sync::atomic::AtomicI64::new(raw)));
        let hooks = Hooks {
            ctx: std::ptr::from_ref(&*raw).cast_mut().cast(),
            nanotime: Some(nanotime),
            ..Hooks::default()
        };
        World {
            raw,
            host: Host::new(hooks),
            clock: Clock::new(Kind::Host),
        }
    }

    /// Not a store: see sync::store_over.
    fn set(&self, raw: i64) {
        self.raw.0.swap(raw, loom::sync::atomic::Ordering::SeqCst);
    }

    fn now(&self) -> i64 {
        self.clock.now(&self.host)
    }

    /// Two readings of one thread.
    fn twice(&self) -> i64 {
        let first = self.now();
        let second = self.now();
        assert!(first <= second, "time went back from {first} to {second}");
        second
    }
}

/// The clock was read at 100, steps back to 50, goes on to 60, and steps back by a little, while two
/// threads read it; then it steps back again.
#[test]
fn model_two_who_read_a_clock_that_steps_back() {
    explore(3, 2, false, || {
        let w = Arc::new(World::new(100));
        assert_eq!(w.now(), 100);
        let readers = [(); 2].map(|()| {
            let w = w.clone();
            loom::thread::spawn(move || w.twice())
        });
        for raw in [50, 60, 55] {
            w.set(raw);
        }
        let last = readers
            .map(|r| r.join().unwrap())
            .into_iter()
            .max()
            .unwrap();
        let now = w.now();
        // From the step on it has gone on by 10, of which a reading that mended it saw some.
        assert!((100..=110).contains(&now) && last <= now, "{last}, {now}");
        w.set(20);
        assert_eq!(w.now(), now);
        w.set(25);
        assert_eq!(w.now(), now + 5);
    });
}

/// One that goes on is as it is.
#[test]
fn model_two_who_read_a_clock_that_goes_on() {
    explore(3, 3, false, || {
        let w = Arc::new(World::new(100));
        let readers = [(); 2].map(|()| {
            let w = w.clone();
            loom::thread::spawn(move || w.twice())
        });
        w.set(110);
        w.set(120);
        assert!(readers.map(|r| r.join().unwrap()).into_iter().max() <= Some(120));
        assert_eq!(w.now(), 120);
    });
}

/// What one thread has read another one that hears of it does not read earlier.
#[test]
fn model_a_reading_that_was_passed_on() {
    explore(3, 3, false, || {
        let w = Arc::new(World::new(100));
        assert_eq!(w.now(), 100);
        let heard = Arc::new(loom::sync::atomic::AtomicI64::new(0));
        let teller = {
            let (w, heard) = (w.clone(), heard.clone());
            loom::thread::spawn(move || {
                heard.store(w.now(), loom::sync::atomic::Ordering::Release);
            })
        };
        let hearer = {
            let (w, heard) = (w.clone(), heard.clone());
            loom::thread::spawn(move || {
                let before = heard.load(loom::sync::atomic::Ordering::Acquire);
                let now = w.now();
                assert!(before <= now, "heard of {before}, reads {now}");
            })
        };
        w.set(50);
        w.set(60);
        teller.join().unwrap();
        hearer.join().unwrap();
    });
}
