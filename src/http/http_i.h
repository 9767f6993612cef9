/* What the files of this folder share: app, groups, loops, connections, contexts, and who owns
 * them. A connection and its context belong to one loop thread. While a worker or a deferred holder
 * has the context (hk_ctx_held), the loop touches only the fields marked "loop". Everything that
 * comes from another thread comes through the loop's mailbox. */
#ifndef HK_HTTP_I_H
#define HK_HTTP_I_H

#include "base/base.h"
#include "http/router_i.h"

#include <hark/middleware.h>
#include <hark/stream.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <time.h>

#define HK_TARGET_MAX    8192 /* bytes of a request target */
#define HK_HEADERS_MAX   100  /* of a request */
#define HK_MIN_RATE      1024 /* bytes a second, of bodies and replies, after the grace */
#define HK_LOOPS_MAX     64
#define HK_LISTENERS_MAX 8
#define HK_CTX_BLOCK     8192  /* a context and the first bytes of its arena */
#define HK_BODY_KEEP     65536 /* a body buffer up to this is kept for the next request */
#define HK_HTTP_DATE     32

typedef struct hk_loop hk_loop;
typedef struct hk_conn hk_conn;
typedef struct hk_keyed hk_keyed;
typedef struct hk_stream hk_stream;   /* a client of a live reply; stream_i.h */
typedef struct hk_readers hk_readers; /* those of one feed on one loop */
typedef struct hk_catchup hk_catchup; /* the thread that reads the log for them */

/* ---- arena: memory of one request ---------------------------------------------------------- */

typedef struct hk_arena_block hk_arena_block;
typedef struct hk_arena {
    hk_arena_block *blocks; /* further ones, newest first */
    char *at, *end;
    char *first, *first_end;
} hk_arena;

void hk_arena_init(hk_arena *a, void *first, size_t len);
void *hk_arena_alloc(hk_arena *a, size_t size);                 /* 16-aligned */
char *hk_arena_copy(hk_arena *a, const void *data, size_t len); /* NUL added */
void hk_arena_reset(hk_arena *a);

/* ---- mailbox ------------------------------------------------------------------------------- */

/* A message to a loop; embedded in what it is about. */
typedef struct hk_mail {
    struct hk_mail *next;
    void (*fn)(hk_loop *l, struct hk_mail *m);
} hk_mail;

/* What a loop's epoll watches; embedded in it. `fn` may free what it is called for, and nothing else
 * that is watched. */
typedef struct hk_watch {
    void (*fn)(hk_loop *l, struct hk_watch *w, uint32_t events);
} hk_watch;

/* ---- routes and middleware ------------------------------------------------------------------ */

typedef struct hk_link { /* one station of a chain */
    hark_http_fn fn;
    void *ud;
} hk_link;

typedef struct hk_mw {
    struct hk_mw *next;
    hark_middleware m;
} hk_mw;

typedef struct hk_chain {
    hk_link *links;
    size_t n;
    size_t body_limit;
} hk_chain;

typedef struct hk_route {
    struct hk_route *next; /* in the list of all */
    hk_route_entry *entry;
    hark_group *group;
    hark_http_fn fn;
    void *ud;
    void (*free_ud)(void *ud);
    bool blocking;
    size_t body_limit;
    hk_chain chain; /* made by hk_app_freeze */
} hk_route;

struct hark_group {
    struct hark_group *next; /* in the list of all */
    hark_app *app;
    hark_group *parent; /* NULL: the app itself */
    char *prefix;       /* whole, with the parents' */
    hk_mw *first_mw, *last_mw;
};

/* ---- workers -------------------------------------------------------------------------------- */

typedef struct hk_workers {
    pthread_mutex_t lock;
    pthread_cond_t more;
    pthread_t *threads;
    size_t n_threads;
    hark_ctx *first, *last;
    size_t queued, limit;
    bool stopping;
} hk_workers;

hark_err hk_workers_start(hk_workers *w, size_t n, size_t limit);
bool hk_workers_push(hk_workers *w, hark_ctx *c); /* false when full */
void hk_workers_stop(hk_workers *w);              /* waits for handlers that run */

/* ---- loops ---------------------------------------------------------------------------------- */

typedef struct hk_counts { /* counted by the loop, read by anybody */
    hk_count connections, accepted, requests, refused, timed_out;
    hk_count streams, streams_cut;
} hk_counts;

struct hk_loop {
    hark_app *app;
    size_t index;
    pthread_t thread;
    bool running;
    struct MHD_Daemon *daemon;
    int epfd, mhd_fd, wake_fd;
    int dead_fd; /* goes in the place of a socket that a stream took from libmicrohttpd */
    hk_watch wake_watch, mhd_watch;
    int64_t now_ms, next_sweep_ms;
    int64_t waited_ms; /* when it last looked at descriptors other than connections */
    bool active;       /* a request began in this round */
    bool again;        /* libmicrohttpd has work that it does not tell of */
    hk_conn *conns;
    hk_conn *lingers;
    size_t n_lingers;
    hk_stream *streams;
    hk_stream *sweep_at; /* of them: where looking over goes on; NULL = at the first one */
    hk_readers *behind;  /* feeds that have something for their readers */
    int64_t next_streams_ms, streams_every_ms; /* when streams are looked over */
    hark_ctx *free_ctx;
    size_t n_free_ctx;
    size_t n_live; /* contexts that are not free */
    hark_ctx *live;
    hark_ctx *timers, *last_timer; /* sorted by deadline, soonest first */
    hk_counts counts;
    hk_mail stop_mail;
    bool stopping;
    bool cut; /* requests were under way at the deadline */
    int64_t stop_at_ms;
    /* under lock */
    pthread_mutex_t lock;
    hk_mail *first, *last;
    bool sleeping, dead;
    size_t orphans_done; /* dead: references to the app to drop */
    hk_stream *unopened; /* dead: to be freed without the lock, by `next` */
};

hark_err hk_loop_start(hk_loop *l);
void hk_loop_stop(hk_loop *l); /* asks it to; from any thread, once */
void hk_loop_post(hk_loop *l, hk_mail *m);
bool hk_loop_take(hk_loop *l, bool may_sleep); /* runs what is there; true when there was some */
bool hk_loop_watch(hk_loop *l, int fd, hk_watch *w, uint32_t events);
void hk_loop_timer_add(hk_loop *l, hark_ctx *c);
void hk_loop_timer_drop(hk_loop *l, hark_ctx *c);

/* ---- listening --------------------------------------------------------------------------------
 */

typedef struct hk_listener {
    hk_watch watch;
    int fd;
} hk_listener;
hark_err hk_accept_start(hk_loop *l);     /* on the first loop */
size_t hk_accept_limit(const hk_loop *l); /* connections and streams that it may have */
void hk_accept_end(hk_loop *l);           /* takes what is queued, then closes the listeners */

/* ---- connections ------------------------------------------------------------------------------
 */

typedef enum hk_stage { HK_STAGE_HEAD, HK_STAGE_BODY, HK_STAGE_RUN, HK_STAGE_SEND } hk_stage;

struct hk_conn {
    hk_watch watch; /* of one that lingers */
    hk_conn *prev, *next;
    hk_loop *loop;
    struct MHD_Connection *mhd; /* NULL for one that only lingers */
    hark_ctx *req;
    int fd;
    struct sockaddr_in6 peer;
    hk_stage stage;
    int64_t since_ms; /* of the stage */
    int64_t limit_ms; /* of a head: how long it may take from then on */
    uint64_t moved;   /* bytes of the stage: of the body received, of the reply to send */
    bool shut;        /* its end has been asked for */
    bool linger;      /* read on for a while before closing, so that the reply arrives */
};

void hk_conn_stage(hk_conn *k, hk_stage stage, uint64_t moved);
void hk_conn_sweep(hk_loop *l);             /* closes what is too slow, or idle on stop */
void hk_conn_abort(hk_conn *k, int status); /* writes a last reply past libmicrohttpd */
void hk_conn_linger_fd(hk_loop *l, int fd); /* takes it over */
void hk_conn_linger_end(hk_loop *l, hk_conn *k);
struct MHD_Daemon *hk_conn_daemon(hk_loop *l);

/* ---- contexts ----------------------------------------------------------------------------------
 */

typedef struct hk_header {
    const char *name;
    char *value;
    uint32_t name_len, value_len;
} hk_header;

typedef struct hk_out_header {
    struct hk_out_header *next;
    const char *name, *value;
} hk_out_header;

typedef struct hk_reply {
    int status; /* 0: none set */
    const char *content_type;
    const void *body;
    size_t len;
    void *heap; /* body to free, or NULL */
    int fd;     /* -1, or a file instead of body */
    uint64_t fd_off;
    hk_stream *stream; /* instead of all but the status */
} hk_reply;

typedef struct hk_hook {
    struct hk_hook *next;
    hark_reply_fn reply;
    hark_done_fn done;
    void *ud;
} hk_hook;

typedef struct hk_value {
    struct hk_value *next;
    const void *key;
    void *value;
} hk_value;

typedef struct hk_bound { /* a struct's owned members, to be freed with the request */
    struct hk_bound *next;
    const hark_json_table *table;
    void *copy;
} hk_bound;

typedef struct hk_pub { /* a publish on its way */
    hk_mail mail;
    struct hk_pub *next;
    hark_ctx *c;
    hark_ctx_published_fn fn;
    void *ud;
    pthread_t caller;
    bool inside; /* caller's: the async call has not returned yet */
    bool came;   /* caller's: it was called back inside */
    hark_err err;
    hark_receipt receipt;
} hk_pub;

struct hark_ctx {
    /* loop */
    hark_ctx *prev, *next; /* live list, or free list by next */
    hk_loop *loop;
    hk_conn *conn; /* NULL when the connection is done with it */
    hk_mail work_mail, resume_mail, timer_mail;
    hark_ctx *timer_prev, *timer_next;
    hk_pub *early; /* receipts that came while the context was held */
    int64_t deadline_ms;
    const char *deadline_id; /* request id for the reply in the handler's place */
    int deadline_status;
    bool timed;     /* in the list of timers */
    bool on_worker; /* queued for or with a worker */
    bool away;      /* deferred, not resumed */
    bool resumed;   /* resume came before the worker was done */
    bool suspended;
    bool queued;   /* a reply was given to libmicrohttpd */
    bool taken;    /* its connection goes on as a stream */
    bool detached; /* not this context's: hark_timeout or the end of the loop */
    bool guarded;  /* the head has been looked at */
    bool close;    /* the connection ends with this reply */
    bool ran;      /* the chain was started, or the request refused */
    hark_outcome outcome;
    /* worker queue, under its lock */
    hark_ctx *work_next;
    /* handler, or whoever holds it */
    hark_app *app;
    hk_arena arena;
    const char *method, *target, *query, *version;
    size_t target_len, method_len, raw_len;
    hk_method method_id;
    hk_header *headers;
    size_t n_headers;
    bool has_length, chunked;
    uint64_t content_length;
    size_t body_limit;
    hk_buf body;
    const hk_route *route;
    const hk_chain *chain;
    size_t at; /* next station of the chain */
    size_t n_params;
    const char *params[HK_ROUTE_PARAMS];
    const char *allow; /* 405, OPTIONS */
    const char *request_id, *remote;
    struct sockaddr_in6 peer; /* or sockaddr_in, by family */
    int64_t started_ns, started_mono_ns;
    bool deferred;
    hark_http_fn go_on; /* what the holder gave back: where the chain goes on, or NULL */
    void *go_on_ud;
    hark_err err;        /* what the handler returned */
    hark_err resume_err; /* what the holder gave back */
    hark_err pub_err;    /* of the first publish that failed */
    hark_err kept;       /* of composing calls */
    size_t open_pubs;
    uint64_t published; /* highest sequence that it has published; 0 = none */
    char *detail;
    hark_err detail_of;
    const char *faults; /* JSON of `errors` */
    hk_keyed *keyed;    /* hark_idempotency: the request carries a key; NULL = it does not */
    bool whole; /* hark_idempotency: a reply that is not to be stored undoes its transaction */
    hk_reply reply;
    hk_out_header *out_headers;
    hk_hook *reply_hooks, *done_hooks;
    hk_value *values;
    hk_bound *bound;
    hk_path path; /* last: not cleared as a whole */
};

static inline bool hk_ctx_held(const hark_ctx *c)
{
    return c->on_worker || c->away;
}

/* life (request.c) */
hark_ctx *hk_ctx_new(hk_conn *k);
void hk_ctx_run(hark_ctx *c);    /* starts the chain, here or on a worker */
void hk_ctx_go_on(hark_ctx *c);  /* goes on with it where it was suspended */
void hk_ctx_chain(hark_ctx *c);  /* the chain itself */
void hk_ctx_settle(hark_ctx *c); /* loop: sends the reply if nothing is open any more */
void hk_ctx_done(hark_ctx *c, bool complete); /* loop: the connection is done with it */
void hk_ctx_refuse(hark_ctx *c, int status, const char *why); /* loop: before any handler */
void hk_ctx_expire(hark_ctx *c); /* loop: answers in the handler's place */
void hk_ctx_detach(hark_ctx *c);
void hk_ctx_compose(hark_ctx *c); /* errors become the reply */
void hk_ctx_free_all(hk_loop *l);

/* How often the request has a header (ctx.c). */
size_t hk_ctx_headers(const hark_ctx *c, const char *name);

/* publishing (publish.c) */
void hk_pub_apply(hark_ctx *c, hk_pub *p);
void hk_ctx_resumed(hk_loop *l, hk_mail *m);
/* It has published: its reply says so in Hark-Seq. */
void hk_ctx_published(hark_ctx *c, const hark_receipt *receipt);
void hk_ctx_say_published(hark_ctx *c); /* sets that header, if there is something to say */

/* reply (reply.c, problem.c) */
struct MHD_Response *hk_reply_make(hark_ctx *c);
void hk_reply_clear(hk_reply *r);
hark_err hk_ctx_keep(hark_ctx *c, hark_err err); /* the first one of composing calls counts */
hark_err hk_reply_set(hark_ctx *c, int status, const char *type, const void *body, size_t len,
                      void *heap);
const char *hk_status_text(int status);
size_t hk_problem_write(hk_buf *b, int status, const char *title, const char *detail,
                        const char *request_id, const char *faults);
void hk_problem_for(hark_ctx *c, hark_err err);
void hk_problem_bare(hark_ctx *c);              /* 503, out of memory: needs none */
bool hk_token(const char *s, size_t len);       /* an HTTP token */
bool hk_field_value(const char *s, size_t len); /* no control characters but tab */

/* "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110 section 5.6.7), in every locale (static_facts.c) */
void hk_http_date(time_t t, char ret[HK_HTTP_DATE]);

/* target (target.c): decodes path and query in place of `target`; what is wrong, or NULL */
const char *hk_target_parse(hark_ctx *c, const char *raw, size_t len);
const char *hk_query_find(hark_ctx *c, const char *name);
size_t hk_query_count(const hark_ctx *c, const char *name); /* how often it is there */

/* guard (guard.c): status of the refusal, with its reason; 0 when the head is fine */
int hk_guard(hark_ctx *c, const char *method, const char *url, const char *version,
             const char **ret_why);
int hk_guard_trailers(hark_ctx *c, const char **ret_why);
int hk_guard_head(hark_ctx *c, char *head, size_t len, const char **ret_why);
int hk_guard_fields(hark_ctx *c, bool http_1_0, const char **ret_why);

/* routing (dispatch.c) */
void hk_dispatch(hark_ctx *c);
extern const hk_link hk_no_route;

/* ---- the app ------------------------------------------------------------------------------------
 */

/* Events that the bus had no room for; outlives the app while publishes are on their way. */
typedef struct hk_drops {
    hk_ref refs;
    hk_count n;
} hk_drops;
void hk_drops_put(hk_drops *d);

struct hark_app {
    hk_ref refs;
    hark_app_opts opts;
    pthread_rwlock_t bus_lock; /* publishing against the app's end */
    hark_bus *bus;             /* under bus_lock; NULL when the program has let the app go */
    bool has_bus;
    hark_errinfo fault; /* first fault of setting up */
    hark_group root;
    hark_group *groups;
    hk_router router;
    hk_route *routes;
    hk_chain plain; /* for 404 and 405: the app's middleware */
    hk_listener listeners[HK_LISTENERS_MAX];
    size_t n_listeners;
    int reserve_fd; /* given up for a moment when descriptors run out */
    size_t next_loop;
    hk_loop *loops;
    size_t n_loops;
    hk_workers workers;
    int quit_fd;
    int port; /* kept when the app starts */
    bool started, stopped;
    hk_drops *drops;
    hark_feed *feeds;
    hk_catchup *catchup;
};

hark_err hk_app_fault(hark_app *app, hark_err err, const hark_errinfo *ei);
hark_err hk_app_freeze(hark_app *app, hark_errinfo *ei);
void hk_app_put(hark_app *app);
/* Publishes on the app's bus unless the program has let the app go (HARK_ECLOSED). */
hark_err hk_app_publish(hark_app *app, const hark_event_spec *spec, hark_published_fn fn, void *ud);
void hk_routes_free(hark_app *app);

#endif
