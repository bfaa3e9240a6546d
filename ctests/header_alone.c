/* The public header, included alone and first: it must bring all that it needs. */
#include "gotimer.h"

uint32_t header_alone(gt_stats *st);

uint32_t header_alone(gt_stats *st)
{
    st->size = sizeof *st;
    return gt_version();
}
