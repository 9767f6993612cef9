/* hark/tx.h: rows and events in one transaction.
 *
 * A closure runs SQL on tables of the program's own, which live in the same place as the log, and
 * publishes: rows and events are committed or vanish as one.
 *
 * Closures run on whatever thread writes the log, one after the other, many of them in one commit, so
 * that they share one fsync. Therefore a closure
 *  - is quick: all writers wait for it, at most for its deadline;
 *  - may run more than once, because it or another one of the same commit failed: it has
 *    no effect but its SQL, its events and schedules, and what it writes to *ud, from the start each
 *    time;
 *  - calls nothing of the bus but the functions below: all others that would block or publish
 *    return HARK_EWRONGTHREAD.
 * What fails, takes too long or misbehaves harms only itself: its rows and events are undone, its
 * caller is told, and all others go on.
 *
 * Refused with HARK_EDENIED: BEGIN, COMMIT, ROLLBACK, SAVEPOINT, PRAGMA, ATTACH, DETACH, VACUUM,
 * temporary tables, and the log's own tables, whose names begin with "hark_". Foreign keys are
 * enforced. In triggers and views SQLite refuses functions that it does not hold to be innocuous;
 * in older versions that is so of the JSON functions. Stores without transactions (`memory:`) give
 * HARK_ENOTSUP.
 *
 * On `postgresql:` the program's tables are in the same database, where its search_path says.
 *  - `?` and `?7` stand for arguments, and so does $7; `??` is the operator `?`. The server infers the
 *    types of arguments: where it cannot, or infers another one, write ?::int8. Blobs are bytea, and
 *    text with a NUL is HARK_EINVAL.
 *  - Results: integers, boolean (1, 0) and oid are integers; real, double precision and numeric are
 *    reals (ask for n::text to keep all digits); bytea is a blob; all else is text, as psql shows it.
 *  - Denied are, besides the above, SET, RESET, LOCK, COPY, DO, CALL, cursors, PREPARE, LISTEN,
 *    NOTIFY, session locks (pg_advisory_xact_lock is fine), and what begins with "hark_" or is in the
 *    log's schema. This is read off the words: it keeps from mistakes, and the rights of the role that
 *    the program connects as decide.
 *  - A RAISE EXCEPTION of a trigger's, without a code of its own, is HARK_ECONSTRAINT. Deferred
 *    constraints are looked at when the closure ends, and again at the commit; one that another
 *    session breaks in between fails the whole group (HARK_ESTORE, nothing is stored).
 *  - Rows that a closure has locked stay locked until the group is committed; a deadlock with another
 *    session is HARK_ESTORE for this closure.
 */
#ifndef HARK_TX_H
#define HARK_TX_H

#include <hark/bus.h>
#include <hark/json.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- values and rows ------------------------------------------------------------------------- */

typedef enum hark_value_kind {
    HARK_NULL = 0,
    HARK_INTEGER = 1,
    HARK_REAL = 2,
    HARK_TEXT = 3,
    HARK_BLOB = 4
} hark_value_kind;

/* A value of SQL: an argument for one `?`, or what a row has in one column. Bytes are borrowed. */
typedef struct hark_value {
    int64_t kind; /* hark_value_kind */
    int64_t integer;
    double real;
    const void *data; /* text is UTF-8; in rows a NUL follows it */
    size_t len;       /* bytes */
} hark_value;

/* The arguments of a statement, made in the call that needs them:
 *     hark_tx_exec(tx, "INSERT INTO stock VALUES(?, ?)", HARK_ARGS(hark_text(sku), hark_int(5)));
 *     hark_tx_exec(tx, "DELETE FROM cart", HARK_NO_ARGS);
 * Text that is NULL is SQL's NULL. */
#define HARK_ARGS(...)                                                                             \
    (const hark_value[]){__VA_ARGS__},                                                             \
        (sizeof((const hark_value[]){__VA_ARGS__}) / sizeof(hark_value))
#define HARK_NO_ARGS NULL, 0

static inline hark_value hark_null(void)
{
    hark_value v = {HARK_NULL, 0, 0, NULL, 0};
    return v;
}
static inline hark_value hark_int(int64_t n)
{
    hark_value v = {HARK_INTEGER, n, 0, NULL, 0};
    return v;
}
static inline hark_value hark_real(double r)
{
    hark_value v = {HARK_REAL, 0, r, NULL, 0};
    return v;
}
static inline hark_value hark_text(const char *s)
{
    hark_value v = {HARK_NULL, 0, 0, s, 0};
    if (s) {
        v.kind = HARK_TEXT;
        v.len = __builtin_strlen(s);
    }
    return v;
}
static inline hark_value hark_blob(const void *p, size_t len)
{
    hark_value v = {HARK_BLOB, 0, 0, p, len};
    return v;
}

/* A row of a result; columns count from 0. */
typedef struct hark_row {
    size_t n; /* columns */
    const hark_value *values;
    const char *const *names;
} hark_row;

/* Called for each row; false = no more of them. Everything is borrowed for the call. */
typedef bool (*hark_row_fn)(const hark_row *row, void *ud);

/* A column as the type wanted. int and real take both kinds of numbers and 0 for all else (a number
 * in text is for SQL's CAST); text is NULL when the column is no text; blob takes text, too.
 * Ownership: borrowed from the row.
 * Threads: where the row is.
 * Blocks: no.
 * Errors: none. */
HARK_API int64_t hark_row_int(const hark_row *row, size_t column);
HARK_API double hark_row_real(const hark_row *row, size_t column);
HARK_API const char *hark_row_text(const hark_row *row, size_t column);
HARK_API const void *hark_row_blob(const hark_row *row, size_t column, size_t *ret_len);
HARK_API bool hark_row_null(const hark_row *row, size_t column);

/* ---- transactions ---------------------------------------------------------------------------- */

typedef struct hark_tx hark_tx;

/* What a transaction does. HARK_OK: it is committed; anything else: it is undone, and that is what
 * the caller gets. */
typedef hark_err (*hark_tx_fn)(hark_tx *tx, void *ud);

typedef struct hark_tx_opts {
    size_t size;
    int64_t deadline_ms;    /* for a run of the closure, and for all that failed; default 50, at
                               most 10000 */
    int64_t min_durability; /* a hark_durability the commit must reach, else HARK_EDURABILITY */
} hark_tx_opts;

/* Runs a closure and commits it. *ret (may be NULL) is the receipt of the event that it published
 * last; all zero but the durability when it published none. After HARK_EVERSION it has, as has the
 * receipt of the event that was refused, the version that the subject is at.
 * Ownership: none; opts may be NULL.
 * Threads: any that may block; handlers too.
 * Blocks: until it is committed.
 * Errors: what fn returned; HARK_EDEADLINE, HARK_EDENIED, HARK_ESQL, HARK_ECONSTRAINT,
 * HARK_ENOTSUP, HARK_EWRONGTHREAD, HARK_EINVAL, and as hark_publish. */
HARK_API HARK_MUST hark_err hark_transact(hark_bus *bus, hark_tx_fn fn, void *ud,
                                          const hark_tx_opts *opts, hark_receipt *ret,
                                          hark_errinfo *ei);

/* Called once with the outcome; `last` and `ei` are borrowed. `last` is NULL unless err is HARK_OK
 * or HARK_EVERSION. */
typedef void (*hark_transacted_fn)(hark_err err, const hark_receipt *last, const hark_errinfo *ei,
                                   void *ud);

/* The same without waiting. `done` is called as hark_published_fn is, and must not block. When this
 * call itself fails, neither fn nor done is called.
 * Ownership: ud is passed to both; it must stay until done.
 * Threads: any.
 * Blocks: no; a full queue gives HARK_EAGAIN.
 * Errors: HARK_EAGAIN, HARK_EINVAL, HARK_ENOTSUP, HARK_EDURABILITY, HARK_ECLOSED, HARK_EREADONLY,
 * HARK_ENOMEM; HARK_EWRONGTHREAD inside a closure. */
HARK_API HARK_MUST hark_err hark_transact_async(hark_bus *bus, hark_tx_fn fn,
                                                hark_transacted_fn done, void *ud,
                                                const hark_tx_opts *opts, hark_errinfo *ei);

/* Runs a closure and acks a consumer's delivery in the same commit: what it wrote is there exactly
 * once, whatever crashes and comes again. After HARK_OK the delivery is settled: return HARK_ACK
 * (what is returned does not matter then). After an error nothing has changed: answer HARK_RETRY or
 * HARK_REJECT; the text of the error is kept with the attempt. Events are stamped as by
 * hark_delivery_publish. For a live subscription there is nothing to ack.
 * Ownership: none; the delivery stays with whoever holds it.
 * Threads: the handler's, or whoever holds the delivery.
 * Blocks: until it is committed.
 * Errors: as hark_transact; HARK_ESTALE: the attempt has timed out, the consumer was reset, or the
 * delivery is settled. */
HARK_API HARK_MUST hark_err hark_delivery_transact(hark_delivery *d, hark_tx_fn fn, void *ud,
                                                   const hark_tx_opts *opts, hark_errinfo *ei);

/* Called once when it is committed or has failed, on a thread of the bus; must not block. `d` and `ei`
 * are borrowed. Returns what becomes of the delivery after an error: HARK_RETRY, HARK_REJECT, or
 * HARK_ACK; after HARK_OK it is settled, whatever is returned. */
typedef hark_verdict (*hark_delivery_done_fn)(hark_delivery *d, hark_err err,
                                              const hark_errinfo *ei, void *ud);

/* hark_delivery_transact without waiting: the handler returns HARK_LATER right after it, and its
 * thread goes on to the next event, so that one worker keeps many transactions in one commit. Order
 * within a key is kept: its next event comes when this one is settled. `done` NULL stands for
 * HARK_RETRY after an error.
 * Ownership: takes *d over and clears it, unless this call fails; ud is passed to both functions and
 * must stay until done.
 * Threads: as hark_delivery_transact; not in a closure.
 * Blocks: only while the writer's queue is full.
 * Errors: HARK_ESTALE, HARK_EINVAL, HARK_ENOTSUP, HARK_EDURABILITY, HARK_EWRONGTHREAD, HARK_ECLOSED,
 * HARK_EAGAIN (the queue is full, on a thread that must not block),
 * HARK_EREADONLY, HARK_ENOMEM: neither fn nor done is called, and the delivery is still the handler's
 * to answer. */
HARK_API HARK_MUST hark_err hark_delivery_transact_async(hark_delivery **d, hark_tx_fn fn,
                                                         hark_delivery_done_fn done, void *ud,
                                                         const hark_tx_opts *opts,
                                                         hark_errinfo *ei);

/* ---- inside a closure ------------------------------------------------------------------------ */

/* Runs one statement that gives no rows (rows that it gives are dropped); `?` stand for the
 * arguments. An error undoes this statement; the closure may go on or return it. hark_tx_changes:
 * rows that the last one inserted, changed or deleted.
 * Ownership: arguments are borrowed for the call.
 * Threads: the closure's.
 * Blocks: on the store.
 * Errors: HARK_ESQL (with SQL's own text), HARK_ECONSTRAINT, HARK_EDENIED, HARK_EDEADLINE,
 * HARK_EINVAL (no statement, more than one, another number of arguments), and the store's. */
HARK_API HARK_MUST hark_err hark_tx_exec(hark_tx *tx, const char *sql, const hark_value *args,
                                         size_t n);
HARK_API int64_t hark_tx_changes(const hark_tx *tx);

/* Runs one statement and calls fn for each row of its result (also what RETURNING gives). It sees
 * what the closure and those before it in the same commit have written. fn must not use tx.
 * Ownership: arguments are borrowed for the call, rows for fn's.
 * Threads: the closure's.
 * Blocks: on the store.
 * Errors: as hark_tx_exec. */
HARK_API HARK_MUST hark_err hark_tx_query(hark_tx *tx, const char *sql, const hark_value *args,
                                          size_t n, hark_row_fn fn, void *ud);

/* Publishes within the transaction: checked now, appended when the closure has returned HARK_OK, in
 * the order of the calls. It has no sequence yet; *ret (may be NULL) is filled in before the
 * call that runs the transaction returns, or before `done` is called, and must stay until then.
 * Ownership: the spec is copied.
 * Threads: the closure's.
 * Blocks: no.
 * Errors: as hark_publish_async; more than 4096 events are HARK_ETOOBIG. A conflict
 * (HARK_ECONFLICT, HARK_EVERSION) shows when it is appended, and undoes the transaction. */
HARK_API HARK_MUST hark_err hark_tx_publish(hark_tx *tx, const hark_event_spec *spec,
                                            hark_receipt *ret);

/* Likewise a struct as JSON through its field table; the spec gives the rest and no data.
 * Ownership: everything is copied.
 * Threads: the closure's.
 * Blocks: no.
 * Errors: as hark_tx_publish; HARK_ESCHEMA (the struct breaks the table's rules). */
HARK_API HARK_MUST hark_err hark_tx_publish_json(hark_tx *tx, const hark_event_spec *spec,
                                                 const hark_json_table *table, const void *from,
                                                 hark_receipt *ret);

/* Schedules an event within the transaction, as hark_schedule does: it is there when the transaction
 * is committed, and never was when it is undone. *ret (may be NULL) is the schedule's id, for a row
 * of the program's, say; each run has its own, and that of a run which is undone may become
 * another's. A delay counts from the run. From a delivery it is stamped as by
 * hark_delivery_publish: where that gave it its id, as it does when the spec has none, what an
 * earlier delivery of the same event has scheduled stands, whatever its content; *ret is its id
 * then, or 0 when it was published already. hark_tx_schedule_cancel takes one back, also one that is
 * due; undone, it has not.
 * Ownership: the spec is copied; *ret is filled at once on success.
 * Threads: the closure's.
 * Blocks: on the store.
 * Errors: as hark_schedule and hark_schedule_cancel, and the closure may go on after HARK_EEXIST,
 * HARK_ECONFLICT and HARK_ENOTFOUND; HARK_EINVAL after the closure has returned. */
HARK_API HARK_MUST hark_err hark_tx_schedule(hark_tx *tx, const hark_event_spec *spec,
                                             hark_when when, hark_schedule_id *ret);
HARK_API HARK_MUST hark_err hark_tx_schedule_cancel(hark_tx *tx, hark_schedule_id id);

/* Gives what is published or scheduled after it these correlationid and causationid, unless the spec
 * has its own; they also go before those that a delivery gives. NULL: as without this call.
 * Ownership: borrowed until the closure returns.
 * Threads: the closure's.
 * Blocks: no.
 * Errors: none. */
HARK_API void hark_tx_stamp(hark_tx *tx, const char *correlationid, const char *causationid);

/* Called when what the closure has published is appended and has its sequences, still within the
 * transaction. `last` is as for hark_transact. It may run SQL and hark_tx_keep, and not publish or
 * schedule; an error undoes the transaction. */
typedef hark_err (*hark_tx_then_fn)(hark_tx *tx, const hark_receipt *last, void *ud);

/* Says what is to be done when the closure has returned HARK_OK and its events are appended; the
 * last call of a run counts.
 * Ownership: ud must stay until the transaction is done; `last` is borrowed.
 * Threads: the closure's.
 * Blocks: no.
 * Errors: none. */
HARK_API void hark_tx_then(hark_tx *tx, hark_tx_then_fn fn, void *ud);

/* Returns `err` after keeping a text for the caller: return hark_tx_fail(tx, HARK_ECONFLICT, "…").
 * hark_tx_error is the text of the last failure in this closure, "" when there was none.
 * Ownership: copied; borrowed from tx.
 * Threads: the closure's.
 * Blocks: no.
 * Errors: the one given. */
HARK_API HARK_MUST hark_err hark_tx_fail(hark_tx *tx, hark_err err, const char *fmt, ...)
    HARK_PRINTF(3, 4);
HARK_API const char *hark_tx_error(const hark_tx *tx);

/* The bus; and the store's own handle, a `sqlite3 *` on sqlite:, for what the functions above
 * cannot do. Statements that are made with it are finalized before the closure returns. The same is
 * denied as in hark_tx_exec; an authorizer, hooks and progress handlers are the library's: leave
 * them alone. What a function or virtual table of yours reports as an error of the file
 * (SQLITE_CORRUPT, SQLITE_READONLY) is believed, and ends writing.
 * On postgresql: it is a `PGconn *`, blocking and not in pipeline mode, with a transaction that has
 * begun; NULL when the connection was lost. Ask for it again after each other call of the closure's.
 * Leave results read and no COPY open. A statement that fails ends the transaction: put SAVEPOINT and
 * ROLLBACK TO around it, or the closure is undone. COMMIT fails, and ROLLBACK undoes the group: both
 * are told as HARK_EDENIED, and the others run again without this closure. Settings, prepared
 * statements and LISTEN outlive the closure: put them back.
 * Ownership: borrowed for the closure.
 * Threads: the closure's.
 * Blocks: no.
 * Errors: none. */
HARK_API hark_bus *hark_tx_bus(const hark_tx *tx);
HARK_API void *hark_tx_native(hark_tx *tx);

/* A value kept under a key for some time, with the transaction: what a repeated request or message
 * is known by. hark_tx_kept copies it out.
 * Ownership: keep copies; *ret of kept is malloc'ed with a NUL behind: free() it.
 * Threads: the closure's.
 * Blocks: on the store.
 * Errors: keep: HARK_EEXIST (one is there and has not expired), HARK_EINVAL (an empty key, one over
 * 1024 bytes, keep_ms not positive); kept: HARK_ENOTFOUND; both: the store's. */
HARK_API HARK_MUST hark_err hark_tx_keep(hark_tx *tx, const char *key, const void *data, size_t len,
                                         int64_t keep_ms);
HARK_API HARK_MUST hark_err hark_tx_kept(hark_tx *tx, const char *key, void **ret, size_t *ret_len);

/* ---- reading beside the log ------------------------------------------------------------------ */

/* Runs one reading statement on a read-only connection from a pool, beside the writer: it sees what
 * is committed. Writing is HARK_EDENIED, and so are the log's own tables.
 * Ownership: arguments are borrowed for the call, rows for fn's.
 * Threads: any that may block; not closures (hark_tx_query is for those).
 * Blocks: on the store, and fn; long queries keep the write-ahead log from being reused.
 * Errors: HARK_ENOTSUP, HARK_ESQL, HARK_EDENIED, HARK_EINVAL, HARK_EWRONGTHREAD, HARK_ECLOSED, and
 * the store's. */
HARK_API HARK_MUST hark_err hark_query(hark_bus *bus, const char *sql, const hark_value *args,
                                       size_t n, hark_row_fn fn, void *ud, hark_errinfo *ei);

#ifdef __cplusplus
}
#endif
#endif
