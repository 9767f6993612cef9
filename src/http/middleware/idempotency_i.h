/* What the files of hark_idempotency share. */
#ifndef HK_IDEMPOTENCY_I_H
#define HK_IDEMPOTENCY_I_H

#include "http/keyed_i.h"

/* ---- the keys of requests that run (running_keys.c) ---- */

typedef struct hk_running hk_running; /* a key */
typedef struct hk_running_set {
    pthread_mutex_t lock;
    uint8_t secret[16]; /* of the hash: clients choose the keys */
    hk_running **buckets;
    size_t n, n_buckets;
} hk_running_set;

hark_err hk_running_init(hk_running_set *s);
void hk_running_clear(hk_running_set *s);
/* HARK_EEXIST: a request with this key runs. */
hark_err hk_running_enter(hk_running_set *s, const char *key, hk_running **ret);
void hk_running_leave(hk_running_set *s, hk_running *r);

/* ---- replies as they are stored (stored_reply.c) ---- */

typedef struct hk_stored { /* borrowed from the bytes that were read */
    const uint8_t *digest; /* 16 bytes: of the request */
    int status;
    const char *type; /* "" = none */
    size_t n_headers;
    const char *headers; /* names and values in turn, a NUL behind each */
    const void *body;
    size_t len;
} hk_stored;

/* Appends the reply as it stands, without the headers that were there at `before`. */
void hk_stored_write(hk_buf *b, const hark_ctx *c, const hk_noted *before,
                     const uint8_t digest[16]);
hark_err hk_stored_read(const void *data, size_t len, hk_stored *ret, hark_errinfo *ei);

/* ---- the middleware, and one request ---- */

enum { HK_KEY_HEADER_MAX = 63 };

/* Of our own transactions: a machine that stands still for a moment is no reason to give one up. */
#define HK_KEYED_TX HARK_OPTS(hark_tx_opts, .deadline_ms = 10000)

typedef struct hk_idempotency {
    char header[HK_KEY_HEADER_MAX + 1];
    bool required;
    int64_t keep_ms;
    size_t max_bytes;
    hk_running_set running;
} hk_idempotency;

struct hk_keyed {
    hk_idempotency *of;
    hark_ctx *c;
    const char *name; /* of what is stored: method, path, Authorization and key */
    uint8_t digest[16];
    const hk_noted *before; /* headers that outer middleware had set */
    hk_running *running;    /* NULL when it has been left */
    void *found;            /* what is stored already, malloc'ed */
    size_t found_len;
    bool asked;   /* nothing was stored, and the chain went on */
    bool settled; /* the reply is stored, or never will be */
};

void hk_keyed_leave(hk_keyed *k);
hark_err hk_keyed_replay(hk_keyed *k); /* what was found becomes the reply */

#endif
