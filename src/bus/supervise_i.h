/* supervise_i.h: the parent that supervise.c is, and the child that child.c starts for it. */
#ifndef HK_SUPERVISE_I_H
#define HK_SUPERVISE_I_H

#include "base/base.h"

#include <hark/supervise.h>
#include <signal.h>
#include <sys/types.h>

/* Crashes in a row. */
typedef struct hk_series {
    int64_t n;
} hk_series;

/* Pure. A child was ended by a signal after it had run for so long: how many ms until the next
 * start; -1 = that is enough. `o` has its defaults filled in. */
int64_t hk_series_next(hk_series *s, const hark_supervise_opts *o, int64_t ran_ms);

typedef struct hk_parent {
    hark_supervise_opts opts;
    int (*child_main)(void *ud);
    void *ud;
    pid_t pid;
    int fds[HK_INHERITED_MAX]; /* bound, or handed to this process */
    size_t n_fds;
    /* signals: what is waited for, what was before */
    sigset_t waited, mask_before;
    struct sigaction chld_before;
    hk_series series;
    bool stopping; /* told to end */
    /* the child */
    pid_t child;
    int wait_status;
    uint64_t passed_on; /* signals, a bit each */
    int64_t started_ns;
    int64_t kill_at_ns; /* mono; -1 = not to be killed */
} hk_parent;

/* What a child does after the fork: to its end. */
_Noreturn void hk_child_run(const hk_parent *p);
/* Whether the program may be split in two now. */
hark_err hk_child_possible(hark_errinfo *ei);

#endif
