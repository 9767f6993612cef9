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

void hk_bytes_clear(hk_buf *b); /* keeps memory of a usual size */

struct hark_frame {
    hk_buf name, text;
    bool has_text;
};
void hk_frame_clear(hark_frame *f); /* keeps memory of a usual size */
void hk_frame_free(hark_frame *f);
/* The message as it goes over the wire; `id` may be NULL. */
void hk_frame_write(hk_buf *b, const hark_frame *f, const char *id);
/* The message "gap": `to` is 0 when it cannot be told what is missing. */
void hk_gap_write(hk_buf *b, uint64_t from, uint64_t to, const char *reason, const char *id);

/* What is sent of one message. */
typedef struct hk_block {
    hk_ref refs;
    uint64_t seq;      /* of the event; 0 = the feed has no events */
    hark_event *event; /* what patterns and filters look at; NULL = it goes to everybody */
    size_t cost;       /* bytes that are kept with it, the event's too */
    size_t len;
    char bytes[];
} hk_block;
/* NULL: no memory, or the buffer has failed. Takes a reference to the event (may be NULL). */
hk_block *hk_block_new(const hk_buf *bytes, uint64_t seq, const hark_event *e);
hk_block *hk_block_ref(hk_block *b);
void hk_block_put(hk_block *b); /* NULL is fine */

/* ---- feeds (feed.c, feed_life.c) -------------------------------------------------------------- */

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
    bool posted; /* under feed->lock */
    size_t n;    /* under feed->lock */
    /* loop: */
    hk_readers *next; /* in the list of those behind */
    bool behind;      /* it is in that list */
    bool again;       /* when all have had their turn, they get one more */
    hk_stream *ready; /* they read the ring, and their sockets take what is sent */
    hk_stream *turn;  /* whose turn it is of them; NULL = the first one's */
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
    hk_gate over;     /* opened when the subscription calls no more */
    hk_mark caller;   /* its thread, while that may be in `encode`; 0 = none */
    hark_frame frame; /* the subscription's */
    hk_buf bytes;     /* likewise */
    hk_count readers;
    /* Under lock: blocks first to end - 1. With a pattern they tell all from low + 1 to seen, and
     * all up to seen can be read in the log. */
    pthread_mutex_t lock;
    hk_block **ring;
    size_t mask;
    uint64_t first, end;
    size_t kept_bytes;
    uint64_t low, seen;
    hk_readers *at; /* of each loop, from the app's start on */
    size_t n_at;
    char *muted[HK_MUTED_MAX]; /* types whose error has been logged */
    size_t n_muted;
};

hark_err hk_feeds_start(hark_app *app);
bool hk_feeds_call(hark_app *app); /* is this a thread that they call encoders on? */
void hk_feeds_end(hark_app *app);  /* from another one; nothing is encoded any more afterwards */
void hk_feeds_free(hark_app *app);

/* *ret is the block of an event; NULL when clients get none of it. HARK_ENOMEM is the only error:
 * others are logged, and clients get none. With no lock held. */
hark_err hk_feed_encode(hark_feed *f, hark_frame *w, hk_buf *bytes, const hark_event *e,
                        hk_block **ret);
hk_block *hk_feed_gap(hark_feed *f, uint64_t from, uint64_t to, const char *reason);
/* Of the log's epoch as it is now: a server may lose history while we run. */
void hk_feed_id(const hark_feed *f, uint64_t seq, char ret[HARK_CURSOR_TEXT]);
/* True once for each type, of so many of them. */
bool hk_feed_first_of(hark_feed *f, const char *type);

/* It tells what comes after this position. */
void hk_feed_begin(hark_feed *f, uint64_t seq);
/* All up to a position is told by this block, which it takes; NULL: clients get nothing of it. What
 * has been told already is dropped. 0: it has no positions. */
void hk_feed_append(hark_feed *f, hk_block *b, uint64_t to);
/* There was no memory to tell of what lies up to this position: everybody reads the log. */
void hk_feed_lose(hark_feed *f, uint64_t to);
void hk_feed_clear(hark_feed *f); /* nobody reads it any more */

void hk_feed_enter(hk_readers *r);
void hk_feed_leave(hk_readers *r);
void hk_feed_heard(hk_readers *r);                      /* the mail has come */
uint64_t hk_feed_end(hark_feed *f, uint64_t *ret_seen); /* the number behind the newest block */
/* Of who is about to read block number `next`: the sequence seen if that is the end, else 0. */
uint64_t hk_feed_seen_at(hark_feed *f, uint64_t next);
uint64_t hk_feed_newest(hark_feed *f, size_t n); /* the number of the n-th newest block */
/* Fills a batch from block number *next on. False: the feed no longer keeps it; then *next is the
 * oldest that it keeps. */
bool hk_feed_batch(hark_feed *f, uint64_t *next, hk_batch *ret);
/* Where the ring goes on behind a sequence. False: it does not reach back so far. */
bool hk_feed_join(hark_feed *f, uint64_t seq, uint64_t *ret_next);
uint64_t hk_feed_seen(hark_feed *f); /* all of its pattern up to this is told, and in the log */

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
    int64_t doubt_ms; /* `seen` is farther on than the log is known to go, which is waited for until
                         then; 0 = not so */
    bool asks;        /* then the store is asked, by a page */
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
void hk_stream_doubt(hk_stream *s); /* loop: looks after one in doubt; may close it */
void hk_stream_asked(hk_stream *s); /* loop: the page has come; likewise */
void hk_stream_add(hk_stream *s);   /* loop: it is open; `part` is its head */
void hk_stream_close(hk_stream *s); /* loop */
void hk_stream_news(hk_loop *l, hk_mail *m);
void hk_stream_go_on(hk_stream *s); /* when nothing keeps it from sending; may close it */
/* Sends of these blocks what the client is to have, in one call; how many are done with. `iov` is
 * of all of them, or NULL. */
size_t hk_stream_send(hk_stream *s, hk_block *const *blocks, const struct iovec *iov, size_t n);
void hk_streams_run(hk_loop *l); /* sends what feeds have; now and then looks streams over */
void hk_streams_end(hk_loop *l); /* closes all */

/* ---- reading the log (stream_log.c) ---------------------------------------------------------- */

hark_err hk_catchup_start(hark_app *app);
bool hk_catchup_is_this(const hark_app *app); /* is this its thread? */
void hk_catchup_stop(hark_app *app);          /* joins its thread; the loops have ended */
bool hk_catchup_ask(hk_stream *s);            /* loop: a page behind s->seen; false: no memory */
void hk_catchup_forget(hk_stream *s);         /* loop: it is not wanted any more */

#endif
