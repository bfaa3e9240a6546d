//! Random programs in random schedules (shuttle): three to five threads, each of which does a
//! few operations on three to six timers of two Ps, or two or three threads with one each on two
//! timers; with callbacks that do some too; and the common end check.
//!
//! GT_SCHEDULES: how many schedules each test tries. GT_SEED: the first seed; it is printed.
//! A schedule with which a test fails is written to a file below GT_SCHEDULE_DIR, and
//! GT_SCHEDULE=file replays it, telling the program.

use super::ops::{Op, Out, end};
use super::world::{Mini, PS};
use shuttle::rand::{RngCore, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use shuttle::{Config, FailurePersistence, Runner};
use std::env::var;
use std::time::{SystemTime, UNIX_EPOCH};

/// splitmix64.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// A few times that collide often.
const TIMES: [i64; 8] = [5, 10, 20, 30, 50, 80, 120, 200];

/// How a timer ends.
#[derive(Clone, Copy, PartialEq)]
enum End {
    /// It is used by its handle, and not freed.
    Never,
    /// It is used by its id only.
    ById,
    /// The same, and its handle frees it, once.
    ByHandle,
    /// That is said already.
    Said,
}

/// What a program may do to a timer.
fn on_timer(rng: &mut Rng, i: usize, end: &mut End) -> Op {
    let when = TIMES[rng.below(8) as usize];
    let what = rng.below(14);
    match end {
        End::ByHandle if what >= 9 => {
            *end = End::Said;
            return Op::FreeFast(i);
        }
        End::ByHandle | End::Said if what >= 9 => return Op::Mod(i, when),
        _ => {}
    }
    match (what, *end != End::Never) {
        (0, true) => Op::Add(i, when),
        (0, false) => Op::AddFast(i, when),
        (1 | 2, _) => Op::Mod(i, when),
        (3, _) => Op::Tick(i, when),
        (4 | 5, _) => Op::Del(i),
        (6, _) => Op::Slack(i),
        (7, _) => Op::Look(i),
        (8, _) => Op::Shutdown(i),
        (9, true) => Op::Free(i),
        (10, true) => Op::Detach(i),
        (11.., true) => Op::Mod(i, when),
        (9, false) => Op::DelSync(i),
        (10, false) => Op::DelFast(i),
        (11.., false) => Op::ModFast(i, when),
    }
}

fn on_p(rng: &mut Rng) -> Op {
    let p = rng.below(PS as u64) as usize;
    let now = TIMES[rng.below(8) as usize];
    match rng.below(16) {
        0..=4 => Op::Check(p, now),
        5 => Op::Runtimer(p, now),
        6 => Op::Adjust(p),
        7 => Op::AdjustDue(p, now),
        8 => Op::Clean(p),
        9 => Op::Trim(p),
        10 => Op::Adopt(p),
        11 => Op::FreeOther(p),
        12..=13 => Op::Ask(p),
        _ => Op::AskAll,
    }
}

/// What the runtime's workers do.
fn as_worker(rng: &mut Rng, i: usize) -> Op {
    let p = rng.below(PS as u64) as usize;
    let time = TIMES[rng.below(8) as usize];
    match rng.below(4) {
        0 => Op::Poll,
        1 => Op::Woken(time),
        2 => Op::HandOver(p, time),
        _ => Op::ArmInCall(i, time),
    }
}

fn program() {
    let mut rng = Rng(thread_rng().next_u64());
    // Half of them are small: what takes three operations is found by those.
    let small = rng.below(2) == 0;
    let timers = if small { 2 } else { 3 + rng.below(4) as usize };
    let mut ends: Vec<End> = (0..timers)
        .map(|_| [End::Never, End::Never, End::ById, End::ByHandle][rng.below(4) as usize])
        .collect();
    let (with_drop, poller) = (rng.below(2) == 0, rng.below(4) == 0);
    let mut one = |rng: &mut Rng| {
        let i = rng.below(timers as u64) as usize;
        match rng.below(if poller { 4 } else { 3 }) {
            0 => on_p(rng),
            1 | 2 => on_timer(rng, i, &mut ends[i]),
            _ => as_worker(rng, i),
        }
    };
    let m = Mini::build(timers, with_drop, poller);
    let begin: Vec<Op> = (0..rng.below(8)).map(|_| one(&mut rng)).collect();
    let (most, each) = if small { (2, 1) } else { (3, 4) };
    let threads: Vec<Vec<Op>> = (0..most + rng.below(most))
        .map(|_| (0..1 + rng.below(each)).map(|_| one(&mut rng)).collect())
        .collect();
    // A callback that waits for itself would wait for ever.
    let acts: Vec<Option<Op>> = (0..timers)
        .map(|i| match on_timer(&mut rng, i, &mut ends[i]) {
            Op::DelSync(_) => None,
            op => Some(op),
        })
        .collect();
    if var("GT_SCHEDULE").is_ok() {
        eprintln!("{timers} timers, drop functions: {with_drop}, poller: {poller}");
        eprintln!("first: {begin:?}\ncallbacks: {acts:?}");
        for (i, ops) in threads.iter().enumerate() {
            eprintln!("thread {}: {ops:?}", i + 1);
        }
    }
    let mut outs: Vec<Out> = begin.into_iter().map(|op| op.run(&m)).collect();
    for (i, op) in acts.into_iter().enumerate() {
        m.act(i, op);
    }
    let handles: Vec<_> = threads
        .into_iter()
        .map(|ops| {
            let m = m.clone();
            shuttle::thread::spawn(move || -> Vec<Out> {
                ops.into_iter().map(|op| op.run(&m)).collect()
            })
        })
        .collect();
    outs.extend(handles.into_iter().flat_map(|h| h.join().unwrap()));
    for i in 0..timers {
        m.act(i, None);
    }
    end(&m, outs, with_drop);
    m.finish();
}

fn number(name: &str) -> Option<u64> {
    var(name).ok()?.parse().ok()
}

fn run(name: &str, scheduler: impl FnOnce(u64, usize) -> Box<dyn Scheduler + Send>) {
    let mut config = Config::new();
    config.silence_warnings = true; // loads see the last store: loom is for weak memory
    let dir = var("GT_SCHEDULE_DIR").unwrap_or_else(|_| ".".to_string());
    config.failure_persistence = FailurePersistence::File(Some(dir.into()));
    if let Ok(file) = var("GT_SCHEDULE") {
        let mut replay = ReplayScheduler::new_from_file(file).unwrap();
        replay.set_allow_incomplete();
        Runner::new(replay, config).run(program);
        return;
    }
    let clock = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = number("GT_SEED").unwrap_or_else(|| clock.map_or(1, |d| d.as_nanos() as u64));
    let n = number("GT_SCHEDULES").unwrap_or(2000) as usize;
    eprintln!("storm: {name}: {n} schedules, GT_SEED={seed}");
    let runs = Runner::new(scheduler(seed, n), config).run(program);
    eprintln!("storm: {name}: {runs} schedules passed");
}

#[test]
fn random() {
    run("random", |seed, n| {
        Box::new(RandomScheduler::new_from_seed(seed, n))
    });
}

/// At most three places where the order of priorities changes.
#[test]
fn pct() {
    run("pct", |seed, n| {
        Box::new(PctScheduler::new_from_seed(seed, 3, n))
    });
}
