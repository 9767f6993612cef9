/* store: the state of one open SQLite log, shared by the files of this folder. */
#ifndef HK_SQLITE_STORE_I_H
#define HK_SQLITE_STORE_I_H

#include "base/base.h"
#include "store/common/common.h"
#include "store/sqlite/conn_i.h"
#include "store/sqlite/lock_i.h"
#include "store/sqlite/names_i.h"
#include "store/sqlite/program_i.h"
#include "store/sqlite/row_i.h"

#include <hark/store.h>

/* Format: see docs/format-sqlite.md. */
#define HK_SQLITE_APPLICATION_ID 0x6861726b /* "hark" */
#define HK_SQLITE_FORMAT         3

/* Types that a pattern matches, as one reader has seen them so far. */
typedef struct hk_type_set {
    char *pattern;
    int64_t seen; /* the highest type number looked at */
    uint8_t *bits;
    size_t n_bytes;
    int64_t few[HK_TYPE_CURSORS]; /* the first that match */
    size_t n_match;
    size_t n_other; /* that don't, not counting hark's own */
} hk_type_set;

#define HK_TYPE_SETS 8

/* One connection that reads, for one thread at a time. */
typedef struct hk_reader {
    struct hk_reader *next;
    hk_conn conn;
    hk_names names[HK_NAME_KINDS];
    hk_type_set sets[HK_TYPE_SETS];
    size_t next_set;
    bool wide; /* the last page had events with extras */
    hk_program program;
} hk_reader;

/* What the current group has changed and its end makes final, or undoes. */
typedef struct hk_place {
    uint64_t first; /* oldest retained; 0 = none */
    uint64_t last;
    int64_t recorded;
} hk_place;

/* How far a rule of retention has come: see trim.c. `at` = 0: nothing was counted. */
typedef struct hk_trim_pass {
    uint64_t rule;     /* hash of pattern and keep; 0 = free */
    uint64_t at, upto; /* of these sequences `counted` match */
    uint64_t counted;
    uint64_t window; /* sequences to count next */
    int64_t type;    /* go on with this type, */
    uint64_t seq;    /* here */
} hk_trim_pass;

#define HK_TRIM_PASSES 8

/* What the table hark_versions does not have yet: see versions.c. */
typedef struct hk_tally {
    struct hk_tally_run {
        int64_t type, version;
        int64_t count;       /* below 0: so many were removed */
        int64_t first, last; /* recorded; 0 = nothing was appended */
    } * runs;
    size_t n, cap;
    size_t n_kept;     /* of groups that were committed */
    size_t sealed;     /* those below stay as they are: somebody may go back to here */
    uint64_t counted;  /* the table has all events up to here */
    uint64_t interval; /* so many more, and they are put there */
    bool removed;      /* events were removed that the table counts */
    bool stored;       /* the group puts all of them there */
} hk_tally;

/* The closure that runs, and where it began. */
typedef struct hk_closure {
    bool open;
    hark_err err;     /* what makes it impossible to keep it; HARK_OK = nothing yet */
    hark_errinfo why; /* the text of err */
    bool savepoint;   /* it can be undone by itself */
    int changes;      /* SQLite's count of changed rows when it began */
    hk_place now;
    size_t names[HK_NAME_KINDS];
    size_t versions;
    uint64_t schema, ids; /* see look_around in tx.c; where the program has the connection */
} hk_closure;

typedef struct hk_slots hk_slots; /* slots.c */

enum { HK_ACKING = 16 };

struct hark_store {
    char *path; /* absolute, without symbolic links */
    hk_file_lock *lock;
    uint8_t log_id[16];
    uint64_t epoch;

    /* the writer's thread */
    hk_conn conn;
    hk_intern names[HK_NAME_KINDS];
    hk_place now, kept;
    bool in_group;
    /* consumers that acked in this group, of which their generation is known */
    struct {
        uint64_t consumer, generation;
    } acking[HK_ACKING];
    size_t n_acking;
    hark_err broken;  /* not HARK_OK: no more writes */
    hk_buf attrs;     /* of the event being inserted */
    unsigned bound;   /* text columns of the insert that hold a value */
    int wal_pages;    /* in the write-ahead log, */
    int wal_tried;    /* when a checkpoint was last tried, */
    int wal_slice;    /* to be tried again after so many more, */
    int wal_limit;    /* and at most */
    int64_t next_cut; /* monotonic ns; another program's reader was in the way of the last */
    int64_t cut_pause;
    bool subjects_kept; /* the table `hark_subjects` is not empty */
    hk_trim_pass passes[HK_TRIM_PASSES];
    size_t next_pass;
    bool trimmed; /* the group has moved them */
    hk_tally tally;
    hk_program program; /* its statements in closures */
    hk_closure tx;
    bool native;                    /* the program was given the connection */
    uint64_t own_names;             /* that begin with hark_ in the schema */
    int64_t next_sweep;             /* monotonic ns: see keep.c */
    int64_t sweep_wall, sweep_mono; /* one moment by both clocks; 0 = none yet */

    /* any thread */
    pthread_mutex_t lock_public;
    uint64_t first_public, last_public;
    pthread_mutex_t lock_readers;
    pthread_cond_t readers_moved; /* paused, or the last page was given back */
    hk_reader *idle;
    size_t n_idle;
    size_t n_busy; /* pages being read */
    bool paused;   /* no new page may begin */
    hk_slots *slots;
};

/* schema_new.c: statements, NULL at the end */
extern const char *const hk_schema_new[];

/* schema.c */
hark_err hk_schema_open(hk_conn *c, const char *path, hark_errinfo *ei);
hark_err hk_schema_load(hark_store *s, hark_errinfo *ei);

/* group.c */
hark_err hk_group_begin(hark_store *s, hark_errinfo *ei);
hark_err hk_group_commit(hark_store *s, hark_errinfo *ei);
void hk_group_rollback(hark_store *s);

/* Remembers an error after which no write may be tried; returns it. */
hark_err hk_group_note(hark_store *s, hark_err err);

/* append.c */
hark_err hk_append(hark_store *s, hark_store_append *items, size_t n, hark_errinfo *ei);
/* Refuses data that SQLite can't keep. */
hark_err hk_append_size(hark_store *s, size_t data_len, hark_errinfo *ei);

/* readers.c */
hark_err hk_reader_take(hark_store *s, hk_reader **ret, hark_errinfo *ei);
void hk_reader_give(hark_store *s, hk_reader *r);
/* Calls `fn` inside one read transaction. */
hark_err hk_reader_run(hark_store *s, hark_err (*fn)(hk_reader *r, void *ud, hark_errinfo *ei),
                       void *ud, hark_errinfo *ei);
/* Holds back new pages and waits for those being read; false when they took longer. In either case
 * hk_readers_resume must follow. */
bool hk_readers_pause(hark_store *s, int64_t timeout_ns);
void hk_readers_resume(hark_store *s);
void hk_readers_close(hark_store *s);

/* types.c: NULL set for a NULL pattern */
hark_err hk_type_set_get(hk_reader *r, const char *pattern, const hk_type_set **ret,
                         hark_errinfo *ei);
bool hk_type_set_has(const hk_type_set *t, int64_t type_id);
bool hk_type_set_by_index(const hk_type_set *t);
void hk_type_sets_free(hk_reader *r);

/* seek.c: places by binary search */
hark_err hk_seek_time(hk_conn *c, int64_t recorded, uint64_t first, uint64_t last, uint64_t *ret,
                      hark_errinfo *ei);
/* The first version of a subject at or after a sequence; one above the last if there is none. */
hark_err hk_seek_subject(hk_conn *c, const char *subject, uint64_t seq, int64_t *ret,
                         hark_errinfo *ei);

/* Which sequences does a query allow, by its places and times? The log goes from `first` (0 = it is
 * empty) to `last`. */
hark_err hk_seek_bounds(hk_conn *c, const hark_store_query *q, uint64_t first, uint64_t last,
                        uint64_t *ret_low, uint64_t *ret_high, hark_errinfo *ei);

/* read.c */
hark_err hk_read(hark_store *s, const hark_store_query *q, hark_store_page *ret, hark_errinfo *ei);

/* consumer.c */
hark_err hk_sqlite_consumer_open(hark_store *s, hark_store_consumer *c, hark_errinfo *ei);
/* Where a consumer begins. The name is for texts. */
typedef struct hk_start {
    const char *name;
    int64_t start; /* hark_start */
    uint64_t sequence;
    int64_t time_ns;
} hk_start;
/* The floor of a consumer that starts there: all up to it counts as settled. */
hark_err hk_start_floor(hark_store *s, const hk_start *at, uint64_t *ret, hark_errinfo *ei);
/* From rerun_id and the five columns after it; false when memory is out. */
bool hk_rerun_columns(sqlite3_stmt *st, int col, hark_store_rerun *ret);
/* ledger.c */
hark_err hk_sqlite_consumer_save(hark_store *s, const hark_store_save *save, hark_errinfo *ei);
hark_err hk_delivery_put(hark_store *s, uint64_t consumer, const hark_store_row *r,
                         hark_errinfo *ei);
hark_err hk_delivery_drop(hark_store *s, uint64_t consumer, uint64_t seq, hark_errinfo *ei);
hark_err hk_attempt_add(hark_store *s, uint64_t consumer, uint64_t generation,
                        const hark_store_attempt *a, hark_errinfo *ei);
/* ack.c: a state of rows in hark_deliveries beside those of hark_row_state: the delivery is
 * settled, and the consumer's floor and settled set, as last saved, do not say so yet. No core is
 * loaded from it. */
#define HK_ROW_SETTLED 6
hark_err hk_sqlite_ack(hark_store *s, uint64_t consumer, uint64_t generation, uint64_t sequence,
                       hark_errinfo *ei);
/* Such rows of a consumer (in order) count in what was loaded of it. With `keep` they also go, and
 * what they told is saved: nobody may have loaded the consumer before and save it later. */
hark_err hk_acks_fold(hark_store *s, hark_store_consumer *c, const uint64_t *seqs, size_t n,
                      bool keep, hark_errinfo *ei);
/* dead.c */
hark_err hk_dead_add(hark_store *s, const hark_store_save *save, hark_store_dead *d,
                     hark_errinfo *ei);
/* The delivery of an event has ended, its row is gone: its redriven letters go. */
hark_err hk_dead_settled(hark_store *s, uint64_t consumer, uint64_t seq, hark_errinfo *ei);
/* Attempts are kept for as long as the event is in the log, open, or a dead letter. */
hark_err hk_attempts_tidy(hark_store *s, uint64_t consumer, uint64_t seq, hark_errinfo *ei);
/* admin.c */
hark_err hk_sqlite_consumer_reset(hark_store *s, hark_store_reset *r, hark_errinfo *ei);
hark_err hk_sqlite_consumer_pause(hark_store *s, uint64_t consumer, bool paused, hark_errinfo *ei);
hark_err hk_sqlite_consumers(hark_store *s, hark_store_consumer_fn fn, void *ud, hark_errinfo *ei);
/* letters.c */
hark_err hk_sqlite_letters(hark_store *s, const hark_store_letters_query *q,
                           hark_store_letter_fn fn, void *ud, hark_errinfo *ei);
hark_err hk_sqlite_attempts(hark_store *s, uint64_t consumer, uint64_t sequence,
                            hark_store_attempt_fn fn, void *ud, hark_errinfo *ei);
/* redrive.c */
hark_err hk_sqlite_letter_redrive(hark_store *s, uint64_t id, int64_t due_ns,
                                  hark_store_letter_done *ret, hark_errinfo *ei);
hark_err hk_sqlite_letter_discard(hark_store *s, uint64_t id, hark_store_letter_done *ret,
                                  hark_errinfo *ei);
/* schedules.c */
hark_err hk_sqlite_schedule_add(hark_store *s, hark_store_schedule *sch, uint64_t *ret_sequence,
                                bool *ret_duplicate, hark_errinfo *ei);
hark_err hk_sqlite_schedule_drop(hark_store *s, uint64_t id, hark_errinfo *ei);
hark_err hk_sqlite_schedules(hark_store *s, uint64_t id, uint64_t after, bool events,
                             hark_store_schedule_fn fn, void *ud, hark_errinfo *ei);
/* replays.c */
hark_err hk_sqlite_replay_put(hark_store *s, const hark_store_replay *r, hark_errinfo *ei);
hark_err hk_sqlite_replays(hark_store *s, hark_store_replay_fn fn, void *ud, hark_errinfo *ei);

/* copies.c: rows of a list, shown after the transaction that read them */
typedef struct hk_copies {
    void **rows;
    size_t n, cap;
} hk_copies;
/* Copies a struct and the n strings that it points to, at these offsets; false: memory is out. */
bool hk_copies_add(hk_copies *c, const void *row, size_t size, const size_t *strings, size_t n);
void hk_copies_clear(hk_copies *c); /* room for the next page stays */
void hk_copies_free(hk_copies *c);

/* slots.c: what workers have in hand; hk_slots_open at the end of opening, before readers exist;
 * hk_slots_close also when opening failed, before hk_slots_open or in it */
hark_err hk_slots_open(hark_store *s, hark_errinfo *ei);
void hk_slots_close(hark_store *s);
hark_err hk_slots_take(hark_store *s, size_t n, hark_store_slot **ret, hark_errinfo *ei);
void hk_slots_give(hark_store *s, hark_store_slot *slots, size_t n);

/* trim.c */
hark_err hk_trim(hark_store *s, hark_store_trim *t, hark_errinfo *ei);
void hk_trim_forget(hark_store *s); /* after a rollback */
/* Raises *version to the last one of the subject whose event is gone. */
hark_err hk_trim_version(hark_store *s, const char *subject, size_t len, int64_t *version,
                         hark_errinfo *ei);
/* versions.c */
hark_err hk_versions_load(hark_store *s, hark_errinfo *ei);
/* Room for n more events, so that hk_versions_add cannot fail. */
hark_err hk_versions_room(hark_store *s, size_t n, hark_errinfo *ei);
/* An event was appended, or removed, by the group. */
void hk_versions_add(hark_store *s, int64_t type, int64_t version);
hark_err hk_versions_remove(hark_store *s, int64_t type, int64_t version, hark_errinfo *ei);
/* A part of a group that is undone: back to where it began. Costs nothing; parts may be nested. */
size_t hk_versions_mark(hark_store *s);
void hk_versions_back(hark_store *s, size_t mark);
/* Before COMMIT; after it; after a rollback. */
hark_err hk_versions_settle(hark_store *s, hark_errinfo *ei);
void hk_versions_committed(hark_store *s);
void hk_versions_rolled_back(hark_store *s);
/* Before the writer's connection is closed: the table has all. */
void hk_versions_finish(hark_store *s);
hark_err hk_sqlite_versions(hark_store *s, hark_store_version_fn fn, void *ud, hark_errinfo *ei);

/* count.c: the numbers of the types that a pattern matches; NULL = all. free() them. */
hark_err hk_type_ids(hark_store *s, const char *pattern, int64_t **ret, size_t *ret_n,
                     hark_errinfo *ei);
hark_err hk_sqlite_count(hark_store *s, const hark_store_query *q, uint64_t *ret, hark_errinfo *ei);

/* tx.c: closures; see hark_store_ops */
hark_err hk_sqlite_tx_open(hark_store *s, hark_errinfo *ei); /* at the end of opening */
void hk_sqlite_tx_drop(hark_store *s);                       /* the group is being rolled back */
void hk_sqlite_tx_finish(hark_store *s);                     /* before the connection is closed */
hark_err hk_sqlite_tx_begin(hark_store *s, int64_t until_ns, bool undoable, hark_errinfo *ei);
hark_err hk_sqlite_tx_end(hark_store *s, bool keep, hark_store_fate *ret, hark_errinfo *ei);
hark_err hk_sqlite_tx_run(hark_store *s, const char *sql, const hark_value *args, size_t n,
                          hark_row_fn fn, void *ud, int64_t *ret_changes, hark_errinfo *ei);
void *hk_sqlite_tx_native(hark_store *s);
/* What is called both inside and outside of closures. */
hark_err hk_sqlite_tx_append(hark_store *s, hark_store_append *items, size_t n, hark_errinfo *ei);
hark_err hk_sqlite_tx_ack(hark_store *s, uint64_t consumer, uint64_t generation,
                          hark_store_owned of, uint64_t sequence, hark_errinfo *ei);
hark_err hk_sqlite_tx_schedule_add(hark_store *s, hark_store_schedule *sch, uint64_t *ret_sequence,
                                   bool *ret_duplicate, hark_errinfo *ei);
hark_err hk_sqlite_tx_schedule_drop(hark_store *s, uint64_t id, hark_errinfo *ei);
hark_err hk_sqlite_tx_keep(hark_store *s, const char *key, const void *data, size_t len,
                           int64_t until, int64_t now, hark_errinfo *ei);
hark_err hk_sqlite_tx_kept(hark_store *s, const char *key, int64_t now, void **ret, size_t *ret_len,
                           hark_errinfo *ei);
/* guard.c: refuses what a closure did to the schema, where SQLite did not ask before. */
hark_err hk_guard_schema(hark_store *s, hark_errinfo *ei);
/* query.c */
hark_err hk_sqlite_query(hark_store *s, const char *sql, const hark_value *args, size_t n,
                         hark_row_fn fn, void *ud, hark_errinfo *ei);
/* keep.c */
hark_err hk_kept_put(hark_store *s, const char *key, const void *data, size_t len, int64_t until,
                     int64_t now, hark_errinfo *ei);
hark_err hk_kept_get(hark_store *s, const char *key, int64_t now, void **ret, size_t *ret_len,
                     hark_errinfo *ei);
void hk_kept_sweep(hark_store *s); /* between groups */

/* wal.c */
void hk_wal_watch(hark_store *s);
bool hk_wal_maintain(hark_store *s, int64_t budget_ns);
void hk_wal_finish(hark_store *s);

/* Binds NULL for a NULL string. */
static inline void hk_bind_str(sqlite3_stmt *st, int i, const char *s)
{
    sqlite3_bind_text(st, i, s, -1, SQLITE_STATIC);
}

/* A column's text, NULL for NULL; false when memory is out. */
static inline bool hk_column_str(sqlite3_stmt *st, int col, const char **ret)
{
    bool null = sqlite3_column_type(st, col) == SQLITE_NULL;
    *ret = null ? NULL : (const char *)sqlite3_column_text(st, col);
    return null || *ret;
}

/* A column's bytes; SQLite gives NULL for an empty blob as for none at all, this doesn't. False
 * when memory is out. */
static inline bool hk_column_data(sqlite3_stmt *st, int col, const void **ret, size_t *ret_len)
{
    bool null = sqlite3_column_type(st, col) == SQLITE_NULL;
    *ret = null ? NULL : sqlite3_column_blob(st, col);
    *ret_len = null ? 0 : (size_t)sqlite3_column_bytes(st, col);
    if (!null && !*ret && *ret_len == 0)
        *ret = "";
    return null || *ret;
}

#endif
