/* A plugin that has libgotimer.a in it; for unload.c. */
#include "gotimer.h"

#include <pthread.h>
#include <stddef.h>

int plugin_begin(int *result);
int plugin_use(void);

static gt_sched *s;
static gt_p *p;
static int *bound_late;

/* The plugin's sched; *result is written when the plugin goes. */
int plugin_begin(int *result)
{
    bound_late = result;
    if ((s = gt_sched_new(NULL)) == NULL || (p = gt_p_new(s)) == NULL)
        return gt_last_error();
    return 0;
}

/* Whose end the library notes. */
int plugin_use(void)
{
    int r = gt_acquirep(p);

    if (r == 0 && gt_releasep() != p)
        r = GT_EINVAL;
    return r;
}

static void *comes_late(void *arg)
{
    (void)arg;
    *bound_late = gt_acquirep(p);
    return NULL;
}

/* Stands before the library's own end in the array, which is run from its end: what the library has
 * left may be used still, by threads that it does not know too; only their ends change nothing. */
static void late(void)
{
    pthread_t th;

    if (s == NULL)
        return;
    if (pthread_create(&th, NULL, comes_late, NULL) != 0 || pthread_join(th, NULL) != 0)
        *bound_late = GT_EBUSY;
    if (gt_p_free(p) != 0 || gt_sched_free(s) != 0)
        *bound_late = GT_EDEADLK;
}

__attribute__((used, section(".fini_array.00050"))) static void (*const at_last)(void) = late;
