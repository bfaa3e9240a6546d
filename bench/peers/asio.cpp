// asio.cpp: Boost.Asio in the workloads: one io_context, a steady_timer for each timer, poll() as the check. In virtual
// time it has no timerfd (vclock.c). A moved timer's old wait is completed with "aborted" by the next check, so W1
// has a check at every 64th operation here, too.
#include "../core/common.h"

#include <boost/asio.hpp>

#include <memory>
#include <mutex>
#include <vector>

#define PEER_NAME "Boost.Asio"
#define PEER_VERSION version()
#define PEER_ORDER "exact"
#define PEER_NOTES "\"W1\": \"with a check at every 64th, to complete the waits that were given up\", " \
                   "\"W5\": \"each timer under a mutex of its own: a timer is not thread-safe\""
#define PEER_FRESH
#define PEER_TICKERS
#define PEER_SHARED
#define PEER_REAL

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;

static const char *version() {
    static char text[40];
    snprintf(text, sizeof text, "%d.%d.%d", BOOST_VERSION / 100000, BOOST_VERSION / 100 % 1000, BOOST_VERSION % 100);
    return text;
}

static Clock::time_point point(int64_t ns) {
    return Clock::time_point(std::chrono::duration_cast<Clock::duration>(std::chrono::nanoseconds(ns)));
}

struct peer {
    asio::io_context context{1};
    std::vector<asio::steady_timer> timers;
    unsigned rearmed = 0;
    struct fired fired {};
};

static struct peer *peer_new(uint64_t n) {
    peer *p = new peer;
    p->timers.reserve(n);
    for (uint64_t i = 0; i < n; i++) p->timers.emplace_back(p->context);
    return p;
}

static inline void peer_check(struct peer *p, int64_t) {
    p->context.poll();
    p->context.restart();
}

static void peer_free(struct peer *p) {
    for (auto &t : p->timers) t.cancel();
    p->context.poll();
    delete p;
}

static struct fired *peer_fired(struct peer *p) {
    return &p->fired;
}

static inline void wait(struct peer *p, uint64_t i) {
    p->timers[i].async_wait([p, i](const boost::system::error_code &e) {
        if (!e) fired_at(&p->fired, i, p->timers[i].expiry().time_since_epoch().count());
    });
}

static inline void peer_arm(struct peer *p, uint64_t i, int64_t when) {
    p->timers[i].expires_at(point(when));
    wait(p, i);
}

static inline void peer_rearm(struct peer *p, uint64_t i, int64_t when) {
    peer_arm(p, i, when);
    if (++p->rearmed % 64 == 0) peer_check(p, vclock);
}

static inline void peer_stop(struct peer *p, uint64_t i) {
    p->timers[i].cancel();
}

static inline void peer_fresh(struct peer *p, int64_t when) {
    auto t = std::make_unique<asio::steady_timer>(p->context, point(when));
    t->async_wait([](const boost::system::error_code &) {});
}

static void tick(struct peer *p, uint64_t i, Clock::duration period) {
    p->timers[i].async_wait([p, i, period](const boost::system::error_code &e) {
        if (e) return;
        fired_at(&p->fired, i, p->timers[i].expiry().time_since_epoch().count());
        p->timers[i].expires_at(p->timers[i].expiry() + period);
        tick(p, i, period);
    });
}

static void peer_tick(struct peer *p, uint64_t i, int64_t when, int64_t period) {
    p->timers[i].expires_at(point(when));
    tick(p, i, std::chrono::nanoseconds(period));
}

static void peer_wait(struct peer *p) {
    p->context.run_one();
}

// ---- W5: a context for each thread, a mutex for each timer; each thread completes what its context has ----

struct shared {
    struct guarded {
        std::mutex mutex;
        asio::steady_timer timer;
        explicit guarded(asio::io_context &c) : timer(c) {}
    };
    std::vector<std::unique_ptr<guarded>> timers;
    std::vector<std::unique_ptr<asio::io_context>> contexts;
    uint64_t n;
};

static struct shared *shared_new(uint64_t n, int threads) {
    shared *s = new shared;
    s->n = n;
    for (int i = 0; i < threads; i++) s->contexts.push_back(std::make_unique<asio::io_context>());
    for (uint64_t i = 0; i < n * static_cast<uint64_t>(threads); i++)
        s->timers.push_back(std::make_unique<shared::guarded>(*s->contexts[i / n]));
    return s;
}

static void shared_enter(struct shared *, int) {}

static inline void shared_rearm(struct shared *s, int thread, uint64_t i, int64_t when) {
    static thread_local unsigned rearmed;
    {
        shared::guarded &t = *s->timers[i];
        std::lock_guard<std::mutex> hold(t.mutex);
        t.timer.expires_at(point(when));
        t.timer.async_wait([](const boost::system::error_code &) {});
    }
    if (++rearmed % 64 != 0) return;
    s->contexts[static_cast<size_t>(thread)]->poll();
    s->contexts[static_cast<size_t>(thread)]->restart();
}

static void shared_arm(struct shared *s, uint64_t i, int64_t when) {
    shared_rearm(s, static_cast<int>(i / s->n), i, when);
}

static void shared_leave(struct shared *, int) {}

static void shared_free(struct shared *s) {
    s->timers.clear();
    delete s;
}

#include "../core/workloads.h"
