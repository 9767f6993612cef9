/* The headers of a reply, as middleware finds them when it goes out. */
#include "http/middleware/shared_i.h"

#include <string.h>

const char *hk_out_find(const hark_ctx *c, const char *name)
{
    for (const hk_out_header *h = c->out_headers; h; h = h->next)
        if (strcasecmp(h->name, name) == 0)
            return h->value;
    return NULL;
}

static bool has_word(const char *list, const char *word)
{
    size_t want = strlen(word);
    while (*list) {
        list += strspn(list, " \t,");
        size_t len = strcspn(list, ","), end = len;
        while (end && (list[end - 1] == ' ' || list[end - 1] == '\t'))
            end--;
        if (end == want && strncasecmp(list, word, want) == 0)
            return true;
        list += len;
    }
    return false;
}

bool hk_out_says(const hark_ctx *c, const char *name, const char *word)
{
    for (const hk_out_header *h = c->out_headers; h; h = h->next)
        if (strcasecmp(h->name, name) == 0 && has_word(h->value, word))
            return true;
    return false;
}

hark_err hk_out_vary(hark_ctx *c, const char *name)
{
    if (hk_out_says(c, "Vary", name) || hk_out_says(c, "Vary", "*"))
        return HARK_OK;
    return hark_ctx_add_header(c, "Vary", name);
}
