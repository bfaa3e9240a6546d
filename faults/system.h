/* Stand-ins for functions of the C library that the library under test calls: a wall clock that
 * jumps, and requests for memory and threads that are refused. The program's own definitions are
 * taken for the shared library too; for calls from anywhere else they do what they always do. */
#ifndef FAULTS_SYSTEM_H
#define FAULTS_SYSTEM_H

#include "faults.h"

/* Where the library's code stands. */
extern uintptr_t lib_begin, lib_end;

/* The library's CLOCK_REALTIME moves by so many ns, as if somebody had set the clock: timerfds of
 * that clock follow it, and those that want to be told of it become readable. */
void wall_jump(int64_t by);

/* Is called for each request for memory or for a thread that the library makes; 1: it is refused. */
extern int (*system_refuses)(void);

/* Not 0: every request of this thread is refused, whoever makes it: the C library too, for what the
 * library under test asks of it. */
extern _Thread_local int system_refuses_all;

/* What the library has got since then and not given back: blocks of posix_memalign; and bytes of
 * mmap, from the beginning. */
extern _Atomic int64_t system_blocks, system_mapped;

#endif
