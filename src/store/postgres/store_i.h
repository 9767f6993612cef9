/* store_i.h: the inside of the PostgreSQL store. The log and the ledger are tables in a schema of their own,
 * `hark` or `hark_NAME` (?log=NAME in the URL); the program's tables are wherever its search_path says.
 *
 * Several processes have a log open. Each writes with one connection: a group is one transaction on it, and whoever draws sequences in it
 * holds the log's advisory lock from then on until it is over. Appends are judged at once and inserted in few
 * statements at the end. Readers have connections of their own, and so have following the log and being a process among others.
 *
 * url.c       the URL taken apart
 * conn.c      a connection (conn_i.h); args.c: its arguments
 * tables.c    the tables; schema.c: whether they are there and ours
 * postgres.c  open, close, info
 * writer.c    the connection that writes; what became of a COMMIT whose reply was lost
 * group.c     begin, commit, rollback; the log's lock
 * tail.c      what other processes do with the log
 * append.c    events into the group; quick.c: all of a group in one flush; verdict.c: units judged one by one; batch.c: rows
 * row.c       an event in a result
 * read.c      pages; readers.c: the connections for it; count.c; versions.c
 * consumer.c, ledger.c, ack.c   consumers and their state
 * beat.c, shares.c, known.c, claim.c   this process among others, and whose a consumer's shares are (party_i.h)
 * letters.c, redrive.c          dead letters
 * schedules.c, replays.c, trim.c, keep.c
 * tx.c        closures; program_i.h: the program's statements: lex.c, guard.c, translate.c, values.c, prepared.c, query.c */
#ifndef HK_PG_STORE_I_H
#define HK_PG_STORE_I_H

#include "store/common/common.h"
#include "store/postgres/conn_i.h"
#include "store/postgres/party_i.h"

#include <hark/store.h>

#include <pthread.h>

#define HK_PG_FORMAT 1 /* of the tables */
#define HK_PG_LOCK                                                                                 \
    1751216747 /* 'hark': the first number of our advisory locks; the second is the log's */
#define HK_PG_TRIM_LOCK (HK_PG_LOCK + 1) /* likewise, of whoever removes old events */

#define HK_ROW_SETTLED   6 /* hark_row_state: acked in a transaction, see hark_store_ops.ack */
#define HK_PG_READERS    4
#define HK_PG_RESOLVE_NS (INT64_C(5) * 1000000000) /* to find out what became of a commit */

/* How long the server waits for the next statement of a group; of one that a closure is in, for what is left of the
 * closure's time and so much more. */
enum { HK_PG_IDLE_MS = 6000, HK_PG_CLOSURE_MORE_MS = 5000 };

/* Where the log is. */
typedef struct hk_pg_place {
    uint64_t last;    /* sequence; 0 = none */
    int64_t recorded; /* of the last event; the next is no earlier */
} hk_pg_place;

/* The log's lock within a group. ASKED: sent for; where the log is has still to be read. */
typedef enum hk_pg_log { HK_PG_FREE, HK_PG_ASKED, HK_PG_HELD } hk_pg_log;

/* Rows of `events` that wait to be inserted with one statement. batch.c */
typedef struct hk_pg_counted {
    const char *type;
    int64_t version, n;
} hk_pg_counted;
typedef struct hk_pg_batch {
    size_t n;
    hk_pg_array rows;
    hk_buf row; /* the one that is being made */
    /* of rows whose places the server gives */
    bool subjects;            /* some have one */
    hk_pg_counted counted[8]; /* their types, */
    size_t n_counted;
    hk_pg_array types, versions, counts; /* and more of them */
} hk_pg_batch;
/* What the server tells of those. */
typedef struct hk_pg_drawn {
    PGresult *place, *versions; /* versions NULL: none has a subject */
} hk_pg_drawn;

/* Units to be appended. append.c */
typedef struct hk_pg_unit {
    hark_store_append *items;
    size_t n;
    hark_errinfo *ei;
    hark_err ret_err; /* the verdict */
} hk_pg_unit;
typedef struct hk_pg_units {
    hk_pg_unit *list;
    size_t n, cap;
    size_t rows, bytes; /* of all of them */
} hk_pg_units;

/* A closure of the program's within the group. tx.c */
typedef struct hk_pg_closure {
    bool open;
    bool savepoint; /* it can be undone by itself */
    bool wrote; /* a statement that may have changed something was run, or something of ours was */
    int64_t until; /* mono ns */
    hark_err err;  /* what makes it impossible to keep it */
    hark_errinfo why;
    hk_pg_log log;   /* what to go back to */
    hk_pg_place now; /* if that is HELD, or the lock was got within and stays */
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

/* Following the log: the one thread that does. tail.c */
typedef struct hk_pg_tail_state {
    hk_pg c;
    int wake; /* eventfd, any thread */
    uint64_t epoch;
    int64_t news, newest_schedule; /* highest ids seen */
    bool shares, schedules;        /* still to be told */
    bool hinted;                   /* something has come since the last look */
    int64_t pause;                 /* until the next look */
    int64_t hints_at;              /* mono ns: hints may be sent again */
    int64_t retry_at, retries;     /* mono ns: no attempt to connect before that */
    uint64_t jitter;
} hk_pg_tail_state;

struct hark_store {
    char *info, *where, *schema; /* see hk_pg */
    uint8_t log_id[16];
    hk_mark epoch, durability; /* may change with a new connection */
    int lock_no;
    hk_pg_kind event_type; /* of rows of `events` */

    /* the writer's thread */
    hk_pg w;
    bool in_group;
    bool entered; /* BEGIN was sent in this group: a lost connection is the end of it */
    bool known;   /* it is open: what may be tried again from now on is HARK_ESTORE */
    hk_pg_backend serves, earlier[HK_PG_EARLIER]; /* w, or did last; before that, and perhaps not
                                                     gone yet */
    size_t n_earlier;
    int64_t used_at; /* mono ns: the server last answered the writer */
    hark_err broken; /* not HARK_OK: no more writes */
    hk_pg_log log;
    hk_pg_place now, found;       /* while the lock is held: with what this group draws; without */
    bool trimmed, tell_schedules; /* in this group: events were removed; there are new schedules */
    uint64_t first_left;          /* if trimmed */
    uint64_t ticket, ticket_of;   /* of the last group that was begun to be committed, and of which
                                   process's */
    hk_pg_units units;            /* whose verdicts may be late */
    size_t careful;               /* so many groups are not tried in one flush */
    hk_pg_batch batch;
    hk_pg_closure tx;
    hk_pg_statements *program;
    int64_t next_sweep; /* keep.c; mono ns */
    hk_pg_pass passes[HK_PG_PASSES];
    size_t next_pass;
    int64_t retry_at; /* mono ns: no attempt to connect before that */
    int64_t retries;
    uint64_t jitter;

    /* any thread */
    pthread_mutex_t lock;
    uint64_t shown_first, shown_last; /* of what is known to be committed; 0 = none */
    pthread_cond_t reader_free;
    struct hk_pg_reader *idle;   /* readers.c */
    size_t n_readers, n_queries; /* that there are; at which queries of the program's are */
    hk_mark process; /* of `processes`: this one's id; another one after a long silence */
    hk_mark hint_events, hint_shares, hint_schedules; /* to be sent to others: hk_pg_hint */
    hk_mark others;    /* other processes that live, as far as it is known */
    hk_mark tail_ends; /* tail_wake was called */
    hk_pg_tail_state tail;

    hk_pg_party party; /* whoever beats */
    hk_pg_saves saves; /* the writer's thread */
};

/* url.c: HARK_EINVAL. *ret_info is what libpq gets; all three malloc'ed. */
hark_err hk_pg_url(const char *rest, char **ret_info, char **ret_where, char **ret_schema,
                   hark_errinfo *ei);

extern const char hk_pg_tables[], hk_pg_ledger_tables[]; /* tables.c; "@" as in hk_pg_sql */

/* schema.c: makes the schema where there is none (HARK_ENOTFOUND with `existing`), compares its format (HARK_EFORMAT), and fills in
 * log_id and lock_no. On s->w. */
hark_err hk_pg_schema(hark_store *s, bool existing, hark_errinfo *ei);
/* Compares the log with what is known of it, outside of a transaction. Its epoch is raised, once, when the server is another one
 * than it was last written on (restored from a dump, promoted) or has lost something. HARK_ECORRUPT: it is another log. */
hark_err hk_pg_load(hark_store *s, hk_pg *c, hark_errinfo *ei);

/* writer.c: connects the writer if it must, and asks the server for its durability class. What is broken stays so. */
hark_err hk_pg_writer(hark_store *s, hark_errinfo *ei);
/* A commit with this ticket had no answer. HARK_OK: it was committed; HARK_ESTORE: it was not; HARK_EUNKNOWN. */
hark_err hk_pg_resolve(hark_store *s, uint64_t ticket, hark_errinfo *ei);
/* Remembers an error after which no write may be tried; returns it. */
hark_err hk_pg_note(hark_store *s, hark_err err);
/* How long to wait before the next attempt: doubling, and between half and all of it. */
int64_t hk_pg_backoff(int64_t *tries, uint64_t *jitter);

/* group.c */
hark_err hk_pg_begin(hark_store *s, hark_errinfo *ei);
hark_err hk_pg_commit(hark_store *s, hark_errinfo *ei);
/* Ends the server's transaction with all that was sent, and finds out what became of it. */
hark_err hk_pg_commit_sent(hark_store *s, hark_errinfo *ei);
void hk_pg_rollback(hark_store *s);
void hk_pg_rollback_sent(hark_store *s); /* only on the server: the group can begin there anew */
/* An op that only makes sense in a group; begins the transaction on the server if nothing has yet. */
hark_err hk_pg_enter(hark_store *s, const char *op, hark_errinfo *ei);
/* Within a closure, in a transaction: the server is as a closure wants it. Only sends. */
hark_err hk_pg_for_closure(hark_store *s, hark_errinfo *ei);
/* The log's lock for the rest of the group, and s->now. Enters. In a closure only when the program's SQL is done. What wants to save the
 * round trip asks (which only sends), reads the row of `log` with its own question, and tells it to hk_pg_log_at. */
hark_err hk_pg_log_take(hark_store *s, const char *op, hark_errinfo *ei);
hark_err hk_pg_log_ask(hark_store *s, const char *op, hark_errinfo *ei);
void hk_pg_log_at(hark_store *s, uint64_t last, int64_t recorded);
/* Any thread: what was seen of the log, in one snapshot. */
void hk_pg_show(hark_store *s, uint64_t first, uint64_t last);
static inline uint64_t hk_pg_shown(hark_store *s)
{
    pthread_mutex_lock(&s->lock);
    uint64_t last = s->shown_last;
    pthread_mutex_unlock(&s->lock);
    return last;
}

/* tail.c */
hark_err hk_pg_tail_init(hark_store *s, hark_errinfo *ei);
void hk_pg_tail_free(hark_store *s);
hark_err hk_pg_tail(hark_store *s, uint64_t after, int64_t timeout_ns, hark_store_tail *ret,
                    hark_errinfo *ei);
void hk_pg_tail_wake(hark_store *s);
/* Any thread: others are to hear of something that is committed. */
void hk_pg_hint(hark_store *s, hk_mark *hint);

uint64_t hk_pg_mix(uint64_t *state); /* the next of a series of random numbers */

/* append.c. hk_pg_append_flush: judges the units that wait and sends their rows (without waiting for the answer); before whatever
 * must see them. hk_pg_enter judges them, so that the log is locked before what comes then. */
hark_err hk_pg_append(hark_store *s, hark_store_append *items, size_t n, hark_errinfo *ei);
hark_err hk_pg_append_flush(hark_store *s, hark_errinfo *ei);
hark_err hk_pg_units_flush(hark_store *s, hark_errinfo *ei);
void hk_pg_units_clear(hk_pg_units *w);
/* HARK_ETOOBIG, HARK_EINVAL: it cannot be appended, whatever is in the log. */
hark_err hk_pg_append_check(const hark_store *s, const hark_store_append *a, hark_errinfo *ei);

/* quick.c: all of a group in one flush. *ret_again: it is to be done once more, one by one, and is still all there. */
bool hk_pg_quick_may(hark_store *s);
hark_err hk_pg_quick(hark_store *s, bool *ret_again, hark_errinfo *ei);

/* verdict.c: judges units, in order; what of them is accepted is in the batch, or sent. An error: not refused, the store's. */
hark_err hk_pg_judge(hark_store *s, hk_pg_unit *units, size_t n, hark_errinfo *ei);
/* Fills the batch with all of them for hk_pg_batch_draw. *ret_repeats: they repeat each other, and it is empty. */
hark_err hk_pg_fill(hark_store *s, const hk_pg_unit *units, size_t n, bool *ret_repeats,
                    hark_errinfo *ei);
/* Of units that are in the log, as they were given: fills in their places. Outside of a group. */
hark_err hk_pg_find_appended(hark_store *s, const hk_pg_unit *units, size_t n, hark_errinfo *ei);
static inline void hk_pg_stamp(const hark_store_append *a, int64_t recorded)
{
    hark_event_stamp(a->event, a->ret_sequence, recorded);
    hark_event_stamp_subject(a->event, a->ret_subject_version);
}
/* The event with this source and id in the log or in the batch: its sequence and digest; 0 = none. */
hark_err hk_pg_event_of(hark_store *s, const char *source, const char *id, uint64_t *ret_seq,
                        uint8_t ret_digest[16], hark_errinfo *ei);
/* HARK_ETOOBIG: an attribute that is looked for is longer than an entry of the server's indexes. */
hark_err hk_pg_check_keys(const hark_event *e, hark_errinfo *ei);
/* batch.c: a row with its place; one whose place the server gives, the nth of its subject in the batch (0 = none). */
hark_err hk_pg_batch_add(hk_pg_batch *b, const hark_store_append *a, hk_pg_place at,
                         int64_t version, hark_errinfo *ei);
hark_err hk_pg_batch_add_next(hk_pg_batch *b, const hark_store_append *a, int64_t nth,
                              hark_errinfo *ei);
bool hk_pg_batch_is_full(const hk_pg_batch *b);
/* Only send, and empty it. draw: of rows whose places the server gives; *ret is cleared by the caller. */
hark_err hk_pg_batch_send(hark_store *s, hark_errinfo *ei);
hark_err hk_pg_batch_draw(hark_store *s, hk_pg_drawn *ret, hark_errinfo *ei);
void hk_pg_batch_back(hk_pg_batch *b, size_t n); /* only the first n rows stay */
void hk_pg_batch_free(hk_pg_batch *b);

/* row.c: HK_PG_COLUMNS of a row of `events` as an event. HARK_ECORRUPT when it does not match its sum. */
#define HK_PG_COLUMNS                                                                              \
    "seq, recorded, source, id, type, mediatype, time, dataversion, check_sum, subject, "          \
    "subject_version, partitionkey, correlationid, causationid, attrs, data"
hark_err hk_pg_row(const hark_store *s, const PGresult *r, int row, hark_event **ret,
                   hark_errinfo *ei);
/* The sum of all but its place. What is stored is this, with sequence, recorded time and subject's version (0 = none) in it by
 * exclusive or, so that the server can make it when it gives the place. */
int64_t hk_pg_content_sum(const hk_row *r);

/* readers.c: runs fn with a connection for reading; waits for one to be free. Once more with a new connection
 * when the old one was lost. */
typedef hark_err (*hk_pg_read_fn)(hk_pg *c, void *ud, hark_errinfo *ei);
hark_err hk_pg_reader_run(hark_store *s, hk_pg_read_fn fn, void *ud, hark_errinfo *ei);
/* Likewise, for a query of the program's: of these there is always one less at a time than there are connections. */
hark_err hk_pg_reader_query(hark_store *s, hk_pg_read_fn fn, void *ud, hark_errinfo *ei);
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
/* Likewise, as the connection knows them, if it does: right as long as HK_PG_KINDS is *ret_kinds; -1 = nothing was asked. */
#define HK_PG_KINDS "(SELECT count(*) FROM @versions)"
hark_err hk_pg_types_known(hk_pg *c, const char *pattern, hk_pg_array *ret, bool *ret_all,
                           int64_t *ret_kinds, hark_errinfo *ei);
hark_err hk_pg_versions(hark_store *s, hark_store_version_fn fn, void *ud, hark_errinfo *ei);
hark_err hk_pg_trim(hark_store *s, hark_store_trim *t, hark_errinfo *ei);

hark_err hk_pg_consumer_open(hark_store *s, hark_store_consumer *c, hark_errinfo *ei);
hark_err hk_pg_consumer_save(hark_store *s, const hark_store_save *v, hark_errinfo *ei);
hark_err hk_pg_consumer_reset(hark_store *s, hark_store_reset *r, hark_errinfo *ei);
hark_err hk_pg_consumer_pause(hark_store *s, uint64_t consumer, bool paused, hark_errinfo *ei);
hark_err hk_pg_consumers(hark_store *s, hark_store_consumer_fn fn, void *ud, hark_errinfo *ei);
hark_err hk_pg_ack(hark_store *s, uint64_t consumer, uint64_t generation, hark_store_owned of,
                   uint64_t sequence, hark_errinfo *ei);
/* ledger.c: judges and writes the saves that wait (hark_store_save.late); before whatever must see them, and before
 * COMMIT. saves_end: the group has ended, one way or the other. */
hark_err hk_pg_saves_flush(hark_store *s, hark_errinfo *ei);
/* Only sends them, and they go on waiting: all fails when one is refused. saves_good: none was. */
hark_err hk_pg_saves_send(hark_store *s, hark_errinfo *ei);
void hk_pg_saves_good(hark_store *s);
void hk_pg_saves_end(hark_store *s, bool committed);
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
hark_err hk_pg_schedules_due(hark_store *s, int64_t ahead_ns, size_t most,
                             hark_store_schedule_fn fn, void *ud, int64_t *ret_next_ns,
                             hark_errinfo *ei);
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
