//! `verifyTimerHeap` and `badTimer` of runtime/time.go: is the heap a heap, and what is
//! said when it is not.

use super::Procs;
use super::timer::{State, TimerRef};
use super::timers::Held;

/// What can be broken. The numbers are those of the C API and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Rule {
    Order = 1,
    Owner = 2,
    Key = 3,
    State = 4,
    Deleted = 5,
    Early = 6,
}

impl Rule {
    pub(crate) const ALL: [Rule; 6] = [
        Rule::Order,
        Rule::Owner,
        Rule::Key,
        Rule::State,
        Rule::Deleted,
        Rule::Early,
    ];

    pub(crate) const fn text(self) -> &'static std::ffi::CStr {
        match self {
            Rule::Order => c"GT_RULE_ORDER: an entry's key is smaller than its parent's",
            Rule::Owner => c"GT_RULE_OWNER: a timer in this heap belongs to another P",
            Rule::Key => c"GT_RULE_KEY: a timer's recorded key differs from its entry's, or from that of a Waiting timer's when",
            Rule::State => c"GT_RULE_STATE: a timer in a heap is Removed",
            Rule::Deleted => c"GT_RULE_DELETED: the count of dead entries is wrong",
            Rule::Early => c"GT_RULE_EARLY: a timer would have fired before its time",
        }
    }
}

/// Looks at every entry; the first that breaks a rule is named.
pub(crate) fn verify_timer_heap<S: Procs>(h: &mut Held<'_, S>) -> Option<(Rule, TimerRef)> {
    let counted = h.tm.deleted_and_changes();
    let mut dead = 0;
    h.heap.settle();
    for i in 0..h.heap.total() {
        let e = h.heap.get(i);
        let l = e.t.lock(h.s.host());
        let broken = if l.state == State::Removed {
            Some(Rule::State)
        } else if !std::ptr::eq(l.home(h.s), h.tm) {
            Some(Rule::Owner)
        } else if l.key != e.when || (l.state == State::Waiting && l.due() != l.key) {
            Some(Rule::Key)
        } else {
            None
        };
        dead += (l.when == 0) as u32;
        l.put_back();
        if let Some(rule) = broken {
            return Some((rule, e.t));
        }
    }
    if let Some(i) = h.heap.first_disorder() {
        return Some((Rule::Order, h.heap.get(i).t));
    }
    // Others may stop and re-arm meanwhile: the count is judged if nobody did.
    let judged = h.tm.deleted_and_changes() == counted && h.heap.total() > 0;
    (judged && dead != h.tm.without_taken_off(counted)).then(|| (Rule::Deleted, h.heap.get(0).t))
}

/// How many entries are dead. Only where nobody else is about: in a fork child.
pub(crate) fn count_deleted<S: Procs>(h: &mut Held<'_, S>) -> u32 {
    h.heap.settle();
    let mut dead = 0;
    for i in 0..h.heap.total() {
        let t = h.heap.get(i).t;
        let l = t.lock(h.s.host());
        dead += (l.when == 0) as u32;
        l.put_back();
    }
    dead
}

/// Go's badTimer: the data structures are corrupt, by a bug or by a stray write. Says
/// which timer and which rule, through the host's throw hook, and does not come back.
#[cold]
#[inline(never)]
pub(crate) fn badtimer<S: Procs>(s: &S, t: TimerRef, rule: Rule) -> ! {
    let word = t.flags();
    s.host().throw(&format!(
        "gotimer: timer {:p} (status {:?}, word {word:#x}): {}",
        t.as_ptr(),
        State::of(word),
        rule.text().to_string_lossy()
    ))
}
