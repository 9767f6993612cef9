/* For tests of programs that crash on purpose: what they start leaves no core, and ends by a
 * signal also when it is built with a sanitizer, which would otherwise end it with a status of
 * its own. */
#ifndef HK_FAULTS_CRASH_KIT_H
#define HK_FAULTS_CRASH_KIT_H

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

static inline void crash_option(const char *variable, const char *more)
{
    const char *given = getenv(variable);
    char all[1024];
    (void)snprintf(all, sizeof all, "%s%s%s", given ? given : "", given && *given ? ":" : "", more);
    (void)setenv(variable, all, 1);
}

/* `own_handlers`: the sanitizers handle faults, as they do by default, and then abort. Else they
 * leave them alone, so that a program dies of the very signal. ThreadSanitizer calls what its own
 * handler does unsafe when another handler calls it. */
static inline void crash_environment(int own_handlers)
{
    static const char *const names[] = {"ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS"};
    const struct rlimit none = {0, 0};
    (void)setrlimit(RLIMIT_CORE, &none);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        crash_option(names[i], own_handlers ? "abort_on_error=1" : "handle_segv=0:handle_abort=0");
    if (own_handlers)
        crash_option("TSAN_OPTIONS", "report_signal_unsafe=0");
}

#endif
