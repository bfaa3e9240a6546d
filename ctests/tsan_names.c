/* Names that newer instrumentation calls and older ThreadSanitizer runtimes lack. The plain
 * functions are intercepted by the runtime, so what they touch is seen. Weak: a runtime that
 * has them keeps its own. Used in the TSan build only. */
#if defined(__SANITIZE_THREAD__)
#include <stddef.h>
#include <string.h>

void *__tsan_memset(void *p, int c, size_t n);
void *__tsan_memcpy(void *to, const void *from, size_t n);
void *__tsan_memmove(void *to, const void *from, size_t n);

__attribute__((weak)) void *__tsan_memset(void *p, int c, size_t n) { return memset(p, c, n); }

__attribute__((weak)) void *__tsan_memcpy(void *to, const void *from, size_t n)
{
    return memcpy(to, from, n);
}

__attribute__((weak)) void *__tsan_memmove(void *to, const void *from, size_t n)
{
    return memmove(to, from, n);
}
#endif
