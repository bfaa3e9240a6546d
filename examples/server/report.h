/* report.h: what the program prints. See report.c. */
#ifndef REPORT_H
#define REPORT_H

#include "conn.h"
#include "load.h"

struct report {
    uint64_t seed, connections, sleepers;
    unsigned workers, times;
    int64_t timeout[TIMEOUTS];
    double seconds;              /* of the load, as it came out */
    const struct load_result *load;
    int load_status;             /* of the process, as from waitpid */
    bool hung;                   /* nothing moved for a long time */
    unsigned alarms;             /* so many were set */
    bool alarms_rang;            /* all of them */
    struct rest rest;
    gt_stats stats;              /* when all was quiet */
    char stats_text[1024];       /* the same as text */
    struct runtime_counts runtime;
    uint64_t deadlines, stale;
    uint64_t *late_counts;       /* the library's histogram */
    int late_buckets;
    int sched_free_error;
    uint64_t timers_left;        /* when all was freed */
};

void report_start(const struct report *r);
void report_progress(double at); /* call it often; it decides when to print */
int report_result(const struct report *r);               /* prints; returns how many things are wrong */

#endif
