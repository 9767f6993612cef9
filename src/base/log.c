/* log.c: what the library has to say, a line at a time on stderr. */
#include "base/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int threshold(void)
{
    const char *s = getenv("HARK_LOG");
    static const char *const names[] = {"debug", "info", "warn", "error", "off"};
    for (int i = 0; s && i < 5; i++)
        if (strcmp(s, names[i]) == 0)
            return i;
    return HK_WARN;
}

void hk_log(hk_level level, const char *fmt, ...)
{
    static const char *const names[] = {"DEBUG", "INFO", "WARN", "ERROR"};
    if ((int)level < threshold())
        return;
    char line[1024], when[HK_RFC3339_MAX];
    hk_rfc3339_format(hk_wall_ns(), 3, when);
    int n = snprintf(line, sizeof line, "%s %s ", when, names[level]);
    va_list ap;
    va_start(ap, fmt);
    int m = vsnprintf(line + n, sizeof line - (size_t)n - 1, fmt, ap);
    va_end(ap);
    if (m < 0)
        return;
    size_t len =
        (size_t)n +
        ((size_t)m < sizeof line - (size_t)n - 1 ? (size_t)m : sizeof line - (size_t)n - 2);
    line[len++] = '\n';
    (void)!write(STDERR_FILENO, line, len); /* one write: lines of threads do not mix */
}
