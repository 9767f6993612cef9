/* hark/supervise.h: what remains when C has no recover(): a process that crashed is started again
 * by a parent, its listening sockets stay open meanwhile, and the event that crashed it is known.
 */
#ifndef HARK_SUPERVISE_H
#define HARK_SUPERVISE_H

#include <hark/error.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct hark_supervise_opts {
    size_t size;
    const char *const *listen; /* addresses to bind once, "127.0.0.1:8080", "[::1]:8080" */
    size_t n_listen;           /* at most 16 */
    int64_t stop_ms;        /* a child that has not ended so long after SIGTERM or SIGINT is killed;
                               default 10000; -1 = never */
    int64_t backoff_ms;     /* pause before the third restart in a row, then doubling; the first two
                               come at once; default 100 */
    int64_t backoff_max_ms; /* default 5000 */
    int64_t stable_ms;      /* a child that ran so long was no part of a series; default 10000 */
    int64_t max_restarts;   /* gives up after so many in a row; default (0) and -1 = never */
    int64_t flags;          /* none yet: 0 */
} hark_supervise_opts;

/* Runs child_main(ud) in a child process, again and again until it returns or exits by itself, or
 * a signal tells the parent to end. The parent binds, forks, waits and forwards signals (SIGTERM,
 * SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGQUIT), nothing else; the child opens everything and dies
 * with its parent. Bound sockets are passed as systemd does (LISTEN_PID, LISTEN_FDS; descriptors
 * from 3); hark_app_listen finds them by their address. If a descriptor that is needed for that
 * is open already, only hark_app_listen finds them. A child that exits with a status is not
 * started again; one that a signal ended is, unless it was told to end, or died of a signal
 * passed on to it. A terminal's Ctrl-C reaches both, since they are one process group, and is not
 * passed on. In the child hark_crash_guard is installed; a child that changes its user must ask
 * again to die with its parent (prctl(2), PR_SET_PDEATHSIG). A debugger or test may set
 * HARK_NO_SUPERVISE=1: child_main then runs in this process.
 * Ownership: none; opts and ud must stay until it returns.
 * Threads: the first call in main: with other threads or an open bus it refuses.
 * Blocks: until the end.
 * Errors: HARK_EINVAL (options, an address, threads or a bus exist), HARK_EEXIST (address in
 * use), HARK_EDENIED, HARK_ESYS; on HARK_OK *ret_status is the exit status for main to return:
 * the last child's, or 128 and the number of the signal that ended it (137: also after stop_ms). */
HARK_API HARK_MUST hark_err hark_supervise(const hark_supervise_opts *opts,
                                           int (*child_main)(void *ud), void *ud, int *ret_status,
                                           hark_errinfo *ei);

/* How often this child was started before; 0 outside of hark_supervise.
 * Ownership: none.
 * Threads: any.
 * Blocks: no.
 * Errors: none. */
HARK_API uint64_t hark_supervise_restarts(void);

/* Installs a handler for SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGABRT that notes, in memory that
 * outlives the process, which delivery the faulting thread had in hand, and then goes on to the
 * handler that was there before (a sanitizer's, yours) or to the default action. Install yours
 * first. The next start counts a crash for that delivery and an interruption for those that ran
 * beside it. Without the guard all count interruptions. Calling it again is fine. Under a sanitizer
 * that catches the signal itself a crash ends with exit(), which hark_supervise takes for an orderly
 * end: set abort_on_error=1 in its options (ASan, UBSan), and report_signal_unsafe=0 for TSan.
 * Ownership: none.
 * Threads: any; best before a bus is opened, since it gives the bus's threads a stack for the
 * handler.
 * Blocks: no.
 * Errors: HARK_ESYS. */
HARK_API HARK_MUST hark_err hark_crash_guard(hark_errinfo *ei);

#ifdef __cplusplus
}
#endif
#endif
