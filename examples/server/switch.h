/* switch.h: contexts: a stack and the registers that were kept on it. See switch.c. */
#ifndef SWITCH_H
#define SWITCH_H

#include <stddef.h>

/* Compile with -DSWITCH_UCONTEXT to use ucontext on x86-64 too. */
#if defined(__x86_64__) && !defined(SWITCH_UCONTEXT)
#define SWITCH_ASM 1
#else
#define SWITCH_ASM 0
#include <ucontext.h>
#endif

struct context {
#if SWITCH_ASM
    void *sp; /* the registers lie there */
#else
    ucontext_t registers;
#endif
#ifdef __SANITIZE_ADDRESS__
    const void *low; /* of the stack */
    size_t size;
    void *fake_stack;
#endif
#ifdef __SANITIZE_THREAD__
    void *fiber;
#endif
};

/* A context for the stack that the calling thread runs on; context_switch fills it in. */
void context_of_thread(struct context *c);

/* A context that begins with a call of `entry`, which must not return, on the stack low .. low + size. */
void context_init(struct context *c, void *low, size_t size, void (*entry)(void));

/* The first thing that `entry` does. */
void context_entered(struct context *self);

/* Leaves `from` and goes on in `to`; returns when somebody switches to `from`, maybe on another thread. */
void context_switch(struct context *from, struct context *to);

/* The same, for ever: nobody will switch to `from` again. Call context_end(from) from another stack afterwards. */
_Noreturn void context_leave(struct context *from, struct context *to);
void context_end(struct context *c);

#endif
