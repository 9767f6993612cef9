/* thread.c: starting threads, and what role the calling thread plays. */
#include "base/base.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>

static _Thread_local hk_role current;

hk_role hk_role_get(void)
{
    return current;
}

hk_role hk_role_set(hk_role role)
{
    hk_role before = current;
    current = role;
    return before;
}

hark_err hk_thread_start(pthread_t *ret, const char *name, void *(*fn)(void *), void *arg)
{
    sigset_t all, before;
    sigfillset(&all);
    /* A fault must reach the thread that made it. */
    sigdelset(&all, SIGSEGV);
    sigdelset(&all, SIGBUS);
    sigdelset(&all, SIGFPE);
    sigdelset(&all, SIGILL);
    sigdelset(&all, SIGABRT);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    pthread_t thread;
    int e = pthread_create(&thread, NULL, fn, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (e)
        return e == ENOMEM ? HARK_ENOMEM : HARK_ESYS;
    char short_name[16];
    (void)snprintf(short_name, sizeof short_name, "%s", name);
    (void)pthread_setname_np(thread, short_name);
    *ret = thread;
    return HARK_OK;
}
