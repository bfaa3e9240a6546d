//! Bytes to operations. Any bytes make sense, and a small change of the bytes is most often
//! a small change of the sequence. What the fuzzer may choose freely is made to collide:
//! few timers, few times.

use crate::world::ops::*;

/// Operations in a sequence, at most.
const OPS: usize = 160;

struct Bytes<'a>(std::slice::Iter<'a, u8>);

impl Bytes<'_> {
    /// The next byte; at the end 0.
    fn byte(&mut self) -> u8 {
        self.0.next().copied().unwrap_or(0)
    }

    fn done(&self) -> bool {
        self.0.as_slice().is_empty()
    }

    fn below(&mut self, n: u8) -> u8 {
        self.byte() % n
    }

    /// How long: mostly short, now and then 0, negative, or past the end of time.
    fn duration(&mut self) -> i64 {
        match self.byte() {
            b @ 0..200 => i64::from(b),
            b @ 200..240 => 100 - i64::from(b), // down to -139
            b @ 240..253 => 1 << (b - 240),
            253 => i64::MAX / 3,
            254 => i64::MAX - 1,
            255 => i64::MAX,
        }
    }

    fn when(&mut self) -> When {
        match self.byte() {
            b @ 0..200 => When::In(i64::from(b)),
            b @ 200..248 => When::In(200 - i64::from(b)),
            248 => When::At(i64::MAX),
            249 => When::At(i64::MAX - 1),
            250 => When::At(0),
            251 => When::At(-1),
            252 => When::At(1),
            b => When::In(1 << (b - 245)),
        }
    }

    fn period(&mut self) -> i64 {
        match self.byte() {
            0..160 => 0,
            b @ 160..252 => i64::from(b - 159),
            252 => -1,
            253 => i64::MAX / 3,
            254 => i64::MAX,
            255 => 1 << 40,
        }
    }

    fn now(&mut self) -> Option<When> {
        match self.byte() {
            0..160 => None,
            b @ 160..250 => Some(When::In(i64::from(b) - 180)),
            250 => Some(When::At(-1)),
            251 => Some(When::At(i64::MAX)),
            b => Some(When::In(1 << (b - 245))),
        }
    }

    fn sel(&mut self, act: bool) -> Sel {
        match self.byte() {
            b @ 128.. if act && b % 2 == 0 => Sel::Me,
            b => Sel::N(b),
        }
    }

    fn p(&mut self, act: bool) -> PSel {
        match self.byte() {
            b if act && b >= 128 => PSel::Mine,
            b => PSel::N(b % 3),
        }
    }

    fn act(&mut self) -> Vec<Op> {
        let n = match self.byte() {
            0..100 => 0,
            100..180 => 1,
            180..240 => 2,
            _ => 4,
        };
        (0..n).map(|_| self.op(true)).collect()
    }

    fn stop(&mut self) -> Stop {
        match self.below(12) {
            0..5 => Stop::Del,
            5 | 6 => Stop::Sync,
            7 => Stop::Shutdown,
            8 => Stop::Detach,
            9 | 10 => Stop::Free,
            _ => Stop::Any,
        }
    }

    /// `act`: for a callback.
    fn op(&mut self, act: bool) -> Op {
        let kind = self.byte();
        let flags = self.byte();
        let (by_id, on) = (flags & 1 != 0, flags & 6 == 6);
        match kind {
            0..12 => Op::New { drop: by_id },
            12..18 => Op::AfterFunc {
                d: self.duration(),
                drop: by_id,
            },
            18..26 => Op::NewChan {
                d: self.duration(),
                ticker: by_id,
            },
            26..110 => {
                let how = match flags >> 3 & 7 {
                    0 | 1 => How::Add,
                    2 | 3 => How::Reset,
                    h if flags & 0xc0 == 0xc0 => How::Again {
                        other_f: h == 5,
                        fresh: h == 6,
                        other_period: h == 7,
                    },
                    h => How::Mod {
                        f: h & 1 != 0,
                        fresh: h & 2 != 0,
                        act: if act { Vec::new() } else { self.act() },
                    },
                };
                Op::Arm {
                    t: self.sel(act),
                    how,
                    when: self.when(),
                    period: self.period(),
                    on: on.then(|| self.p(act)),
                    by_id,
                }
            }
            110..134 => Op::Stop {
                t: self.sel(act),
                how: self.stop(),
                by_id,
            },
            134..140 => Op::Reset {
                t: self.sel(act),
                d: self.duration(),
                by_id,
            },
            140..148 => Op::Recv {
                t: self.sel(act),
                by_id,
                block: on,
            },
            148..150 => Op::TimerFd { t: self.sel(act) },
            150..153 => Op::Slack {
                t: self.sel(act),
                ns: self.duration(),
            },
            153..176 => Op::Check {
                p: self.p(act),
                now: self.now(),
            },
            176..183 => Op::RunTimer {
                p: self.p(act),
                now: self.now(),
            },
            183..192 => Op::Others {
                me: by_id.then(|| self.p(act)),
                now: self.now(),
            },
            192..195 => Op::Adjust {
                p: self.p(act),
                now: self.now(),
                force: by_id,
            },
            195..197 => Op::Clean { p: self.p(act) },
            197..200 => Op::Trim { p: self.p(act) },
            200..203 => Op::Adopt {
                to: self.p(act),
                from: self.p(act),
            },
            203..205 => Op::PNew,
            205..208 => Op::PFree { p: self.p(act) },
            208 => Op::PFd { p: self.p(act) },
            209..211 => Op::Bind { p: self.p(act) },
            211 => Op::Unbind,
            212 => Op::Wakeup { p: self.p(act) },
            213 => Op::Nap { p: self.p(act) },
            214..226 => Op::SetTime(i64::from(self.below(120)) - 2),
            226..232 => Op::Advance(i64::from(self.below(120)) - 2),
            232..234 => Op::RunUntilIdle(i64::from(self.below(120)) - 2),
            234..236 => Op::Join,
            236 => Op::Leave,
            237 => Op::BubbleWait,
            238..241 => Op::Sleep(i64::from(self.below(120)) - 2),
            241..245 => Op::Wrong(flags),
            245..250 => Op::FailAlloc(flags % 6),
            250..254 => Op::StopPass(flags % 4),
            254.. if act => Op::Close,
            254.. => Op::Advance(200),
        }
    }
}

pub(crate) fn decode(data: &[u8]) -> (Setup, Vec<Op>) {
    let mut b = Bytes(data.iter());
    let flags = b.byte();
    let setup = Setup {
        ps: usize::from(1 + flags % 3),
        timers: usize::from(b.byte() % 16),
        verify: flags & 32 != 0,
        preempt: flags & 64 != 0,
        slack: if flags & 128 != 0 {
            i64::from(b.byte() % 32)
        } else {
            0
        },
    };
    let mut ops = Vec::new();
    while !b.done() && ops.len() < OPS {
        ops.push(b.op(false));
    }
    (setup, ops)
}
