/* Going by single steps, on processors of the x86-64 kind: from go_by_steps on the thread gets
 * SIGTRAP after each instruction, until a handler calls end_of_steps. For windows of a few
 * instructions that nothing else opens. STEPS says whether there is such a thing. */
#ifndef CTESTS_STEPS_H
#define CTESTS_STEPS_H

#if defined(__x86_64__)

#include "rules.h"

#include <signal.h>
#include <ucontext.h>

#define STEPS 1
#define TRAP_FLAG 0x100

static void go_by_steps(void)
{
    __asm__ volatile("lea -128(%%rsp), %%rsp\n\t"
                     "pushfq\n\t"
                     "orq %0, (%%rsp)\n\t"
                     "popfq\n\t"
                     "lea 128(%%rsp), %%rsp" ::"i"(TRAP_FLAG) : "memory", "cc");
}

static void end_of_steps(void *context)
{
    ucontext_t *uc = context;

    uc->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)TRAP_FLAG;
}

static void on_steps(void (*handler)(int, siginfo_t *, void *))
{
    struct sigaction sa;

    memset(&sa, 0, sizeof sa);
    sa.sa_sigaction = handler;
    sa.sa_flags = SA_SIGINFO;
    CHECK_EQ(sigaction(SIGTRAP, &sa, NULL), 0);
}

#else
#define STEPS 0
#endif

#endif
