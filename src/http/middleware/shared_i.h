/* What several middlewares share: lists of paths to leave out, and the headers of a reply as they
 * stand when it goes out. */
#ifndef HK_SHARED_I_H
#define HK_SHARED_I_H

#include "http/http_i.h"

/* ---- requests that are left out (skip.c) ---- */

typedef struct hk_skip {
    char **patterns;
    size_t n;
} hk_skip;

bool hk_skip_copy(hk_skip *s, const char *const *patterns); /* false: no memory */
void hk_skip_free(hk_skip *s);
bool hk_skip_covers(const hk_skip *s, const hark_ctx *c);

/* ---- headers of the reply (out_headers.c) ---- */

const char *hk_out_find(const hark_ctx *c, const char *name); /* the first; NULL: there is none */
/* Is it among the comma-separated words of these headers? */
bool hk_out_says(const hark_ctx *c, const char *name, const char *word);
void hk_out_vary(hark_ctx *c, const char *name); /* Vary names this header too */

#endif
