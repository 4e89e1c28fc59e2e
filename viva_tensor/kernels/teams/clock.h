#ifndef VIVA_CLOCK_H
#define VIVA_CLOCK_H

#include <time.h>

/* Seconds since some time in the past, by a clock that nobody sets where the system has one. */
static inline double viva_seconds(void) {
    struct timespec now;
#if defined(CLOCK_MONOTONIC)
    clock_gettime(CLOCK_MONOTONIC, &now);
#else
    timespec_get(&now, TIME_UTC);
#endif
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

#endif
