/* load.h: the load generator: the other side of the socket. It runs in a process of its own, on threads of its
 * own, and does not use the library: what it says about the server's deadlines is a second opinion.
 *
 *   load.c          its threads: epoll, pauses, connects
 *   load_peer.c     what one connection does and expects
 *   load_request.c  requests, right and wrong ones, and their answers */
#ifndef LOAD_H
#define LOAD_H

#include "green.h"
#include "tally.h"

#include <netinet/in.h>

/* What connections do. */
enum {
    HASTY,   /* the next request as soon as the answer is there */
    CALM,    /* with pauses; some of them come with the next request just when the idle time is over */
    STALL_READ,  /* half a request, then nothing; or one byte now and then */
    STALL_IDLE,  /* nothing at all; or nothing after the first answer */
    STALL_WRITE, /* a big body, and never reads the answer */
    WRONG,   /* requests that are to be refused, and odd ones that are not */
    KINDS
};

struct load_plan {
    uint16_t port;
    unsigned threads;
    uint64_t seed;
    unsigned peers[KINDS];
    int64_t duration; /* of the load; what has begun then is brought to its end */
    int64_t timeout[TIMEOUTS]; /* what the server promises */
};

/* What it saw; in memory that both processes have. */
struct load_result {
    _Atomic uint64_t connects, requests, answers, bytes; /* answers: 200, and the body was right */
    struct hist latency;              /* from before the request is sent to after its answer is checked */
    _Atomic uint64_t cut[TIMEOUTS];   /* stalled connections that the server closed when it should */
    struct hist cut_late[TIMEOUTS];   /* how long after the promised time, counted from before our last step */
    _Atomic uint64_t slow_read, slow; /* others, that were too slow by themselves: with 408; without a word */
    _Atomic uint64_t cases;           /* wrong and odd requests that were answered as they should */
    /* what must not happen */
    _Atomic uint64_t early;           /* closed before the promised time */
    _Atomic uint64_t bad_answers;     /* another status, body, end than expected */
    _Atomic uint64_t failures;        /* connect, socket, memory */
    _Atomic uint64_t stuck;           /* not finished when it gave up */
    char first_bad[200];              /* the first of bad_answers and failures, in words */
    _Atomic int has_first;
};

/* Generates the load; returns when it is over. In the child process. */
void load_run(const struct load_plan *plan, struct load_result *result);

/* ---- shared by the files of the load generator ---- */

#define BODY_MAX (32u << 10)       /* of ordinary requests */
#define BIG_BODY (256u << 10)      /* of those whose answer is not read: more than all buffers between take */
#define BATCH 3                    /* so many requests at most are sent in one go */

enum peer_state {
    P_OUTSIDE,  /* no socket: waits to connect, or is finished */
    P_CONNECTS,
    P_TALKS,    /* sends, and reads answers */
    P_RESTS,    /* waits until it is time for the next request */
    P_STALLED   /* did what it had to do, and waits for the server to end it */
};

struct peer {
    struct load_thread *of;
    struct peer *next, **prev;  /* in the wheel of pauses; prev NULL: in none */
    int fd;
    uint8_t kind, state, variant;
    bool is_last, got_408, wants_out;
    uint64_t rng;
    int64_t began, before;      /* when our last step that the server may count from began; the one before it */
    char *out;                  /* what is to be sent */
    size_t out_size, out_at, out_stop; /* to out_stop at once, the rest later */
    uint32_t batch, batch_at;   /* answers that are expected, and how many are there */
    struct { uint32_t from, size; } want[BATCH]; /* their bodies: parts of the pattern */
    char head[256];             /* of the answer that is coming in */
    uint32_t head_size;
    bool in_body;
    uint32_t body_at;
};

struct load_thread {
    const struct load_plan *plan;
    struct load_result *result;
    int epoll_fd;
    uint64_t rng;
    int64_t end;                /* of the load */
    uint64_t open;              /* peers that are not finished */
    struct peer *wheel[4096];   /* a slot for each millisecond */
    int64_t wheel_at;           /* the millisecond up to which the wheel was turned */
    uint64_t in_wheel;
    unsigned peers[KINDS];      /* this thread's part */
    char *scratch;              /* for reads */
};
#define SCRATCH (64u << 10)

/* load.c */
int64_t load_now(void);
void load_pause(struct peer *p, int64_t ns); /* peer_wakes is called then */
void load_unpause(struct peer *p);
void load_watch(struct peer *p, uint32_t events, bool is_new);
bool load_is_over(const struct load_thread *t);
void load_bad(struct load_result *r, _Atomic uint64_t *counter, const char *format, ...);

/* load_peer.c */
void peer_wakes(struct peer *p);                  /* its pause is over */
void peer_event(struct peer *p, uint32_t events); /* of its socket */

/* load_request.c */
void request_init(uint64_t seed); /* the pattern that bodies are cut from */
bool request_batch(struct peer *p, unsigned n, bool is_last); /* n requests into p->out */
bool request_half(struct peer *p);
bool request_big(struct peer *p);
void request_case(struct peer *p);          /* p->variant: which */
unsigned request_cases(void);
bool request_case_ok(const struct peer *p);       /* is what came back right? */
bool request_case_is_right(const struct peer *p); /* should the answer be 200? */
const char *request_case_expected(const struct peer *p);
/* Takes in part of an answer; false: it is wrong (and said so). */
bool answer_take(struct peer *p, const char *data, size_t n);

#endif
