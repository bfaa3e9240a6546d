/* Used in the ThreadSanitizer build only: names that newer instrumentation calls and older
 * runtimes lack, and what the runtime must not report.
 *
 * The plain functions are intercepted by the runtime, so what they touch is seen. Weak: a
 * runtime that has these names keeps its own. */
#if defined(__SANITIZE_THREAD__)
#include <stddef.h>
#include <string.h>

void *__tsan_memset(void *p, int c, size_t n);
void *__tsan_memcpy(void *to, const void *from, size_t n);
void *__tsan_memmove(void *to, const void *from, size_t n);
const char *__tsan_default_suppressions(void);

__attribute__((weak)) void *__tsan_memset(void *p, int c, size_t n) { return memset(p, c, n); }

__attribute__((weak)) void *__tsan_memcpy(void *to, const void *from, size_t n)
{
    return memcpy(to, from, n);
}

__attribute__((weak)) void *__tsan_memmove(void *to, const void *from, size_t n)
{
    return memmove(to, from, n);
}

/* crossbeam-epoch makes its collector under the standard library's Once, which is not
 * instrumented: that its maker comes before its users is not seen. Nothing of ours runs inside
 * these functions. */
const char *__tsan_default_suppressions(void)
{
    return "race:crossbeam_epoch*Collector*register\n"
           "race:crossbeam_epoch*default*with_handle\n";
}
#endif
