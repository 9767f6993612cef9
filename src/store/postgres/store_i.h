/* store_i.h: the inside of the PostgreSQL store. The log and the ledger are tables in a schema of their own,
 * `hark` or `hark_NAME` (?log=NAME in the URL); the program's tables are wherever its search_path says.
 *
 * One connection writes; as long as it lives it holds the log's advisory lock, so that nobody else draws sequences. A group is one
 * transaction on it: appends are judged at once and inserted in few statements at the end. Readers have connections of their own.
 *
 * url.c       the URL taken apart
 * conn.c      a connection (conn_i.h); args.c: its arguments
 * tables.c    the tables; schema.c: whether they are there and ours
 * postgres.c  open, close, info
 * group.c     begin, commit, rollback; what became of a COMMIT whose reply was lost
 * append.c    events into the group; subjects and their versions
 * row.c       an event in a result
 * read.c      pages; readers.c: the connections for it; count.c; versions.c
 * consumer.c, ledger.c, ack.c   consumers and their state
 * letters.c, redrive.c          dead letters
 * schedules.c, replays.c, trim.c, keep.c
 * tx.c        closures; program_i.h: the program's statements: lex.c, guard.c, translate.c, values.c, prepared.c, query.c */
#ifndef HK_PG_STORE_I_H
#define HK_PG_STORE_I_H

#include "store/common/common.h"
#include "store/postgres/conn_i.h"

#include <hark/store.h>

#include <pthread.h>

#define HK_PG_FORMAT 1 /* of the tables */
#define HK_PG_LOCK                                                                                 \
    1751216747 /* 'hark': the first number of our advisory locks; the second is the log's */

#define HK_ROW_SETTLED   6 /* hark_row_state: acked in a transaction, see hark_store_ops.ack */
#define HK_PG_READERS    4
#define HK_PG_RESOLVE_NS (INT64_C(5) * 1000000000) /* to find out what became of a commit */

/* Where the log is, as the writer sees it within a group. */
typedef struct hk_pg_place {
    uint64_t first, last; /* sequences; 0 = none */
    int64_t recorded;     /* of the last event; the next is no earlier */
} hk_pg_place;

/* Rows of `events` that wait to be inserted with one statement. append.c */
typedef struct hk_pg_batch {
    size_t n;
    hk_pg_array seq, recorded, time, dataversion, check_sum, subject_version; /* int8 */
    hk_pg_array source, id, type, mediatype, subject, partitionkey, correlationid, causationid,
        attrs;                /* text */
    hk_pg_array digest, data; /* bytea */
} hk_pg_batch;

/* A closure of the program's within the group. tx.c */
typedef struct hk_pg_closure {
    bool open;
    bool savepoint; /* it can be undone by itself */
    bool wrote; /* a statement that may have changed something was run, or something of ours was */
    int64_t until; /* mono ns */
    hark_err err;  /* what makes it impossible to keep it */
    hark_errinfo why;
    hk_pg_place now; /* what to go back to */
    size_t batch;    /* rows that waited in the batch: more are the closure's */
} hk_pg_closure;

/* A connection of the writer's as the server knows it: a pid alone may serve somebody else by now. */
enum { HK_PG_EARLIER = 8 };
typedef struct hk_pg_backend {
    int64_t pid, started; /* microseconds by the server's clock */
} hk_pg_backend;

/* How far the removal by one rule has come, over several calls. trim.c */
enum { HK_PG_PASSES = 8 };
typedef struct hk_pg_pass {
    uint64_t rule; /* 0 = free */
    uint64_t from; /* sequences below were looked at */
} hk_pg_pass;

typedef struct hk_pg_statements hk_pg_statements; /* query.c: the program's, prepared */

struct hark_store {
    char *info, *where, *schema; /* see hk_pg */
    uint8_t log_id[16];
    hk_mark epoch, durability; /* may change with a new connection */
    int lock_no;

    /* the writer's thread */
    hk_pg w;
    bool in_group;
    bool entered;    /* BEGIN was sent in this group: a lost connection is the end of it */
    bool known;      /* now, ticket and epoch are of a log that this process has had its lock of */
    int pid;         /* of the backend that serves w, or last did */
    int64_t started; /* since when, microseconds by its clock */
    hk_pg_backend earlier[HK_PG_EARLIER]; /* before that one, and perhaps not gone yet */
    size_t n_earlier;
    int64_t used_at; /* mono ns: the server last answered the writer */
    hark_err broken; /* not HARK_OK: no more writes; another process has the log now, or worse */
    hk_pg_place now, kept; /* in this group; as of the last commit */
    uint64_t ticket;       /* of the last group; stored with it */
    hk_pg_batch batch;
    hk_pg_closure tx;
    hk_pg_statements *program;
    int64_t next_sweep, sweep_wall, sweep_mono; /* keep.c; mono ns but the second */
    hk_pg_pass passes[HK_PG_PASSES];
    size_t next_pass;
    int64_t retry_at; /* mono ns: no attempt to connect before that */
    int64_t retries;
    uint64_t jitter;

    /* any thread */
    pthread_mutex_t lock;
    hk_pg_place shown; /* as of the last commit */
    pthread_cond_t reader_free;
    struct hk_pg_reader *idle; /* readers.c */
    size_t n_readers;
};

/* url.c: HARK_EINVAL. *ret_info is what libpq gets; all three malloc'ed. */
hark_err hk_pg_url(const char *rest, char **ret_info, char **ret_where, char **ret_schema,
                   hark_errinfo *ei);

extern const char hk_pg_tables[]; /* tables.c; "@" as in hk_pg_sql */

/* schema.c: makes the schema where there is none (HARK_ENOTFOUND with `existing`), compares its format (HARK_EFORMAT), and fills in
 * log_id and lock_no. On s->w, before it has the log's lock. */
hark_err hk_pg_schema(hark_store *s, bool existing, hark_errinfo *ei);
/* With the lock. The first time: fills in now, kept, ticket and epoch, which it raises when the server is another one than
 * the log was last written on (restored from a dump, promoted). Later: HARK_ECORRUPT when the log is not the one that we left,
 * HARK_ELOCKED when another process has written to it. */
hark_err hk_pg_load(hark_store *s, hark_errinfo *ei);

/* group.c: connects the writer if it must, takes the log's lock (HARK_ELOCKED: another process has it), and asks
 * the server for its durability class. What is broken stays so. */
hark_err hk_pg_writer(hark_store *s, hark_errinfo *ei);
hark_err hk_pg_begin(hark_store *s, hark_errinfo *ei);
hark_err hk_pg_commit(hark_store *s, hark_errinfo *ei);
void hk_pg_rollback(hark_store *s);
/* Remembers an error after which no write may be tried; returns it. */
hark_err hk_pg_note(hark_store *s, hark_err err);
/* An op that only makes sense in a group; begins the transaction on the server if nothing has yet. */
hark_err hk_pg_enter(hark_store *s, const char *op, hark_errinfo *ei);

uint64_t hk_pg_mix(uint64_t *state); /* the next of a series of random numbers */

/* append.c. hk_pg_append_flush: sends what waits in the batch (without waiting for the answer); before whatever must see it. */
hark_err hk_pg_append(hark_store *s, hark_store_append *items, size_t n, hark_errinfo *ei);
hark_err hk_pg_append_flush(hark_store *s, hark_errinfo *ei);
/* The event with this source and id in the log or in the batch: its sequence and digest; 0 = none. */
hark_err hk_pg_event_of(hark_store *s, const char *source, const char *id, uint64_t *ret_seq,
                        uint8_t ret_digest[16], hark_errinfo *ei);
/* HARK_ETOOBIG: an attribute that is looked for is longer than an entry of the server's indexes. */
hark_err hk_pg_check_keys(const hark_event *e, hark_errinfo *ei);
void hk_pg_batch_back(hk_pg_batch *b, size_t n); /* only the first n rows stay */
void hk_pg_batch_free(hk_pg_batch *b);

/* row.c: HK_PG_COLUMNS of a row of `events` as an event. HARK_ECORRUPT when it does not match its sum. */
#define HK_PG_COLUMNS                                                                              \
    "seq, recorded, source, id, type, mediatype, time, dataversion, check_sum, subject, "          \
    "subject_version, partitionkey, correlationid, causationid, attrs, data"
hark_err hk_pg_row(const hark_store *s, const PGresult *r, int row, hark_event **ret,
                   hark_errinfo *ei);

/* readers.c: runs fn with a connection for reading; waits for one to be free. Once more with a new connection
 * when the old one was lost. */
typedef hark_err (*hk_pg_read_fn)(hk_pg *c, void *ud, hark_errinfo *ei);
hark_err hk_pg_reader_run(hark_store *s, hk_pg_read_fn fn, void *ud, hark_errinfo *ei);
void hk_pg_readers_close(hark_store *s);

hark_err hk_pg_read(hark_store *s, const hark_store_query *q, hark_store_page *ret,
                    hark_errinfo *ei);
hark_err hk_pg_count(hark_store *s, const hark_store_query *q, uint64_t *ret, hark_errinfo *ei);
/* Which part of the log a query asks for, in one snapshot: a part of a statement whose $1 to $4 hk_pg_bounds_args fills in. Gives a row `l`
 * with last and first (0 = none) of the log, and the sequences low to high that the query's places and times allow.
 * `upto`: the log's end as the caller knows it; what came later is not looked at. */
#define HK_PG_BOUNDS                                                                               \
    "l AS MATERIALIZED (SELECT last, first, greatest($1, CASE WHEN $3::int8 = 0 THEN 0 ELSE "      \
    "coalesce((SELECT min(seq) FROM (SELECT seq FROM @events WHERE recorded = (SELECT "            \
    "min(recorded) FROM @events WHERE recorded >= $3) OFFSET 0) a), last + 1) END) AS low, "       \
    "least($2, last, CASE WHEN $4::int8 = 0 THEN last ELSE coalesce((SELECT max(seq) FROM "        \
    "(SELECT seq FROM @events WHERE recorded = (SELECT max(recorded) FROM @events WHERE "          \
    "recorded < $4) OFFSET 0) b), 0) END) AS high FROM (SELECT last, coalesce((SELECT min(seq) "   \
    "FROM @events), 0) AS first FROM @log) x)"
void hk_pg_bounds_args(const hark_store_query *q, uint64_t upto, hk_pg_args *args);

/* types of the log that match, as text[]; *ret_all: the pattern matches every type. types.c */
hark_err hk_pg_types(hk_pg *c, const char *pattern, hk_pg_array *ret, bool *ret_all,
                     hark_errinfo *ei);
/* Likewise, and the log's last sequence at that moment: what came later may be of types that are not among them. A
 * NULL pattern asks nothing: all, and any. */
hark_err hk_pg_types_at(hk_pg *c, const char *pattern, hk_pg_array *ret, bool *ret_all,
                        uint64_t *ret_last, hark_errinfo *ei);
hark_err hk_pg_versions(hark_store *s, hark_store_version_fn fn, void *ud, hark_errinfo *ei);
hark_err hk_pg_trim(hark_store *s, hark_store_trim *t, hark_errinfo *ei);

hark_err hk_pg_consumer_open(hark_store *s, hark_store_consumer *c, hark_errinfo *ei);
hark_err hk_pg_consumer_save(hark_store *s, const hark_store_save *v, hark_errinfo *ei);
hark_err hk_pg_consumer_reset(hark_store *s, hark_store_reset *r, hark_errinfo *ei);
hark_err hk_pg_consumer_pause(hark_store *s, uint64_t consumer, bool paused, hark_errinfo *ei);
hark_err hk_pg_consumers(hark_store *s, hark_store_consumer_fn fn, void *ud, hark_errinfo *ei);
hark_err hk_pg_ack(hark_store *s, uint64_t consumer, uint64_t generation, uint64_t sequence,
                   hark_errinfo *ei);
hark_err hk_pg_letters(hark_store *s, const hark_store_letters_query *q, hark_store_letter_fn fn,
                       void *ud, hark_errinfo *ei);
hark_err hk_pg_attempts(hark_store *s, uint64_t consumer, uint64_t sequence,
                        hark_store_attempt_fn fn, void *ud, hark_errinfo *ei);
hark_err hk_pg_letter_redrive(hark_store *s, uint64_t id, int64_t due_ns,
                              hark_store_letter_done *ret, hark_errinfo *ei);
hark_err hk_pg_letter_discard(hark_store *s, uint64_t id, hark_store_letter_done *ret,
                              hark_errinfo *ei);
hark_err hk_pg_schedule_add(hark_store *s, hark_store_schedule *sch, uint64_t *ret_sequence,
                            bool *ret_duplicate, hark_errinfo *ei);
hark_err hk_pg_schedule_drop(hark_store *s, uint64_t id, hark_errinfo *ei);
hark_err hk_pg_schedules(hark_store *s, uint64_t id, uint64_t after, bool events,
                         hark_store_schedule_fn fn, void *ud, hark_errinfo *ei);
hark_err hk_pg_replay_put(hark_store *s, const hark_store_replay *r, hark_errinfo *ei);
hark_err hk_pg_replays(hark_store *s, hark_store_replay_fn fn, void *ud, hark_errinfo *ei);

/* tx.c: the ops of a closure; those of ours that may come within one (append, ack, keep, kept, schedule_add, schedule_drop)
 * call hk_pg_tx_wrote when they change something. */
hark_err hk_pg_tx_begin(hark_store *s, int64_t until_ns, bool undoable, hark_errinfo *ei);
hark_err hk_pg_tx_end(hark_store *s, bool keep, hark_store_fate *ret, hark_errinfo *ei);
hark_err hk_pg_tx_run(hark_store *s, const char *sql, const hark_value *args, size_t n,
                      hark_row_fn fn, void *ud, int64_t *ret_changes, hark_errinfo *ei);
void *hk_pg_tx_native(hark_store *s);
bool hk_pg_in_rows(
    const hark_store *s); /* results of a statement of the program's are being read */
/* Takes the connection back from the program, which may have left it in any state. */
hark_err hk_pg_tx_back(hark_store *s, hark_errinfo *ei);
/* One of our own statements told `err`; returns it. In a closure it has ended the server's transaction, or may have. */
hark_err hk_pg_tx_note(hark_store *s, hark_err err, const hark_errinfo *ei);
static inline void hk_pg_tx_wrote(hark_store *s)
{
    s->tx.wrote = true;
}
hark_err hk_pg_keep(hark_store *s, const char *key, const void *data, size_t len, int64_t until,
                    int64_t now, hark_errinfo *ei);
hark_err hk_pg_kept(hark_store *s, const char *key, int64_t now, void **ret, size_t *ret_len,
                    hark_errinfo *ei);
void hk_pg_kept_sweep(hark_store *s); /* between groups */
hark_err hk_pg_query_beside(hark_store *s, const char *sql, const hark_value *args, size_t n,
                            hark_row_fn fn, void *ud, hark_errinfo *ei);
void hk_pg_statements_free(hk_pg_statements *p);

#endif
