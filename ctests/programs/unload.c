/* A thread that has used the library ends after the library is gone, or was to go. The shared one stays:
 * dlclose does not unload it. A plugin that has the static one in it is unloaded, and takes the key
 * with it that tells of threads' ends: it is not called any more, and a plugin that is loaded
 * again and again does not use up the process's keys. */
#define _GNU_SOURCE 1
#include "gotimer.h"

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOADS 1100                     /* more than a process has keys */

static pthread_barrier_t used, closed;
static int (*use)(void);

static void die(const char *what, const char *why)
{
    fprintf(stderr, "unload: %s: %s\n", what, why != NULL ? why : "");
    exit(1);
}

static void *open_it(const char *path)
{
    void *lib = dlopen(path, RTLD_NOW);

    if (lib == NULL)
        die("dlopen", dlerror());
    return lib;
}

/* Into a pointer to a function. */
static void find(void *lib, const char *name, void *to)
{
    void *found = dlsym(lib, name);

    if (found == NULL)
        die("dlsym", dlerror());
    memcpy(to, &found, sizeof found);
}

static void *uses_and_outlives(void *arg)
{
    (void)arg;
    if (use() != 0)
        die("gt_acquirep in a thread", NULL);
    pthread_barrier_wait(&used);
    pthread_barrier_wait(&closed);
    return NULL;
}

static pthread_t start(void)
{
    pthread_t th;

    if (pthread_create(&th, NULL, uses_and_outlives, NULL) != 0)
        die("pthread_create", NULL);
    pthread_barrier_wait(&used);
    return th;
}

static void end(pthread_t th)
{
    pthread_barrier_wait(&closed);
    if (pthread_join(th, NULL) != 0)
        die("pthread_join", NULL);
}

static gt_p *shared_p;
static int (*acquirep)(gt_p *);

static int bind_shared(void) { return acquirep(shared_p); }

static void shared_stays(void)
{
    gt_sched *(*sched_new)(const gt_config *);
    gt_p *(*p_new)(gt_sched *), *(*releasep)(void);
    gt_sched *s;
    pthread_t th;
    void *lib = open_it(GT_SO);

    find(lib, "gt_sched_new", &sched_new);
    find(lib, "gt_p_new", &p_new);
    find(lib, "gt_acquirep", &acquirep);
    find(lib, "gt_releasep", &releasep);
    if ((s = sched_new(NULL)) == NULL || (shared_p = p_new(s)) == NULL)
        die("gt_p_new", NULL);
    use = bind_shared;
    th = start();
    dlclose(lib);
    if ((lib = dlopen(GT_SO, RTLD_NOW | RTLD_NOLOAD)) == NULL)
        die("the shared library was unloaded", NULL);
    end(th);
    if (acquirep(shared_p) != 0 || releasep() != shared_p)
        die("the thread's end has not released its P", NULL);
}

static void plugin_goes(const char *path)
{
    int (*begin)(int *), bound_late = -1;
    pthread_t th;
    void *lib = open_it(path);

    find(lib, "plugin_begin", &begin);
    find(lib, "plugin_use", &use);
    if (begin(&bound_late) != 0)
        die("gt_sched_new or gt_p_new in a plugin that was loaded again", NULL);
    th = start();
    dlclose(lib);
    if (dlopen(path, RTLD_NOW | RTLD_NOLOAD) != NULL)
        die("the plugin was not unloaded", NULL);
    if (bound_late != 0)
        die("a thread that came after the library's end could not bind a P", NULL);
    end(th);
}

int main(int argc, char **argv)
{
    char path[PATH_MAX];

    (void)argc;
    if (pthread_barrier_init(&used, NULL, 2) != 0 || pthread_barrier_init(&closed, NULL, 2) != 0)
        die("pthread_barrier_init", NULL);
    shared_stays();
    snprintf(path, sizeof path, "%s_plugin.so", argv[0]);
    if (strchr(path, '/') == NULL)
        die("call it by a path", path);
    for (int i = 0; i < LOADS; i++)
        plugin_goes(path);
    return 0;
}
