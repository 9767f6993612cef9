/* skip: which requests a middleware leaves out, by pattern of the route or by path. A path is
 * compared only when its segments are what it looks like: with an encoded slash in it, "/open%2Fx"
 * is the one segment "open/x" to the router and must not pass for something below "/open/". */
#include "http/middleware/shared_i.h"

#include <stdlib.h>
#include <string.h>

bool hk_skip_copy(hk_skip *s, const char *const *patterns)
{
    size_t n = 0;
    while (patterns && patterns[n])
        n++;
    s->patterns = calloc(n + 1, sizeof *s->patterns);
    for (size_t i = 0; s->patterns && i < n; i++) {
        s->patterns[i] = strdup(patterns[i]);
        if (!s->patterns[i])
            return false;
        s->n++;
    }
    return s->patterns != NULL;
}

void hk_skip_free(hk_skip *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->patterns[i]);
    free(s->patterns);
    *s = (hk_skip){0};
}

static bool covers(const char *pattern, const char *path)
{
    size_t len = strlen(pattern);
    if (len && pattern[len - 1] == '*')
        return strncmp(pattern, path, len - 1) == 0;
    return strcmp(pattern, path) == 0;
}

static bool plain(const hk_path *p)
{
    for (size_t i = 0; i < p->n; i++)
        if (memchr(p->text + p->off[i], '/', p->seg_len[i]))
            return false;
    return true;
}

bool hk_skip_covers(const hk_skip *s, const hark_ctx *c)
{
    for (size_t i = 0; i < s->n; i++)
        if ((c->route && strcmp(s->patterns[i], hark_ctx_route(c)) == 0) ||
            (covers(s->patterns[i], hark_ctx_path(c)) && plain(&c->path)))
            return true;
    return false;
}
