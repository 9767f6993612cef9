/* The orders of crash_victim, for it and for the test that publishes them and looks at what is
 * left. */
#ifndef HK_FAULTS_CRASH_WORK_H
#define HK_FAULTS_CRASH_WORK_H

#include <hark/hark.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define CRASH_TYPE     "order:placed"
#define CRASH_CONSUMER "shop"
#define CRASH_ATTEMPTS 2 /* max_attempts: crashes and kills are none */

/* One of a thousand. */
static inline bool crash_is_poison(uint64_t n)
{
    return n % 1000 == 321;
}

#endif
