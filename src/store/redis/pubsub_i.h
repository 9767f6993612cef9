/* pubsub_i.h: the parts of redis+pubsub: pubsub.c (its life), publish.c (the writer's side),
 * listen.c (what comes in). Each side has a connection of its own: one that has subscribed takes no
 * other commands. */
#ifndef HK_STORE_REDIS_PUBSUB_I_H
#define HK_STORE_REDIS_PUBSUB_I_H

#include "event/event.h"
#include "store/redis/conn_i.h"
#include "store/redis/redis.h"

enum { HK_PUBSUB_BATCH = 64, HK_PUBSUB_WARNED = 1024, HK_PUBSUB_NAME = 64 };

/* A connection, and the story of its failures. */
typedef struct hk_pubsub_side {
    hk_redis_conn conn;
    char name[HK_PUBSUB_NAME]; /* the server's for it */
    uint64_t failures;         /* attempts to connect in a row that failed */
    int64_t next_ns;           /* no attempt before this, mono */
    char why[256];             /* of the last failure */
} hk_pubsub_side;

struct hark_store {
    hark_store_host host;
    hk_redis_url url;
    const char *prefix; /* of every channel; the url's */
    size_t prefix_len;
    uint8_t log_id[16];
    int stop;     /* an event descriptor: readable once the store is to be closed */
    hk_mark last; /* newest sequence given out */
    pthread_t thread;
    bool running;
    /* the writer's */
    hk_pubsub_side out;
    /* the listening thread's, open's before it */
    _Alignas(HK_CACHELINE) hk_pubsub_side in;
    uint64_t given;      /* as `last`, with those in the batch */
    int64_t recorded_ns; /* of the newest */
    hark_event *batch[HK_PUBSUB_BATCH];
    size_t n;
    uint64_t warned[HK_PUBSUB_WARNED / 64]; /* bits: types of which that was told, by their hash */
};

/* publish.c */
void hk_pubsub_send(hark_store *s, hark_store_message *messages, size_t n);

/* listen.c */
/* Connects and subscribes. */
hark_err hk_pubsub_subscribe(hark_store *s, hark_errinfo *ei);
void *hk_pubsub_listen(void *store); /* the thread */

/* pubsub.c: an attempt has failed; tells of the first one in a row. */
void hk_pubsub_failed(hk_pubsub_side *side, const hark_errinfo *ei);
/* It is connected; tells so after failures. */
void hk_pubsub_connected(hark_store *s, hk_pubsub_side *side);

#endif
