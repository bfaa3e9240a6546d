//! The workloads of bench/core/workloads.h, threads.h and pause.h for peers in Rust; what each means is said there.
//! Options, results and the virtual clock are those of the programs in C (bench/core), linked in.

use std::ffi::{c_char, c_double, c_int, CStr, CString};
use std::sync::{Barrier, Mutex};

pub const SECOND: i64 = 1_000_000_000;
pub const MILLISECOND: i64 = 1_000_000;
pub const BASE: i64 = 1000 * SECOND;
const CHECK_EVERY: u64 = 64;
const BLOCK: u64 = 4096;
const STEP: i64 = 1000;
const OPS: u64 = 1 << 20;

/// `struct bench` of bench/core/common.h.
#[repr(C)]
pub struct Bench {
    workload: *const c_char,
    pub n: u64,
    pub seed: u64,
    threads: c_int,
    reps: c_int,
    quick: c_int,
    pub seconds: c_double,
}

/// The name that bench/core prints.
#[no_mangle]
pub static mut bench_program: *const c_char = std::ptr::null();

#[allow(non_upper_case_globals)]
mod c {
    use super::*;
    extern "C" {
        pub static mut bench: Bench;
        pub static mut vclock: i64;
        pub static mut vclock_on: c_int;
        pub fn real_now() -> i64;
        pub fn bench_options(argc: c_int, argv: *mut *mut c_char);
        pub fn bench_resident() -> c_double;
        pub fn bench_cpu() -> c_double;
        pub fn bench_emit(
            w: *const c_char,
            n: u64,
            threads: c_int,
            v: *const c_double,
            count: c_int,
            extra: *const c_char,
        );
        pub fn bench_emit_lateness(n: u64, late: *mut i64, cpu: c_double);
    }
}

/// The options. They are written once, in `run`, before any thread is made.
pub fn bench() -> &'static Bench {
    // SAFETY: see above.
    unsafe { &*std::ptr::addr_of!(c::bench) }
}

pub fn workload() -> &'static str {
    // SAFETY: bench_options has set it to an argument of the process.
    unsafe { CStr::from_ptr(bench().workload) }
        .to_str()
        .unwrap_or("")
}

pub fn threads() -> usize {
    bench().threads as usize
}

fn reps() -> usize {
    bench().reps as usize
}

pub fn real_now() -> i64 {
    // SAFETY: it only reads the clock.
    unsafe { c::real_now() }
}

/// Sets the virtual clock. While it is on, the threads of W5 and W6 only read it.
pub fn set_clock(now: i64) {
    // SAFETY: see above.
    unsafe { c::vclock = now }
}

pub fn clock_on(on: bool) {
    // SAFETY: called before threads are made.
    unsafe { c::vclock_on = on as c_int }
}

pub fn die(what: &str) -> ! {
    eprintln!("{}: {what}", workload());
    std::process::exit(1)
}

pub fn emit(name: &str, values: &[f64], extra: Option<&str>) {
    let (name, extra) = (
        CString::new(name).unwrap(),
        extra.map(|e| CString::new(e).unwrap()),
    );
    let extra = extra.as_ref().map_or(std::ptr::null(), |e| e.as_ptr());
    // SAFETY: the pointers live through the call.
    unsafe {
        c::bench_emit(
            name.as_ptr(),
            bench().n,
            bench().threads,
            values.as_ptr(),
            values.len() as c_int,
            extra,
        );
    }
}

/// splitmix64
pub struct Rng(pub u64);

impl Rng {
    #[inline(always)]
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e3779b97f4a7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58476d1ce4e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d049bb133111eb);
        z ^ z >> 31
    }

    #[inline(always)]
    pub fn below(&mut self, n: u64) -> u64 {
        ((self.draw() as u128 * n as u128) >> 64) as u64
    }

    /// 10 to 70 s after now
    #[inline(always)]
    pub fn when(&mut self, now: i64) -> i64 {
        now + 10 * SECOND + self.below(60 * SECOND as u64) as i64
    }
}

/// Counts firings; while a pause is measured each is an event.
#[derive(Default)]
pub struct Fired {
    pub count: u64,
    pub pause: Option<Box<Pause>>,
}

impl Fired {
    #[inline(always)]
    pub fn at(&mut self) {
        self.count += 1;
        if let Some(p) = &mut self.pause {
            p.event();
        }
    }
}

/// See bench/core/pause.h.
pub struct Pause {
    steps: Vec<u32>,
    at: usize,
    last: i64,
}

impl Pause {
    fn event(&mut self) {
        let d = (real_now() - self.last).clamp(1, u32::MAX as i64) as u32;
        let s = &mut self.steps[self.at];
        *s = if *s == 0 { d } else { d.min(*s) };
        self.at += 1;
        self.last = real_now();
    }
}

/// What a peer defines; the same as in bench/core/workloads.h.
pub trait Peer {
    const NAME: &'static CStr;
    const VERSION: &'static str;
    const ORDER: &'static str;
    const NOTES: &'static str;
    const MORE: &'static str = "";
    fn new(n: u64) -> Self;
    fn fired(&mut self) -> &mut Fired;
    fn arm(&mut self, i: u64, when: i64);
    fn rearm(&mut self, i: u64, when: i64);
    fn stop(&mut self, i: u64);
    fn fresh(&mut self, when: i64);
    fn check(&mut self, now: i64);
    fn tick(&mut self, i: u64, when: i64, period: i64);
    /// Workloads of its own; false: none of that name.
    fn more(_name: &str) -> bool {
        false
    }
}

fn arm_all<P: Peer>(p: &mut P, n: u64, rng: &mut Rng, base: i64) {
    for i in 0..n {
        p.arm(i, rng.when(base));
    }
}

/// Blocks of operations until `ops` are done or the time is up: ns per operation.
fn blocks(ops: u64, seconds: f64, mut block: impl FnMut()) -> f64 {
    let (mut done, begin) = (0, real_now());
    loop {
        block();
        done += BLOCK;
        let d = (real_now() - begin) as f64;
        if done >= ops || d >= seconds * 1e9 {
            return d / done as f64;
        }
    }
}

fn rearm<P: Peer>(p: &mut P, n: u64, now: &mut i64, step: i64, rng: &mut Rng) {
    for i in 0..BLOCK {
        if step != 0 && i % CHECK_EVERY == 0 {
            set_clock(*now);
            p.check(*now);
        }
        let k = rng.below(n);
        p.rearm(k, rng.when(*now));
        *now += step;
    }
}

fn w1<P: Peer>(step: i64) {
    let (n, mut now, mut rng) = (bench().n, BASE, Rng(bench().seed));
    set_clock(now);
    let mut p = P::new(n);
    arm_all(&mut p, n, &mut rng, now);
    p.check(now);
    let (warm, seconds) = match step {
        0 => (OPS.max(2 * n), 2.0 * bench().seconds),
        _ => (11 << 20, 4.0),
    };
    blocks(warm, seconds, || rearm(&mut p, n, &mut now, step, &mut rng));
    let ops = if n > OPS { 2 * OPS } else { OPS };
    let ns: Vec<f64> = (0..reps())
        .map(|_| {
            blocks(ops, bench().seconds, || {
                rearm(&mut p, n, &mut now, step, &mut rng)
            })
        })
        .collect();
    emit(workload(), &ns, None);
}

fn w2<P: Peer>(fresh: bool) {
    let (n, mut now, mut rng) = (bench().n, BASE, Rng(bench().seed));
    set_clock(now);
    let mut p = P::new(n + 1);
    arm_all(&mut p, n, &mut rng, now);
    let mut block = || {
        for i in 0..BLOCK {
            if i % CHECK_EVERY == 0 {
                set_clock(now);
                p.check(now);
            }
            if fresh {
                p.fresh(now + 30 * SECOND);
            } else {
                p.arm(n, now + 30 * SECOND);
                p.stop(n);
            }
            now += STEP;
        }
    };
    blocks(OPS / 2, bench().seconds, &mut block);
    let ns: Vec<f64> = (0..reps())
        .map(|_| blocks(OPS, bench().seconds, &mut block))
        .collect();
    emit(workload(), &ns, None);
}

fn w3<P: Peer>() {
    let (n, mut base, mut rng) = (bench().n, BASE, Rng(bench().seed));
    set_clock(base);
    let mut p = P::new(n);
    let (mut fire, mut both) = (vec![], vec![]);
    for r in 0..=reps() {
        let (mut armed, mut fired, mut rounds) = (0, 0, 0u64);
        loop {
            let t0 = real_now();
            arm_all(&mut p, n, &mut rng, base);
            let t1 = real_now();
            base += 100 * SECOND;
            set_clock(base);
            p.fired().count = 0;
            p.check(base);
            let t2 = real_now();
            if p.fired().count != n {
                die("not all timers have fired");
            }
            armed += t1 - t0;
            fired += t2 - t1;
            rounds += 1;
            if rounds * n >= OPS || (armed + fired) as f64 >= bench().seconds * 1e9 {
                break;
            }
        }
        if r > 0 {
            fire.push(fired as f64 / (n * rounds) as f64);
            both.push((armed + fired) as f64 / (n * rounds) as f64);
        }
    }
    emit("W3", &fire, None);
    emit("W3both", &both, None);
}

fn w4<P: Peer>() {
    let (n, mut now, mut rng) = (bench().n, BASE, Rng(bench().seed));
    set_clock(now);
    let mut p = P::new(n);
    for i in 0..n {
        let d = MILLISECOND + rng.below(99 * MILLISECOND as u64) as i64;
        p.tick(i, now + d, d);
    }
    let mut ns = vec![];
    for r in 0..=reps() {
        let (before, begin) = (p.fired().count, real_now());
        loop {
            for _ in 0..10 {
                now += MILLISECOND;
                set_clock(now);
                p.check(now);
            }
            let (fired, d) = (p.fired().count - before, (real_now() - begin) as f64);
            if fired >= OPS / 2 || d >= bench().seconds * 1e9 {
                if r > 0 {
                    ns.push(d / fired as f64);
                }
                break;
            }
        }
    }
    emit("W4", &ns, None);
}

/// Runs `enter` on each thread, then, in step, what it returns: that does so many operations. A repetition lasts from
/// the first thread's begin to the last one's end.
pub fn team<F: FnMut(u64)>(enter: impl Fn(usize) -> F + Sync) {
    let (barrier, ops) = (Barrier::new(threads()), Mutex::new(0));
    let times = Mutex::new(vec![(i64::MAX, 0); reps()]);
    std::thread::scope(|scope| {
        for t in 0..threads() {
            let (barrier, ops, times, enter) = (&barrier, &ops, &times, &enter);
            scope.spawn(move || {
                let mut work = enter(t);
                barrier.wait();
                let begin = real_now();
                work(OPS / 16);
                if t == 0 {
                    let ns = (real_now() - begin) as f64 / (OPS / 16) as f64;
                    *ops.lock().unwrap() =
                        ((bench().seconds * 1e9 / ns) as u64).clamp(BLOCK, 2 * OPS);
                }
                barrier.wait();
                let ops = *ops.lock().unwrap();
                for r in 0..reps() {
                    barrier.wait();
                    let begin = real_now();
                    work(ops);
                    let end = real_now();
                    let time = &mut times.lock().unwrap()[r];
                    *time = (time.0.min(begin), time.1.max(end));
                }
            });
        }
    });
    let all = (ops.into_inner().unwrap() * threads() as u64) as f64;
    let ns: Vec<f64> = times
        .into_inner()
        .unwrap()
        .iter()
        .map(|t| (t.1 - t.0) as f64 / all)
        .collect();
    emit(workload(), &ns, None);
}

fn w6<P: Peer>() {
    let n = bench().n;
    set_clock(BASE);
    team(|t| {
        let mut rng = Rng(bench().seed + t as u64 * 1000003);
        let mut p = P::new(n);
        arm_all(&mut p, n, &mut rng, BASE);
        p.check(BASE);
        move |ops| {
            for _ in 0..ops {
                let k = rng.below(n);
                p.rearm(k, rng.when(BASE));
            }
        }
    });
}

fn w8<P: Peer>() {
    let (n, mut rng) = (bench().n, Rng(bench().seed));
    set_clock(BASE);
    // SAFETY: it reads /proc.
    let before = unsafe { c::bench_resident() };
    let mut p = P::new(n);
    arm_all(&mut p, n, &mut rng, BASE);
    // SAFETY: as above.
    let bytes = (unsafe { c::bench_resident() } - before) / n as f64;
    emit("W8", &[bytes], Some("\"unit\": \"bytes\""));
    std::mem::forget(p);
}

pub fn cpu() -> f64 {
    // SAFETY: it asks the kernel.
    unsafe { c::bench_cpu() }
}

pub fn emit_lateness(mut late: Vec<i64>, cpu: f64) {
    // SAFETY: the array has that length.
    unsafe { c::bench_emit_lateness(late.len() as u64, late.as_mut_ptr(), cpu) }
}

fn pause_event<P: Peer>(p: &mut P) {
    if let Some(x) = &mut p.fired().pause {
        x.event();
    }
}

fn pause_check<P: Peer>(p: &mut P, now: i64) {
    set_clock(now);
    p.check(now);
    pause_event(p);
}

fn pause_run<P: Peer>(p: &mut P, what: &str, n: u64, rng: &mut Rng) {
    let mut now = BASE;
    match what {
        "cancel" => {
            for i in 0..n {
                p.stop(i);
                pause_event(p);
                if i % CHECK_EVERY == 0 {
                    pause_check(p, now);
                }
            }
            for _ in 0..1000 {
                now += MILLISECOND;
                pause_check(p, now);
            }
        }
        "shorten" => {
            for i in 0..n / 2 {
                let k = rng.below(n);
                p.rearm(k, now + SECOND + rng.below(9 * SECOND as u64) as i64);
                pause_event(p);
                if i % CHECK_EVERY == 0 {
                    pause_check(p, now);
                }
                now += STEP;
            }
            let end = now + 11 * SECOND;
            while now < end {
                now += MILLISECOND;
                pause_check(p, now);
            }
        }
        "burst" => pause_check(p, now + 100 * SECOND),
        _ => {
            let (end, mut i) = (now + 12 * SECOND, 0);
            while now < end {
                let k = rng.below(n);
                p.rearm(k, rng.when(now));
                pause_event(p);
                if i % CHECK_EVERY == 0 {
                    pause_check(p, now);
                }
                now += 5000;
                i += 1;
            }
        }
    }
}

fn pauses<P: Peer>() {
    let n = bench().n;
    for what in ["cancel", "shorten", "burst", "churn"] {
        let mut pause = Box::new(Pause {
            steps: vec![0; 3 * n as usize + 4_000_000],
            at: 0,
            last: 0,
        });
        for _ in 0..reps() {
            let mut rng = Rng(bench().seed);
            set_clock(BASE);
            let mut p = P::new(n);
            for i in 0..n {
                let soon = BASE + 10 * SECOND + rng.below(SECOND as u64) as i64;
                p.arm(
                    i,
                    if what == "burst" {
                        soon
                    } else {
                        rng.when(BASE)
                    },
                );
            }
            p.check(BASE);
            pause.at = 0;
            pause.last = real_now();
            p.fired().pause = Some(pause);
            pause_run(&mut p, what, n, &mut rng);
            pause = p.fired().pause.take().unwrap();
        }
        let longest = pause.steps[..pause.at].iter().max().copied().unwrap_or(0);
        let extra = format!(
            "\"unit\": \"us\", \"events\": {}, \"runs\": {}",
            pause.at,
            reps()
        );
        emit(
            &format!("pause-{what}"),
            &[longest as f64 / 1e3],
            Some(&extra),
        );
    }
}

/// What each program's main calls.
pub fn run<P: Peer>() {
    // SAFETY: no other thread is there yet.
    unsafe { bench_program = P::NAME.as_ptr() };
    let args: Vec<CString> = std::env::args().map(|a| CString::new(a).unwrap()).collect();
    if args.len() == 2 && args[1].to_bytes() == b"--list" {
        println!(
            "{{\"peer\": {:?}, \"version\": {:?}, \"order\": {:?}, \"notes\": {{{}}}, \"workloads\": [\"W1\", \"W1roll\", \
             \"W2\", \"W2new\", \"W3\", \"W3both\", \"W4\", \"W6\", \"W8\", \"pause\"{}]}}",
            P::NAME.to_str().unwrap(),
            P::VERSION,
            P::ORDER,
            P::NOTES,
            P::MORE
        );
        return;
    }
    let mut argv: Vec<*mut c_char> = args.iter().map(|a| a.as_ptr() as *mut c_char).collect();
    // SAFETY: bench_options reads them, and keeps pointers into args, which lives to the end.
    unsafe { c::bench_options(argv.len() as c_int, argv.as_mut_ptr()) };
    clock_on(true);
    match workload() {
        "W1" => w1::<P>(0),
        "W1roll" => w1::<P>(STEP),
        "W2" => w2::<P>(false),
        "W2new" => w2::<P>(true),
        "W3" => w3::<P>(),
        "W4" => w4::<P>(),
        "W6" => w6::<P>(),
        "W8" => w8::<P>(),
        "pause" => pauses::<P>(),
        other => {
            if !P::more(other) {
                die("no such workload here; see --list");
            }
        }
    }
    // Some peers take long to take down; the results are out.
    std::process::exit(0);
}
