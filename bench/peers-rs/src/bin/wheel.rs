//! hierarchical_hash_wheel_timer in the workloads: its cancellable wheel, ticked by the check; W7 is its timer thread.
//! It counts in whole milliseconds; deadlines are rounded up. What is stopped or moved stays in the wheel until
//! its time.

use gotimer_peers::*;
use hierarchical_hash_wheel_timer::thread_timer::TimerWithThread;
use hierarchical_hash_wheel_timer::wheels::cancellable::{
    CancellableTimerEntry, QuadWheelWithOverflow,
};
use hierarchical_hash_wheel_timer::wheels::Skip;
use hierarchical_hash_wheel_timer::{ClosureTimer, TimerError};
use std::ffi::CStr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Debug)]
struct Entry {
    id: u64,
}

impl CancellableTimerEntry for Entry {
    type Id = u64;
    fn id(&self) -> &u64 {
        &self.id
    }
}

struct Wheel {
    wheel: QuadWheelWithOverflow<Entry>,
    ms: i64,
    n: u64,
    periods: Vec<(i64, i64)>, // W4: when next, and the period
    fired: Fired,
}

impl Wheel {
    /// In how many ticks, at least 1.
    fn ahead(&self, when: i64) -> Duration {
        Duration::from_millis(((when + MILLISECOND - 1) / MILLISECOND - self.ms).max(1) as u64)
    }

    fn insert(&mut self, i: u64, when: i64) {
        let d = self.ahead(when);
        if let Err(TimerError::Expired(_)) = self
            .wheel
            .insert_ref_with_delay(Rc::new(Entry { id: i }), d)
        {
            die("it took an arming for expired");
        }
    }
}

impl Peer for Wheel {
    const NAME: &'static CStr = c"hash wheel";
    const VERSION: &'static str = concat!(
        "(hierarchical_hash_wheel_timer ",
        env!("WHEEL_VERSION"),
        ")"
    );
    const ORDER: &'static str = "1 ms ticks";
    const NOTES: &'static str =
        "\"W1\": \"what is moved stays in the wheel until its time\", \"W5\": \"not thread-safe\"";
    const MORE: &'static str = ", \"W7\"";

    fn new(n: u64) -> Self {
        let periods = if workload() == "W4" {
            vec![(0, 0); n as usize]
        } else {
            vec![]
        };
        Wheel {
            wheel: QuadWheelWithOverflow::new(),
            ms: BASE / MILLISECOND,
            n,
            periods,
            fired: Fired::default(),
        }
    }

    fn fired(&mut self) -> &mut Fired {
        &mut self.fired
    }

    #[inline(always)]
    fn arm(&mut self, i: u64, when: i64) {
        self.insert(i, when);
    }

    #[inline(always)]
    fn rearm(&mut self, i: u64, when: i64) {
        let _ = self.wheel.cancel(&i);
        self.insert(i, when);
    }

    fn stop(&mut self, i: u64) {
        let _ = self.wheel.cancel(&i);
    }

    fn fresh(&mut self, when: i64) {
        let i = self.n;
        self.insert(i, when);
        let _ = self.wheel.cancel(&i);
    }

    fn tick(&mut self, i: u64, when: i64, period: i64) {
        self.periods[i as usize] = (when, period);
        self.insert(i, when);
    }

    fn check(&mut self, now: i64) {
        let end = now / MILLISECOND;
        while self.ms < end {
            match self.wheel.can_skip() {
                Skip::Millis(ms) => {
                    let ms = (ms as i64).min(end - self.ms);
                    self.wheel.skip(ms as u32);
                    self.ms += ms;
                }
                // One that is empty has no time to keep, but ours goes on: what is armed next counts from it.
                Skip::Empty => self.ms = end,
                Skip::None => {
                    let due = self.wheel.tick();
                    self.ms += 1;
                    for e in due {
                        self.fired.at();
                        if let Some(&(when, period)) = self.periods.get(e.id as usize) {
                            self.periods[e.id as usize].0 = when + period;
                            self.insert(e.id, when + period);
                        }
                    }
                }
            }
        }
    }

    fn more(name: &str) -> bool {
        if name != "W7" {
            return false;
        }
        clock_on(false);
        let (n, mut rng) = (bench().n, Rng(bench().seed));
        let timer = TimerWithThread::for_uuid_closures();
        let late = Arc::new(Mutex::new(Vec::with_capacity(n as usize)));
        let (begin, before) = (real_now() + 50 * MILLISECOND, cpu());
        for i in 0..n {
            let (at, late) = (begin + rng.below(SECOND as u64) as i64, late.clone());
            let id = hierarchical_uuid(i);
            let d = Duration::from_nanos((at - real_now()) as u64 + (MILLISECOND - 1) as u64);
            timer
                .timer_ref()
                .schedule_action_once(id, d, move |_| late.lock().unwrap().push(real_now() - at));
        }
        while late.lock().unwrap().len() < n as usize {
            std::thread::sleep(Duration::from_millis(100));
        }
        let used = cpu() - before;
        let late = std::mem::take(&mut *late.lock().unwrap());
        emit_lateness(late, used);
        true
    }
}

fn hierarchical_uuid(i: u64) -> uuid::Uuid {
    uuid::Uuid::from_u128(i as u128 + 1)
}

fn main() {
    run::<Wheel>();
}
