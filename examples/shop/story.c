/* story.c: what happens to orders, told on the console. */
#include "shop.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void story(const shop *s, const char *fmt, ...)
{
    char line[400];
    va_list ap;
    if (s->o.quiet)
        return;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line - 1, fmt, ap);
    va_end(ap);
    size_t len = strlen(line);
    line[len] = '\n'; /* in one piece: many threads tell their stories */
    fwrite(line, 1, len + 1, stdout);
}
