/* conn: one SQLite connection with its prepared statements, used by one thread at a time, and the
 * translation of SQLite's errors. */
#ifndef HK_SQLITE_CONN_I_H
#define HK_SQLITE_CONN_I_H

#include <hark/error.h>

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

/* The columns of the queries for events, in order: see row.c. Few events have the last four, so the
 * log is first read without them. */
#define HK_NARROW_COLUMNS                                                                          \
    "seq, recorded, source_id, id, type_id, mediatype_id, time, dataversion, check_sum, "          \
    "subject, subject_version, data"
#define HK_ROW_COLUMNS HK_NARROW_COLUMNS ", partitionkey, correlationid, causationid, attrs"

#define HK_TYPE_CURSORS 8 /* types that a read merges by index */

typedef enum hk_sql {
    HK_SQL_BEGIN_READ,
    HK_SQL_BEGIN_WRITE,
    HK_SQL_COMMIT,
    HK_SQL_ROLLBACK,
    HK_SQL_INSERT_EVENT,
    HK_SQL_FIND_EVENT,
    HK_SQL_UNDO_UNIT,
    HK_SQL_SUBJECT_VERSION,
    HK_SQL_FIRST_SEQ,
    HK_SQL_LAST_SEQ,
    HK_SQL_LAST_EVER,
    HK_SQL_RECORDED_FROM,
    HK_SQL_SUBJECT_BOUNDS,
    HK_SQL_SUBJECT_FROM,
    HK_SQL_TYPE_ID,
    HK_SQL_SOURCE_ID,
    HK_SQL_MEDIA_ID,
    HK_SQL_ADD_TYPE,
    HK_SQL_ADD_SOURCE,
    HK_SQL_ADD_MEDIA,
    HK_SQL_TYPE_NAME,
    HK_SQL_SOURCE_NAME,
    HK_SQL_MEDIA_NAME,
    HK_SQL_TYPES_ABOVE,
    HK_SQL_SCAN_UP,
    HK_SQL_SCAN_DOWN,
    HK_SQL_NARROW_UP,
    HK_SQL_NARROW_DOWN,
    HK_SQL_SUBJECT_UP,
    HK_SQL_SUBJECT_DOWN,
    HK_SQL_CONSUMER_FIND,
    HK_SQL_CONSUMER_ADD,
    HK_SQL_CONSUMER_UPDATE,
    HK_SQL_CONSUMER_SAVE,
    HK_SQL_DELIVERIES,
    HK_SQL_DELIVERY_PUT,
    HK_SQL_DELIVERY_DROP,
    HK_SQL_ATTEMPT_ADD,
    HK_SQL_DEAD_ADD,
    HK_SQL_REDRIVEN_DROP,
    HK_SQL_REDRIVEN_UNDO,
    HK_SQL_ATTEMPTS_DROP,
    HK_SQL_ATTEMPTS_RESET,
    HK_SQL_GAPS,
    HK_SQL_GAPS_DONE,
    HK_SQL_CONSUMER_AT,
    HK_SQL_CONSUMER_RESET,
    HK_SQL_RERUN_END,
    HK_SQL_CONSUMER_PAUSE,
    HK_SQL_CONSUMERS,
    HK_SQL_CONSUMER_COUNTS,
    HK_SQL_CONSUMER_LETTERS,
    HK_SQL_DELIVERIES_CLEAR,
    HK_SQL_GAPS_CLEAR,
    HK_SQL_DELIVERY_AT,
    HK_SQL_LETTER,
    HK_SQL_LETTERS,
    HK_SQL_LETTERS_OF,
    HK_SQL_LETTERS_OF_STATE,
    HK_SQL_LETTERS_AT,
    HK_SQL_LETTER_AT,
    HK_SQL_LETTER_REDRIVE,
    HK_SQL_LETTER_DROP,
    HK_SQL_ATTEMPTS,
    HK_SQL_EVENT_OF,
    HK_SQL_SCHEDULE_OF,
    HK_SQL_SCHEDULE_ADD,
    HK_SQL_SCHEDULE_DROP,
    HK_SQL_SCHEDULES,
    HK_SQL_SCHEDULES_BARE,
    HK_SQL_SCHEDULE,
    HK_SQL_SCHEDULE_BARE,
    HK_SQL_REPLAY_PUT,
    HK_SQL_REPLAYS,
    HK_SQL_META_PUT,
    HK_SQL_SLOT_CONSUMER,
    HK_SQL_SLOT_ROW,
    HK_SQL_SLOT_COUNT,
    HK_SQL_TRIM_CONSUMERS,
    HK_SQL_TRIM_ROW_FROM,
    HK_SQL_TRIM_BATCH,
    HK_SQL_TRIM_SUBJECT,
    HK_SQL_TRIM_ATTEMPTS,
    HK_SQL_TRIM_ROW,
    HK_SQL_TRIM_EVENT,
    HK_SQL_GAP_ADD,
    HK_SQL_SUBJECT_KEPT,
    HK_SQL_COUNT_TYPE,
    HK_SQL_COUNT_SUBJECT,
    HK_SQL_COUNTED,
    HK_SQL_VERSIONS,
    HK_SQL_VERSIONS_ABOVE,
    HK_SQL_VERSION_ADD,
    HK_SQL_ACK,
    HK_SQL_ACK_NEW,
    HK_SQL_LEFT_BEHIND,
    HK_SQL_ACKED_LETTERS,
    HK_SQL_SAVEPOINT,
    HK_SQL_RELEASE,
    HK_SQL_ROLLBACK_TO,
    HK_SQL_SCHEMA_NUMBER,
    HK_SQL_OWN_NAMES,
    HK_SQL_OWN_IDS,
    HK_SQL_REFERRING,
    HK_SQL_KEEP,
    HK_SQL_KEPT,
    HK_SQL_KEPT_OLDEST,
    HK_SQL_KEPT_SWEEP,
    HK_SQL_TYPE_UP, /* HK_TYPE_CURSORS of each: a merge steps them side by side */
    HK_SQL_TYPE_DOWN = HK_SQL_TYPE_UP + HK_TYPE_CURSORS,
    HK_SQL_COUNT = HK_SQL_TYPE_DOWN + HK_TYPE_CURSORS
} hk_sql;

typedef struct hk_conn {
    sqlite3 *db;
    sqlite3_stmt *stmts[HK_SQL_COUNT]; /* prepared at first use */
} hk_conn;

hark_err hk_conn_open(hk_conn *c, const char *path, int flags, hark_errinfo *ei);
void hk_conn_close(hk_conn *c);

/* A statement, reset and ready to bind; NULL with *ei filled when it cannot be prepared. Bindings
 * of its last use stay. */
sqlite3_stmt *hk_conn_stmt(hk_conn *c, hk_sql which, hark_errinfo *ei);
const char *hk_sql_text(hk_sql which);
/* Likewise; says why not. */
hark_err hk_conn_get(hk_conn *c, hk_sql which, sqlite3_stmt **ret, hark_errinfo *ei);

/* Runs a statement that returns no row, and resets it. `doing` completes "while ...". */
hark_err hk_conn_run(hk_conn *c, sqlite3_stmt *st, const char *doing, hark_errinfo *ei);
hark_err hk_conn_do(hk_conn *c, hk_sql which, const char *doing, hark_errinfo *ei);
/* Steps to a row; *ret_row says whether there is one. The caller resets. */
hark_err hk_conn_step(hk_conn *c, sqlite3_stmt *st, bool *ret_row, const char *doing,
                      hark_errinfo *ei);
/* SQL without results, outside the hot path. */
hark_err hk_conn_exec(hk_conn *c, const char *sql, const char *doing, hark_errinfo *ei);
/* One integer, or `none` when there is no row or it is NULL. */
hark_err hk_conn_int(hk_conn *c, sqlite3_stmt *st, int64_t none, int64_t *ret, hark_errinfo *ei);
/* Likewise of a statement without parameters; 0 for none. */
hark_err hk_conn_number(hk_conn *c, hk_sql which, uint64_t *ret, hark_errinfo *ei);

/* The connection's last error as ours, its text naming the file and a way out. */
hark_err hk_conn_fail(hk_conn *c, const char *doing, hark_errinfo *ei);
hark_err hk_sqlite_err(int extended_code);

#endif
