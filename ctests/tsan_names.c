/* Used in the ThreadSanitizer build only: names that newer instrumentation calls and older
 * runtimes lack.
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
#endif
