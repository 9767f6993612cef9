/* What several middlewares share: lists of paths to leave out, the headers of a reply as they stand
 * when it goes out, the key of a client, and how they are made. */
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
/* Vary names this header too. HARK_ENOMEM: it does not, so nothing may go out that differs by it. */
HARK_MUST hark_err hk_out_vary(hark_ctx *c, const char *name);

/* ---- the key that hark_key_auth has let pass (key_auth.c) ---- */

enum { HK_KEY_DIGEST = 16 };
/* Stands for it in what is stored, also after a restart; NULL: none was asked for. */
const uint8_t *hk_key_auth_digest(const hark_ctx *c);

/* ---- constructors (maker.c) ---- */

typedef struct hk_maker {
    const char *name; /* "hark_cors": begins what it says; its options are "hark_cors_opts" */
    size_t opts_size, state_size;
    hark_http_fn run;
    void (*free_state)(void *state); /* also of a state that was taken in part, or NULL */
    hark_err (*take)(void *state, const void *opts, hark_errinfo *ei); /* the state is zeroed */
} hk_maker;

/* `room` is for the options as this library knows them. */
hark_middleware hk_make(const hk_maker *m, const void *opts, void *room);

#endif
