/* switch.c: the context switch: a dozen instructions on x86-64, ucontext elsewhere.
 *
 * A switch is a function call that returns on another stack. So the compiler has saved what a call may
 * destroy, and what is left to save is what a call must keep: rbx, rbp, r12 to r15, the stack pointer, and the
 * control bits of the two floating-point units. They are pushed on the stack that is left.
 *
 * The sanitizers must be told of each switch, or they take one stack for another: that is the rest. */
#define _GNU_SOURCE
#include "switch.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#endif

#if SWITCH_ASM

/* Pushes the registers, stores the stack pointer at *from, takes `to` as the stack pointer, pops the registers
 * and returns: to whoever called it on that stack. */
void context_swap(void **from, void *to);

/* Where a new context begins: calls r12, and ends the backtrace of debuggers. */
void context_begin(void);

__asm__(".pushsection .text\n"
        ".p2align 4\n"
        ".globl context_swap\n"
        ".hidden context_swap\n"
        ".type context_swap, @function\n"
        "context_swap:\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    subq $8, %rsp\n"
        "    stmxcsr (%rsp)\n"
        "    fnstcw 4(%rsp)\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    ldmxcsr (%rsp)\n"
        "    fldcw 4(%rsp)\n"
        "    addq $8, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    ret\n"
        ".size context_swap, .-context_swap\n"
        ".p2align 4\n"
        ".globl context_begin\n"
        ".hidden context_begin\n"
        ".type context_begin, @function\n"
        "context_begin:\n"
        "    .cfi_startproc\n"
        "    .cfi_undefined rip\n"
        "    call *%r12\n"
        "    ud2\n"
        "    .cfi_endproc\n"
        ".size context_begin, .-context_begin\n"
        ".popsection\n");

static void prepare(struct context *c, char *low, size_t size, void (*entry)(void)) {
    struct {
        uint32_t mxcsr;
        uint32_t x87;
        uint64_t r15, r14, r13, r12, rbx, rbp, ret;
    } *frame;
    uintptr_t top = ((uintptr_t)low + size) & ~(uintptr_t)15; /* aligned at the call, as the ABI wants it */
    frame = (void *)(top - sizeof *frame);
    __asm__("stmxcsr %0" : "=m"(frame->mxcsr));
    uint16_t x87;
    __asm__("fnstcw %0" : "=m"(x87));
    frame->x87 = x87;
    frame->r15 = frame->r14 = frame->r13 = frame->rbx = frame->rbp = 0;
    frame->r12 = (uint64_t)(uintptr_t)entry;
    frame->ret = (uint64_t)(uintptr_t)context_begin;
    c->sp = frame;
}

static inline void swap(struct context *from, struct context *to) { context_swap(&from->sp, to->sp); }

#else

static void prepare(struct context *c, char *low, size_t size, void (*entry)(void)) {
    if (getcontext(&c->registers) != 0) abort();
    c->registers.uc_stack.ss_sp = low;
    c->registers.uc_stack.ss_size = size;
    c->registers.uc_link = NULL;
    makecontext(&c->registers, entry, 0);
}

static inline void swap(struct context *from, struct context *to) {
    if (swapcontext(&from->registers, &to->registers) != 0) abort();
}

#endif

/* ---- what the sanitizers want to know ---- */

static void note_bounds(struct context *c, void *low, size_t size) {
#ifdef __SANITIZE_ADDRESS__
    c->low = low;
    c->size = size;
    c->fake_stack = NULL;
#endif
    (void)c, (void)low, (void)size;
}

static void before_switch(struct context *from, struct context *to, int for_ever) {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(for_ever ? NULL : &from->fake_stack, to->low, to->size);
#endif
#ifdef __SANITIZE_THREAD__
    __tsan_switch_to_fiber(to->fiber, 0);
#endif
    (void)from, (void)to, (void)for_ever;
}

static void after_switch(struct context *self) {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(self->fake_stack, NULL, NULL);
#endif
    (void)self;
}

/* ---- contexts ---- */

void context_of_thread(struct context *c) {
    void *low = NULL;
    size_t size = 0;
#ifdef __SANITIZE_ADDRESS__
    pthread_attr_t attr;
    if (pthread_getattr_np(pthread_self(), &attr) != 0 || pthread_attr_getstack(&attr, &low, &size) != 0) abort();
    pthread_attr_destroy(&attr);
#endif
#ifdef __SANITIZE_THREAD__
    c->fiber = __tsan_get_current_fiber();
#endif
    note_bounds(c, low, size);
}

void context_init(struct context *c, void *low, size_t size, void (*entry)(void)) {
#ifdef __SANITIZE_ADDRESS__
    __asan_unpoison_memory_region(low, size); /* who ran here before did not return from all of his functions */
#endif
#ifdef __SANITIZE_THREAD__
    c->fiber = __tsan_create_fiber(0);
#endif
    note_bounds(c, low, size);
    prepare(c, low, size, entry);
}

void context_entered(struct context *self) { after_switch(self); }

void context_switch(struct context *from, struct context *to) {
    before_switch(from, to, 0);
    swap(from, to);
    after_switch(from);
}

_Noreturn void context_leave(struct context *from, struct context *to) {
    before_switch(from, to, 1);
    swap(from, to);
    abort();
}

void context_end(struct context *c) {
#ifdef __SANITIZE_THREAD__
    __tsan_destroy_fiber(c->fiber);
#endif
    (void)c;
}
