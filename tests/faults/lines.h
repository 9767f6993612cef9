/* What a program says, line by line, to a test that waits for it: the lines come one write each, so
 * that a kill tears none. */
#ifndef HK_FAULTS_LINES_H
#define HK_FAULTS_LINES_H

#include "kit.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 512 };

static inline void line_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static inline void line_say(const char *fmt, ...)
{
    char line[LINE_MAX_BYTES];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof line - 1, fmt, ap);
    va_end(ap);
    line[n++] = '\n';
    if (write(STDOUT_FILENO, line, (size_t)n) != n)
        _exit(1); /* nobody listens */
}

/* The next line, without its end; false at the end of the output. */
static inline bool line_next(kit_proc *p, char line[LINE_MAX_BYTES], int64_t ms)
{
    size_t len = 0;
    int64_t end = kit_ms() + ms;
    for (;;) {
        struct pollfd ready = {.fd = p->out, .events = POLLIN};
        int64_t left = end - kit_ms();
        KIT_CHECK(left > 0 && poll(&ready, 1, (int)left) == 1,
                  "nothing came within %lld ms; standard error: %s", (long long)ms,
                  kit_slurp(kit_path("stderr"), NULL));
        if (read(p->out, line + len, 1) != 1)
            return false;
        KIT_CHECK(len < LINE_MAX_BYTES - 1, "an endless line");
        if (line[len++] != '\n')
            continue;
        line[len - 1] = '\0';
        return true;
    }
}

/* Nothing more is expected: waits for the end, which has to be a good one. */
static inline void line_end(kit_proc *p)
{
    int status = kit_wait(p, KIT_HUNG_MS);
    if (!kit_exited(status, 0))
        kit_fail("wait status %#x: %s", (unsigned)status, kit_slurp(kit_path("stderr"), NULL));
}

#endif
