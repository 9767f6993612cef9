/* stream_i.h: the inside of the store `redis`: a stream as the log, hashes beside it as the ledger, all under the keys
 * {hark:NAME}:… Whatever reads and writes more than one thing is one script, put together from the *.lua here;
 * each of these says which keys it has. No key ever expires.
 *
 * What a group is told is kept in the store and carried out by one call of the script at its commit. Where a verdict is
 * wanted before, the script judges what there is of the group without writing; should the commit find another verdict,
 * since another process was quicker, nothing of the group is stored (HARK_ESTORE).
 *
 * url.c, conn.c   what the stores on Redis share (conn_i.h)
 * wire.c          lists of fields as text
 * embed.py        makes one script of the *.lua, as a C file
 * link.c          a connection that is ready: logged in, of the right class (class.c), with the script
 * call.c          a call of the script
 * stream.c        open, close, info
 * group.c         begin, commit, rollback; judging
 * append.c, read.c, entry.c, count.c, versions.c, trim.c   the log
 * consumer.c, save.c, admin.c, letters.c, redrive.c        the ledger
 * schedules.c, replays.c
 * shares.c        this process among others; tail.c: waiting for them; revive.c: a server that lost the log's end */
#ifndef HK_STORE_REDIS_STREAM_I_H
#define HK_STORE_REDIS_STREAM_I_H

#include "event/event.h"
#include "store/common/common.h"
#include "store/redis/conn_i.h"
#include "store/redis/redis.h"

#include <hark/store.h>

#include <pthread.h>
#include <stdio.h>

#define HK_RS_SCHEME "redis"
enum {
    HK_RS_FORMAT = 1,  /* of the keys */
    HK_RS_SHARES = 32, /* of a consumer, unless the URL says otherwise */
    HK_RS_READERS = 4,
    HK_RS_NAME = 64,   /* of a log */
    HK_RS_SLACK = 4096 /* see revive.c */
};
#define HK_RS_LEASE_MS 10000

/* ---- wire.c ----------------------------------------------------------------------------------- */

typedef struct hk_text hk_text;

typedef struct hk_wire {
    const char *p, *end;
    bool bad; /* it was not a list; what was read since is nothing */
} hk_wire;

/* Decimals, not terminated; how many bytes. */
size_t hk_digits(uint64_t n, char ret[20]);
size_t hk_decimal(int64_t n, char ret[21]);
void hk_wire_add(hk_buf *b, const void *data, size_t len); /* NULL = absent */
void hk_wire_add_str(hk_buf *b, const char *s);
void hk_wire_add_int(hk_buf *b, int64_t n);
hk_wire hk_wire_of(hk_text t);
bool hk_wire_more(const hk_wire *w);
hk_text hk_wire_next(hk_wire *w); /* s NULL = absent; a NUL is behind it */
int64_t hk_wire_int(hk_wire *w);  /* absent = 0 */
uint64_t hk_wire_u64(hk_wire *w);

/* ---- the script: embed.py ----------------------------------------------------------------------- */

typedef struct hk_rs_script {
    const char *text;
    size_t len;
} hk_rs_script;
extern const hk_rs_script hk_rs_script_whole;
extern const hk_rs_script hk_rs_script_append; /* for groups that do nothing else: base.lua */

/* ---- what the script answers, see base.lua ------------------------------------------------------ */

enum {
    HK_RS_OK,
    HK_RS_ENOTFOUND,
    HK_RS_ECONFLICT,
    HK_RS_EVERSION,
    HK_RS_ESTALE,
    HK_RS_EAGAIN,
    HK_RS_EINVAL
};

/* ---- a connection: link.c ----------------------------------------------------------------------- */

typedef struct hk_link {
    hk_redis_conn conn;
    char name[32]; /* the server's for it: "hark-write-PID" */
    bool ready;    /* connected, looked at, and the script is there */
} hk_link;

/* What a server is set to, as found at a connect: class.c */
typedef struct hk_rs_class {
    hark_durability durability;
    char run[48]; /* the server's run_id */
} hk_rs_class;

/* ---- arguments of one operation: group.c -------------------------------------------------------- */

/* Fields as the protocol has them, and how many. */
typedef struct hk_rs_args {
    hk_buf bytes;
    size_t n;
} hk_rs_args;

void hk_rs_arg(hk_rs_args *a, const void *data, size_t len);
void hk_rs_arg_str(hk_rs_args *a, const char *s); /* NULL = empty */
void hk_rs_arg_int(hk_rs_args *a, int64_t n);
void hk_rs_arg_buf(hk_rs_args *a, const hk_buf *b); /* its failure is `a`'s, too */

/* What the script said to one operation. */
typedef struct hk_rs_reply {
    int64_t code;
    hk_wire is;   /* the reply, behind the code */
    hk_text more; /* see run.lua */
    hk_text pin;  /* the reply as it came */
} hk_rs_reply;

/* An operation of the group under way. */
typedef struct hk_rs_op {
    const char *name;
    size_t from, n;    /* its arguments */
    size_t pin, n_pin; /* in `pins`; n_pin 0 = none */
    bool lenient;      /* a schedule's: goes with the unit behind it */
    /* told at the commit; NULL = nothing is */
    hark_err (*told)(struct hark_store *s, struct hk_rs_op *op, hk_rs_reply *r, hark_errinfo *ei);
    void *of;             /* a save's */
    size_t unit, n_units; /* an append's */
} hk_rs_op;

/* What is appended all or none. */
typedef struct hk_rs_unit {
    hark_store_append *items; /* NULL = its verdict has been told */
    size_t n;
    hark_errinfo *ei;
} hk_rs_unit;

typedef struct hk_rs_group {
    bool open;
    hk_rs_args args;
    hk_buf pins;
    hk_rs_op *ops;
    size_t n, cap;
    hk_rs_unit *units;
    size_t n_units, cap_units;
    hk_buf part; /* of an argument */
} hk_rs_group;

/* A call of the script: mode, ticket, the operations. */
typedef struct hk_rs_call {
    bool commits, any_epoch;
    uint64_t ticket;
    const hk_rs_args *args;
    const hk_buf *pins;
    const hk_rs_op *ops;
    size_t n;
} hk_rs_call;

/* A consumer that this process has open: what is needed to register it again. revive.c */
typedef struct hk_rs_known {
    char *name, *pattern, *policy;
    uint64_t id, generation;
    uint32_t shares;
} hk_rs_known;

/* How far retention has come with a rule. trim.c */
typedef struct hk_rs_pass {
    uint64_t rule; /* 0 = none */
    uint64_t from;
    uint64_t held; /* so many of the pattern stayed */
} hk_rs_pass;
enum { HK_RS_PASSES = 16 };

struct hark_store {
    hk_redis_url url;
    char log[HK_RS_NAME];
    char key[HK_RS_NAME + 16]; /* "{hark:NAME}:log" */
    char db[24];               /* "" = the server's first */
    char where[160];           /* for texts: the server and the log */
    uint32_t shares;           /* of a new consumer */
    int64_t lease_ms;
    bool existing; /* there must be a log already */
    uint8_t log_id[16];
    char log_hex[36]; /* the same, as the server has it */
    char process[40]; /* this one, at this opening */
    char sha[2][48];  /* of the scripts: the whole one, and for appending */
    hk_mark epoch, last, durability;
    hk_mark gone;         /* up to here the log has nothing any more */
    hk_mark replaced;     /* not 0: another log is in its place */
    hk_mark entry_bytes;  /* an event's about, of late */
    pthread_mutex_t lock; /* the three lists */
    hk_rs_known *known;
    size_t n_known, cap_known;
    hk_link *readers[HK_RS_READERS]; /* at rest */
    size_t n_readers;
    /* the writer's */
    hk_link write;
    hk_rs_group group;
    uint64_t ticket;
    hk_rs_pass passes[HK_RS_PASSES]; /* trim.c */
    size_t next_pass;
    /* the party's */
    hk_link party;
    /* the tailer's */
    hk_link tail;
    int wake;     /* an event descriptor */
    bool waiting; /* an XREAD is under way */
    uint64_t seen_shares, seen_schedules, seen_hint, seen_epoch;
};

/* link.c */
/* Ready for calls: connects when it must. Errors as hk_redis_connect, and those of the class. */
hark_err hk_link_ready(hark_store *s, hk_link *l, hark_errinfo *ei);
void hk_link_close(hk_link *l);
void hk_link_init(hk_link *l, const char *what);
/* Sends what was added and waits for a reply; any failure closes the link. */
hark_err hk_link_ask(hk_link *l, redisReply **ret, hark_errinfo *ei);
/* One command of strings, likewise. */
hark_err hk_link_command(hk_link *l, const char *const *words, size_t n, redisReply **ret,
                         hark_errinfo *ei);
hark_err hk_link_load(hark_store *s, hk_link *l, hark_errinfo *ei); /* the script */
/* Of a string that is a number; 0 = it is none. */
uint64_t hk_rs_number(const redisReply *r);
/* What an error reply to a call stands for. */
hark_err hk_link_refused(const hark_store *s, const hk_link *l, const redisReply *r,
                         hark_errinfo *ei);
/* A connection of the readers' own: taken, ready, and given back. */
hark_err hk_rs_reader_take(hark_store *s, hk_link **ret, hark_errinfo *ei);
void hk_rs_reader_give(hark_store *s, hk_link *l);
void hk_rs_readers_close(hark_store *s);

/* A command of strings on a reader's connection, up to HK_RS_ASK_MOST of them behind the key, which is without the
 * prefix. Not an error reply. */
enum { HK_RS_ASK_MOST = 70 };
hark_err hk_rs_ask(hark_store *s, const char *command, const char *key, const char *const *more,
                   size_t n, redisReply **ret, hark_errinfo *ei);

/* class.c */
/* Whether the server can have a log, and what a commit on it is worth. HARK_EFORMAT: too old; HARK_EREADONLY: a
 * replica; HARK_EINVAL: it may throw keys away. */
hark_err hk_rs_class_look(hark_store *s, hk_link *l, hk_rs_class *ret, hark_errinfo *ei);

/* call.c */
/* What the log's hash has in `stamp` as long as it is the one that is known here. */
enum { HK_RS_STAMP = 64 };
void hk_rs_stamp(hark_store *s, char ret[HK_RS_STAMP]);
/* Calls the script over a link that is ready. *ret is what it answers: a string, which lists replies (hk_rs_reply_next).
 * HARK_EAGAIN: another epoch; HARK_ECONFLICT: another process was quicker. */
hark_err hk_rs_call_once(hark_store *s, hk_link *l, const hk_rs_call *call, redisReply **ret,
                         hark_errinfo *ei);
hark_err hk_rs_reply_next(const hark_store *s, hk_wire *w, hk_rs_reply *ret, hark_errinfo *ei);
/* One operation by itself, at once, over this link; with a new connection when the first one was lost, so
 * that it may be carried out twice. Give *ret_raw to freeReplyObject. */
hark_err hk_rs_do(hark_store *s, hk_link *l, bool commits, const char *name, const hk_rs_args *args,
                  redisReply **ret_raw, hk_rs_reply *ret, hark_errinfo *ei);
/* Likewise, over a reader's connection. */
hark_err hk_rs_look(hark_store *s, const char *name, const hk_rs_args *args, redisReply **ret_raw,
                    hk_rs_reply *ret, hark_errinfo *ei);
/* What the server said is not what the script answers. */
hark_err hk_rs_strange(const hark_store *s, hark_errinfo *ei);
hark_err hk_rs_no_memory(const hark_store *s, hark_errinfo *ei);

/* group.c */
hark_err hk_rs_begin(hark_store *s, hark_errinfo *ei);
hark_err hk_rs_commit(hark_store *s, hark_errinfo *ei);
void hk_rs_rollback(hark_store *s);
void hk_rs_group_free(hark_store *s);
/* Begins an operation: its arguments follow (hk_rs_arg…(&s->group.args)). NULL: no group, or no memory. */
hk_rs_op *hk_rs_op_new(hark_store *s, const char *name, hark_errinfo *ei);
/* Its arguments are complete, and it may wait for the commit. */
hark_err hk_rs_op_wait(hark_store *s, hark_errinfo *ei);
/* Its arguments are complete, and the verdict is wanted now: the answer to it. Refused: it is out of the group again.
 * Give *ret_raw to freeReplyObject. */
hark_err hk_rs_op_judge(hark_store *s, redisReply **ret_raw, hk_rs_reply *ret, hark_errinfo *ei);
/* The last one is out of the group. */
void hk_rs_op_drop(hark_store *s);
/* A number that is wanted before the commit: n of them, the first one. */
hark_err hk_rs_draw(hark_store *s, const char *counter, size_t n, uint64_t *ret, hark_errinfo *ei);

/* append.c */
hark_err hk_rs_append(hark_store *s, hark_store_append *items, size_t n, hark_errinfo *ei);
/* "source NUL id", as events are found by. */
void hk_rs_name(const hark_event *e, hk_buf *ret);

/* entry.c */
/* The part of an event that hardly anybody but us looks into: its envelope and data. */
hark_err hk_rs_body(const hark_event *e, hk_buf *ret, hark_errinfo *ei);
/* An entry of the stream: its place, and the event. HARK_ECORRUPT. */
hark_err hk_rs_entry(const hark_store *s, const redisReply *entry, hark_event **ret,
                     hark_errinfo *ei);
uint64_t hk_rs_entry_place(const redisReply *entry); /* 0 = it is no entry */

/* stream.c: the log has come as far as that. */
void hk_rs_reached(hark_store *s, uint64_t last);
/* Where it began when it ended there; 0 = it was empty. */
void hk_rs_begins(hark_store *s, uint64_t first, uint64_t last);

/* read.c */
hark_err hk_rs_read(hark_store *s, const hark_store_query *q, hark_store_page *ret,
                    hark_errinfo *ei);
/* A time as the script has it: the first microsecond that is not before it. */
int64_t hk_rs_us(int64_t ns);
/* The first sequence recorded at or after a time; one past the end when there is none. */
hark_err hk_rs_seek(hark_store *s, int64_t ns, uint64_t *ret, hark_errinfo *ei);

/* count.c */
hark_err hk_rs_count(hark_store *s, const hark_store_query *q, uint64_t *ret, hark_errinfo *ei);

/* versions.c */
hark_err hk_rs_versions(hark_store *s, hark_store_version_fn fn, void *ud, hark_errinfo *ei);
/* Types in the log that a pattern matches, in order. */
typedef struct hk_rs_types_of {
    redisReply *raw; /* has the names */
    const char **names;
    size_t n;
    bool all; /* the log has events of no other */
    uint64_t events;
} hk_rs_types_of;
hark_err hk_rs_types(hark_store *s, const char *pattern, hk_rs_types_of *ret, hark_errinfo *ei);
void hk_rs_types_free(hk_rs_types_of *t); /* also after an error */
/* Where the next events of these types can be, from `from` on; 0 = nowhere. */
hark_err hk_rs_skip(hark_store *s, const hk_rs_types_of *types, uint64_t from, uint64_t *ret,
                    hark_errinfo *ei);

/* consumer.c */
hark_err hk_rs_consumer_open(hark_store *s, hark_store_consumer *c, hark_errinfo *ei);
/* What state_of tells (consumer.lua): floor, highest, settled set, rows. */
hark_err hk_rs_take_state(const hark_store *s, hk_wire *w, hark_store_claim *ret, hark_errinfo *ei);
void hk_rs_take_rerun(hk_text text, hark_store_rerun *ret);
void hk_rs_claim_clear(hark_store_claim *c);
/* Start as the script has it: kind and value. HARK_EINVAL. */
hark_err hk_rs_start(hk_rs_args *a, const char *name, int64_t start, uint64_t sequence,
                     int64_t time_ns, hark_errinfo *ei);
void hk_rs_row(const hark_store_row *r, hk_buf *ret);

/* save.c */
hark_err hk_rs_consumer_save(hark_store *s, const hark_store_save *v, hark_errinfo *ei);

/* admin.c */
hark_err hk_rs_consumer_reset(hark_store *s, hark_store_reset *r, hark_errinfo *ei);
hark_err hk_rs_consumer_pause(hark_store *s, uint64_t consumer, bool paused, hark_errinfo *ei);
hark_err hk_rs_consumers(hark_store *s, hark_store_consumer_fn fn, void *ud, hark_errinfo *ei);

/* letters.c */
hark_err hk_rs_letters(hark_store *s, const hark_store_letters_query *q, hark_store_letter_fn fn,
                       void *ud, hark_errinfo *ei);
hark_err hk_rs_attempts(hark_store *s, uint64_t consumer, uint64_t sequence,
                        hark_store_attempt_fn fn, void *ud, hark_errinfo *ei);
/* As it is stored. */
hark_err hk_rs_letter_text(const hark_store_save *v, const hark_store_dead *d, hk_buf *ret,
                           hark_errinfo *ei);
void hk_rs_attempt_text(const hark_store_attempt *a, hk_buf *ret);

/* redrive.c */
hark_err hk_rs_letter_redrive(hark_store *s, uint64_t id, int64_t due_ns,
                              hark_store_letter_done *ret, hark_errinfo *ei);
hark_err hk_rs_letter_discard(hark_store *s, uint64_t id, hark_store_letter_done *ret,
                              hark_errinfo *ei);

/* schedules.c */
hark_err hk_rs_schedule_add(hark_store *s, hark_store_schedule *sch, uint64_t *ret_sequence,
                            bool *ret_duplicate, hark_errinfo *ei);
hark_err hk_rs_schedule_drop(hark_store *s, uint64_t id, hark_errinfo *ei);
hark_err hk_rs_schedules(hark_store *s, uint64_t id, uint64_t after, bool events,
                         hark_store_schedule_fn fn, void *ud, hark_errinfo *ei);
hark_err hk_rs_schedules_due(hark_store *s, int64_t ahead_ns, size_t most,
                             hark_store_schedule_fn fn, void *ud, int64_t *ret_next_ns,
                             hark_errinfo *ei);

/* replays.c */
hark_err hk_rs_replay_put(hark_store *s, const hark_store_replay *r, hark_errinfo *ei);
hark_err hk_rs_replays(hark_store *s, hark_store_replay_fn fn, void *ud, hark_errinfo *ei);

/* trim.c; trim_i.h */
hark_err hk_rs_trim(hark_store *s, hark_store_trim *t, hark_errinfo *ei);

/* shares.c */
hark_err hk_rs_beat(hark_store *s, int64_t *ret_until, int64_t *ret_ahead, hark_errinfo *ei);
hark_err hk_rs_shares(hark_store *s, hark_store_shares *x, hark_errinfo *ei);
void hk_rs_leave(hark_store *s); /* at the close; whether it was heard or not */

/* tail.c */
hark_err hk_rs_tail(hark_store *s, uint64_t after, int64_t timeout_ns, hark_store_tail *ret,
                    hark_errinfo *ei);
void hk_rs_tail_wake(hark_store *s);

/* revive.c */
/* The log is of another epoch than this process knows: takes that over, or, when the server has lost what this
 * process has seen, begins one. HARK_EREADONLY: another log is in its place. */
hark_err hk_rs_revive(hark_store *s, hk_link *l, hark_errinfo *ei);
/* At a connect, while the link is not ready yet: which run of the server it is; where its log is. The first time, with an
 * epoch of 0, the log is made unless it is there. */
hark_err hk_rs_hello(hark_store *s, hk_link *l, const char *run, hark_errinfo *ei);
/* A consumer that this process has opened. HARK_ENOMEM. */
hark_err hk_rs_know(hark_store *s, const hark_store_consumer *c, hark_errinfo *ei);
void hk_rs_known_free(hark_store *s);

#endif
