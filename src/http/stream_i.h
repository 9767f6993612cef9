/* Live replies: messages and their encoding (frame.c), feeds with what they keep for readers
 * (feed.c, feed_life.c), clients (stream_open.c, stream.c), and those that read the log (stream_log.c).
 *
 * A client is a position: the number of the next block in the feed's ring and the sequence it has
 * seen, and at most one block that went out in part. It belongs to its loop. A feed is shared, under
 * its lock; blocks never change once they are made. */
#ifndef HK_STREAM_I_H
#define HK_STREAM_I_H

#include "http/http_i.h"

#include <sys/uio.h>

/* ---- encoding (frame.c) ---------------------------------------------------------------------- */

struct hark_frame {
    hk_buf name, text;
    bool has_text;
};
void hk_frame_clear(hark_frame *f); /* keeps its memory */
void hk_frame_free(hark_frame *f);
/* The message as it goes over the wire; `id` may be NULL. */
void hk_frame_write(hk_buf *b, const hark_frame *f, const char *id);
/* The message "gap": from and to are 0 when they cannot be told. */
void hk_gap_write(hk_buf *b, uint64_t from, uint64_t to, const char *reason, const char *id);

/* What is sent of one message. */
typedef struct hk_block {
    hk_ref refs;
    uint64_t seq;      /* of the event; 0 = the feed has no events */
    hark_event *event; /* what patterns and filters look at; NULL = it goes to everybody */
    size_t len;
    char bytes[];
} hk_block;
/* NULL: no memory, or the buffer has failed. Takes a reference to the event (may be NULL). */
hk_block *hk_block_new(const hk_buf *bytes, uint64_t seq, const hark_event *e);
hk_block *hk_block_ref(hk_block *b);
void hk_block_put(hk_block *b); /* NULL is fine */

/* ---- feeds (feed.c, feed_life.c) ---------------------------------------------------------------------- */

enum { HK_BATCH = 64, HK_BATCH_BYTES = 256 * 1024, HK_MUTED_MAX = 64 };

/* Blocks of the ring for all readers of a loop that are at the same place. */
typedef struct hk_batch {
    bool some;      /* it has been filled */
    bool last;      /* there are no more behind these */
    uint64_t first; /* number of blocks[0] */
    uint64_t seen;  /* the sequence that is seen with the last one; of `last` ones only */
    size_t n;
    hk_block *blocks[HK_BATCH];
    struct iovec iov[HK_BATCH];
} hk_batch;
void hk_batch_drop(hk_batch *b);

struct hk_readers {
    hk_mail mail; /* there is news */
    hark_feed *feed;
    bool posted;       /* under feed->lock */
    size_t n;          /* under feed->lock */
    hk_readers *next;  /* loop: in the list of those behind */
    bool behind;       /* loop: it is in that list */
    hk_stream *ready;  /* loop: they read the ring, and their sockets take what is sent */
    hk_stream *at_end; /* loop: they have read the log to its end, and wait for news */
};

struct hark_feed {
    hark_feed *next; /* in the app's list */
    hark_app *app;
    char *pattern;
    hark_feed_fn encode;
    void *ud;
    void (*free_ud)(void *ud);
    size_t keep, keep_bytes;
    int64_t dataversion;
    hark_sub *sub;
    hark_frame frame;              /* the subscription's */
    hk_buf bytes;                  /* likewise */
    char prefix[HARK_CURSOR_TEXT]; /* of the ids: "<log>.<epoch>-" */
    hk_count readers;
    /* under lock: blocks first to end - 1; those with a sequence tell all from low + 1 to seen */
    pthread_mutex_t lock;
    hk_block **ring;
    size_t mask;
    uint64_t first, end;
    size_t kept_bytes;
    bool begun; /* low and seen are known */
    uint64_t low, seen;
    hk_readers *at; /* of each loop, from the app's start on */
    size_t n_at;
    char *muted[HK_MUTED_MAX]; /* types whose error has been logged */
    size_t n_muted;
};

hark_err hk_feeds_start(hark_app *app);
void hk_feeds_end(hark_app *app); /* nothing is encoded any more when it returns */
void hk_feeds_free(hark_app *app);

/* The block of an event; NULL when clients get none of it. With no lock held. */
hk_block *hk_feed_encode(hark_feed *f, hark_frame *w, hk_buf *bytes, const hark_event *e);
hk_block *hk_feed_gap(hark_feed *f, uint64_t from, uint64_t to, const char *reason);
void hk_feed_id(const hark_feed *f, uint64_t seq, char ret[HARK_CURSOR_TEXT]);

/* Positions from..to are told by this block, which it takes; NULL: clients get nothing of them. 0:
 * it has no positions. */
void hk_feed_append(hark_feed *f, hk_block *b, uint64_t from, uint64_t to);
void hk_feed_clear(hark_feed *f); /* nobody reads it any more */

void hk_feed_enter(hk_readers *r);
void hk_feed_leave(hk_readers *r);
void hk_feed_heard(hk_readers *r); /* the mail has come */
uint64_t hk_feed_end(hark_feed *f);
/* Of who is about to read block number `next`: the sequence seen if that is the end, else 0. */
uint64_t hk_feed_seen_at(hark_feed *f, uint64_t next);
uint64_t hk_feed_newest(hark_feed *f, size_t n); /* the number of the n-th newest block */
/* Fills a batch from block number *next on. False: the feed no longer keeps it; then *next is the
 * oldest that it keeps. */
bool hk_feed_batch(hark_feed *f, uint64_t *next, hk_batch *ret);
/* Where the ring goes on behind a sequence, or that it does not reach back so far. */
typedef enum hk_join { HK_JOIN_YES, HK_JOIN_BEHIND, HK_JOIN_EMPTY } hk_join;
hk_join hk_feed_join(hark_feed *f, uint64_t seq, uint64_t *ret_next);
uint64_t hk_feed_seen(hark_feed *f); /* 0 = nothing yet */

/* ---- clients (stream_open.c, stream.c) ------------------------------------------------------- */

typedef struct hk_page hk_page;

struct hk_stream {
    hk_watch watch;
    hk_stream *prev, *next;    /* of the loop */
    hk_stream *rnext, **rhere; /* in a list of the readers; rhere NULL = in none */
    hk_loop *loop;
    hk_readers *of;
    int fd;
    bool blocked;   /* its socket takes nothing until epoll says so */
    bool gone;      /* to be closed */
    bool from_log;  /* it reads the log; else the ring */
    hk_page *page;  /* that is being read for it */
    uint64_t at;    /* ring: number of the next block */
    uint64_t seen;  /* all up to this sequence is sent, or passed over */
    uint64_t told;  /* the last id that the client has */
    hk_block *part; /* sent up to `off` */
    size_t off;
    size_t heard; /* bytes that came from the client */
    int64_t sent_ms, blocked_ms;
    /* as opened */
    hark_feed *feed;
    char *pattern;
    bool (*filter)(const hark_event *e, void *ud);
    void *ud;
    void (*free_ud)(void *ud);
    int64_t heartbeat_ms, retry_ms, stall_ms;
    size_t last;
    enum { HK_FROM_NOW, HK_FROM_FIRST, HK_FROM_SEEN, HK_FROM_OTHER } from;
};

void hk_stream_free(hk_stream *s);  /* of one that is not open, or not any more */
void hk_stream_begin(hark_ctx *c);  /* loop: sends the reply of this context */
void hk_stream_add(hk_stream *s);   /* loop: it is open; `part` is its head */
void hk_stream_close(hk_stream *s); /* loop */
void hk_stream_news(hk_loop *l, hk_mail *m);
void hk_stream_go_on(hk_stream *s); /* when nothing keeps it from sending; may close it */
void hk_stream_wait(hk_stream *s);  /* at the end of the log */
/* Sends of these blocks what the client is to have, in one call; how many are done with. `iov` is
 * of all of them, or NULL. */
size_t hk_stream_send(hk_stream *s, hk_block *const *blocks, const struct iovec *iov, size_t n);
void hk_streams_run(hk_loop *l); /* sends what feeds have; now and then looks streams over */
void hk_streams_end(hk_loop *l); /* closes all */

/* ---- reading the log (stream_log.c) ---------------------------------------------------------- */

hark_err hk_catchup_start(hark_app *app);
void hk_catchup_stop(hark_app *app);  /* joins its thread; the loops have ended */
bool hk_catchup_ask(hk_stream *s);    /* loop: a page behind s->seen; false: no memory */
void hk_catchup_forget(hk_stream *s); /* loop: it is not wanted any more */

#endif
