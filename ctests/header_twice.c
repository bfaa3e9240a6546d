/* The public header, included twice: the second time must add nothing. */
#include "gotimer.h"
#include "gotimer.h"

int64_t header_twice(void);

int64_t header_twice(void) { return GT_MAX_WHEN; }
