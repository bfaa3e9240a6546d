/* See system.h. */
#include "system.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

int (*system_refuses)(void);
_Thread_local int system_refuses_all;
_Atomic int64_t system_blocks, system_mapped;

/* ---- who is calling ---- */

uintptr_t lib_begin, lib_end;

static int look_for_library(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    (void)arg;
    if (strstr(info->dlpi_name, "libgotimer") == NULL)
        return 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *ph = &info->dlpi_phdr[i];

        if (ph->p_type == PT_LOAD && (ph->p_flags & PF_X) != 0) {
            lib_begin = info->dlpi_addr + ph->p_vaddr;
            lib_end = lib_begin + ph->p_memsz;
        }
    }
    return 1;
}

__attribute__((constructor)) static void find_library(void) { dl_iterate_phdr(look_for_library, NULL); }

#define FROM_LIBRARY()                                                                   \
    ((uintptr_t)__builtin_return_address(0) >= lib_begin &&                              \
     (uintptr_t)__builtin_return_address(0) < lib_end)
#define REFUSED() \
    (system_refuses_all || (FROM_LIBRARY() && system_refuses != NULL && system_refuses()))

/* ---- the wall clock ---- */

enum { TIMERS = 64 };

/* A timerfd of the wall clock, and the time that the library has set it to. */
static struct wall_timer {
    int open, fd, flags;
    int64_t when;
} wall_timers[TIMERS];
static atomic_int any_wall_timers;       /* else the lock is not taken: a fork child may find it held */
static pthread_mutex_t wall_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic int64_t wall_offset;

int clock_gettime(clockid_t id, struct timespec *ts)
{
    int r = (int)syscall(SYS_clock_gettime, id, ts);

    if (r == 0 && id == CLOCK_REALTIME && FROM_LIBRARY()) {
        int64_t t = (int64_t)ts->tv_sec * SEC + ts->tv_nsec + wall_offset;

        ts->tv_sec = t / SEC;
        ts->tv_nsec = t % SEC;
    }
    return r;
}

int timerfd_create(int id, int flags)
{
    int fd = (int)syscall(SYS_timerfd_create, id, flags), i = 0;

    if (fd < 0 || id != CLOCK_REALTIME || !FROM_LIBRARY())
        return fd;
    pthread_mutex_lock(&wall_lock);
    for (int k = 0; k < TIMERS; k++)          /* one that was closed had the same number */
        if (wall_timers[k].fd == fd)
            wall_timers[k].open = 0;
    while (i < TIMERS && wall_timers[i].open)
        i++;
    CHECK_LT(i, TIMERS);
    any_wall_timers = 1;
    wall_timers[i] = (struct wall_timer){.open = 1, .fd = fd};
    pthread_mutex_unlock(&wall_lock);
    return fd;
}

/* Sets it by the kernel's clock. */
static int wall_set(struct wall_timer *t)
{
    struct itimerspec its = {.it_value = {0, 0}};
    int64_t when = t->when - wall_offset;

    if (t->when != 0) {
        when = when > 0 ? when : 1;
        its.it_value.tv_sec = when / SEC;
        its.it_value.tv_nsec = when % SEC;
    }
    return (int)syscall(SYS_timerfd_settime, t->fd, t->flags & TFD_TIMER_ABSTIME, &its, NULL);
}

int timerfd_settime(int fd, int flags, const struct itimerspec *its, struct itimerspec *old)
{
    struct wall_timer *t = NULL;
    int r;

    if (!any_wall_timers)
        return (int)syscall(SYS_timerfd_settime, fd, flags, its, old);
    pthread_mutex_lock(&wall_lock);
    for (int i = 0; i < TIMERS && FROM_LIBRARY(); i++)
        if (wall_timers[i].open && wall_timers[i].fd == fd)
            t = &wall_timers[i];
    if (t == NULL) {
        r = (int)syscall(SYS_timerfd_settime, fd, flags, its, old);
    } else {
        t->flags = flags;
        t->when = (int64_t)its->it_value.tv_sec * SEC + its->it_value.tv_nsec;
        r = wall_set(t);
    }
    pthread_mutex_unlock(&wall_lock);
    return r;
}

void wall_jump(int64_t by)
{
    pthread_mutex_lock(&wall_lock);
    wall_offset += by;
    for (int i = 0; i < TIMERS; i++) {
        struct wall_timer *t = &wall_timers[i];

        if (!t->open || t->when == 0)
            continue;
        if (t->flags & TFD_TIMER_CANCEL_ON_SET)
            t->when = 1;                      /* readable from now on; the kernel says ECANCELED */
        wall_set(t);                          /* fails if it was closed */
    }
    pthread_mutex_unlock(&wall_lock);
}

/* ---- memory, threads ---- */

enum { BLOCKS = 8192 };

static void *blocks[BLOCKS];
static _Atomic int n_blocks;
static pthread_mutex_t block_lock = PTHREAD_MUTEX_INITIALIZER;

static void note_block(void *p)
{
    pthread_mutex_lock(&block_lock);
    CHECK_LT(n_blocks, BLOCKS);
    blocks[n_blocks++] = p;
    system_blocks++;
    pthread_mutex_unlock(&block_lock);
}

static void forget_block(void *p)
{
    pthread_mutex_lock(&block_lock);
    for (int i = n_blocks; i-- > 0;)
        if (blocks[i] == p) {
            blocks[i] = blocks[--n_blocks];
            system_blocks--;
            break;
        }
    pthread_mutex_unlock(&block_lock);
}

int posix_memalign(void **p, size_t align, size_t size)
{
    if (REFUSED())
        return ENOMEM;
    *p = aligned_alloc(align, size);
    if (*p == NULL)
        return ENOMEM;
    if (system_refuses != NULL && FROM_LIBRARY())
        note_block(*p);
    return 0;
}

void free(void *p)
{
    extern void __libc_free(void *);

    if (p != NULL && n_blocks > 0 && FROM_LIBRARY())
        forget_block(p);
    __libc_free(p);
}

void *mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset)
{
    void *p;

    if (REFUSED()) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    p = (void *)syscall(SYS_mmap, at, size, prot, flags, fd, offset);
    if (p != MAP_FAILED && FROM_LIBRARY())
        system_mapped += (int64_t)size;
    return p;
}

int munmap(void *p, size_t size)
{
    if (FROM_LIBRARY())
        system_mapped -= (int64_t)size;
    return (int)syscall(SYS_munmap, p, size);
}

int mprotect(void *p, size_t size, int prot)
{
    if (prot != PROT_NONE && REFUSED()) {     /* to give memory back is never refused */
        errno = ENOMEM;
        return -1;
    }
    return (int)syscall(SYS_mprotect, p, size, prot);
}

int pthread_create(pthread_t *th, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

    if (REFUSED())
        return EAGAIN;
    if (real == NULL) {
        void *found = dlsym(RTLD_NEXT, "pthread_create");

        memcpy(&real, &found, sizeof real);
    }
    return real(th, attr, fn, arg);
}

/* What Rust's own collections ask for. */
void *malloc(size_t size)
{
    extern void *__libc_malloc(size_t);

    return REFUSED() ? NULL : __libc_malloc(size);
}

void *realloc(void *p, size_t size)
{
    extern void *__libc_realloc(void *, size_t);

    return REFUSED() ? NULL : __libc_realloc(p, size);
}

void *calloc(size_t n, size_t size)
{
    extern void *__libc_calloc(size_t, size_t);

    return REFUSED() ? NULL : __libc_calloc(n, size);
}
