/* conn_i.h: what every store on Redis needs: a URL taken apart (url.c), and a connection that never
 * waits beyond a deadline (conn.c). hiredis reads replies; connecting and sending are ours, since
 * hiredis 0.14 raises SIGPIPE, lets descriptors through exec and cannot be interrupted. */
#ifndef HK_STORE_REDIS_CONN_I_H
#define HK_STORE_REDIS_CONN_I_H

#include "base/base.h"

#include <hiredis/hiredis.h>

/* ---- url.c ------------------------------------------------------------------------------------ */

/* //[user:password@]host[:port][/path][?query] */
typedef struct hk_redis_url {
    char *user, *password; /* decoded; NULL = none */
    char *host;
    char *path;  /* behind the slash, decoded; NULL = none */
    char *query; /* behind the question mark, as it stands; NULL = none */
    char port[8];
    char place[80]; /* "host:port", cut where it is full: for texts */
} hk_redis_url;

/* `rest` is what follows "scheme:". HARK_EINVAL: the text says what is wrong, and never has the
 * password in it. */
hark_err hk_redis_url_take(const char *scheme, const char *rest, hk_redis_url *ret,
                           hark_errinfo *ei);
void hk_redis_url_clear(hk_redis_url *u); /* a zeroed one is fine */

/* ---- conn.c ----------------------------------------------------------------------------------- */

/* Connecting with logging in, and the answer to anything that was sent. */
#define HK_REDIS_TIMEOUT_NS (INT64_C(5) * 1000000000)

typedef struct hk_redis_conn {
    const hk_redis_url *url;
    redisContext *context; /* NULL = not connected */
    int wake;              /* waiting ends with HARK_ECANCELED when this can be read; -1 = none */
    hk_buf out;            /* commands, complete */
    size_t sent;           /* bytes of them that the system has taken */
} hk_redis_conn;

typedef struct hk_redis_arg {
    const char *data;
    size_t len;
} hk_redis_arg;

/* Connects and logs in; the server shows the connection as `name`. Errors: HARK_ESTORE, HARK_EDENIED
 * (password, rights), HARK_ECANCELED, HARK_ENOMEM; the text names host and port. */
hark_err hk_redis_connect(hk_redis_conn *c, const hk_redis_url *url, const char *name, int wake,
                          hark_errinfo *ei);
void hk_redis_close(hk_redis_conn *c); /* one that is not connected is fine */
static inline bool hk_redis_is_open(const hk_redis_conn *c)
{
    return c->context != NULL;
}
/* Is it of no use any more: closed by the server, or with a reply that nobody asked for? */
bool hk_redis_is_stale(const hk_redis_conn *c);

/* Adds a command to what is to be sent; want of memory is told by hk_redis_flush. */
void hk_redis_add(hk_redis_conn *c, const hk_redis_arg *args, size_t n);
/* Sends what was added. After an error `sent` tells how much of it has gone. */
hark_err hk_redis_flush(hk_redis_conn *c, int64_t deadline, hark_errinfo *ei);
/* What has been sent is forgotten: offsets into `out` begin again at 0. */
void hk_redis_forget(hk_redis_conn *c);

/* The next reply of those received already; *ret NULL = there is none. Give it to freeReplyObject. */
hark_err hk_redis_look(hk_redis_conn *c, redisReply **ret, hark_errinfo *ei);
/* The next reply. HARK_ETIMEDOUT: none came until the deadline (mono). After any other error the
 * connection is of no use. */
hark_err hk_redis_reply(hk_redis_conn *c, int64_t deadline, redisReply **ret, hark_errinfo *ei);

/* What an error reply stands for: HARK_EDENIED or HARK_ESTORE; the text has what the server says. */
hark_err hk_redis_refused(const hk_redis_conn *c, const redisReply *r, hark_errinfo *ei);
/* HARK_ESTORE: a reply that does not answer the command; the connection is of no use any more. */
hark_err hk_redis_strange(const hk_redis_conn *c, const char *command, hark_errinfo *ei);
/* HARK_ETIMEDOUT, in `ei` too, becomes HARK_ESTORE: for where nothing but a reply was expected. */
hark_err hk_redis_in_time(hark_err err, hark_errinfo *ei);
bool hk_redis_is_error(const redisReply *r, const char *code); /* "NOPERM" */

/* How long to wait before the n-th attempt in a row (from 1): about 50 ms, doubling up to 1 s, with
 * full jitter. */
int64_t hk_redis_pause(uint64_t n);

#endif
