/* Checkpoints, all made by the writer between groups: copying the write-ahead log (WAL) into the
 * database once it has grown by a slice, whose size follows from how long the last one took. A passive checkpoint never waits; when it copied
 * everything and no reader is in the middle of a page, SQLite starts the WAL over at the next
 * group, overwriting the file instead of growing it, and then fdatasync has no new length to write
 * down (measured: 1.6 times cheaper). Where our own readers keep that from happening, they are held
 * back for a moment once the WAL has RESTART_PAGES. Beyond `wal_limit` the file is cut, with more
 * patience; a reader that stays (another program's) is left alone for a while. */
#include "store/sqlite/store_i.h"

#define SLICE_MIN     250 /* pages: 1 MiB */
#define SLICE_FIRST   1000
#define SLICE_MAX     2000
#define RESTART_PAGES 4000  /* when to hold back readers */
#define WAL_LIMIT     16384 /* 64 MiB */
#define CUT_PATIENCE  20000000LL
#define HOLD_PATIENCE 2000000LL /* for readers to finish their page */
#define CUT_PAUSE_MIN 1000000000LL
#define CUT_PAUSE_MAX 60000000000LL
#define BUSY_PATIENCE 250 /* ms that a group waits for another program's write */

static int committed(void *ud, sqlite3 *db, const char *name, int pages)
{
    hark_store *s = ud;
    (void)db;
    (void)name;
    if (pages < s->wal_pages)
        s->wal_tried = 0; /* it has started over */
    s->wal_pages = pages;
    return SQLITE_OK;
}

void hk_wal_watch(hark_store *s)
{
    s->cut_pause = CUT_PAUSE_MIN;
    s->wal_limit = WAL_LIMIT;
    s->wal_slice = SLICE_FIRST;
    sqlite3_busy_timeout(s->conn.db, BUSY_PATIENCE);
    sqlite3_wal_hook(s->conn.db, committed, s);
}

/* False when readers were in the way, or worse. */
static bool checkpoint(hark_store *s, int mode, int patience_ms)
{
    hark_errinfo ei;
    sqlite3_busy_timeout(s->conn.db, patience_ms);
    int rc = sqlite3_wal_checkpoint_v2(s->conn.db, "main", mode, NULL, NULL);
    sqlite3_busy_timeout(s->conn.db, BUSY_PATIENCE);
    s->wal_tried = s->wal_pages;
    if (rc != SQLITE_OK && (rc & 0xff) != SQLITE_BUSY) {
        hark_err err = hk_conn_fail(&s->conn, "copying the write-ahead log", &ei);
        hk_log(hk_group_note(s, err) == HARK_EFULL ? HK_WARN : HK_ERROR, "%s", ei.text);
    }
    return rc == SQLITE_OK;
}

/* A checkpoint with our readers held back: at the next group the WAL starts over. */
static bool checkpoint_alone(hark_store *s, int mode, int64_t patience_ns)
{
    bool alone = hk_readers_pause(s, patience_ns);
    bool done = alone && checkpoint(s, mode, (int)(patience_ns / 1000000));
    hk_readers_resume(s);
    return done;
}

/* Cuts a WAL that is over its limit. */
static void cut(hark_store *s)
{
    int64_t now = hk_mono_ns();
    if (now < s->next_cut)
        return;
    if (checkpoint_alone(s, SQLITE_CHECKPOINT_TRUNCATE, CUT_PATIENCE)) {
        s->wal_pages = s->wal_tried = 0;
        s->cut_pause = CUT_PAUSE_MIN;
        return;
    }
    hk_log(HK_WARN, "%s-wal has %d pages: a reader keeps it from starting over", s->path,
           s->wal_pages);
    s->next_cut = now + s->cut_pause;
    s->cut_pause = s->cut_pause * 2 < CUT_PAUSE_MAX ? s->cut_pause * 2 : CUT_PAUSE_MAX;
}

/* Many pages rewritten often are copied once: large slices are cheaper, small ones shorter. */
static void fit_slice(hark_store *s, int64_t took, int64_t budget_ns)
{
    if (took > budget_ns && s->wal_slice > SLICE_MIN)
        s->wal_slice /= 2;
    else if (took < budget_ns / 2 && s->wal_slice < SLICE_MAX)
        s->wal_slice *= 2;
}

bool hk_wal_maintain(hark_store *s, int64_t budget_ns)
{
    if (!s->broken)
        hk_kept_sweep(s);
    if (s->broken || s->wal_pages - s->wal_tried < s->wal_slice)
        return false;
    int64_t start = hk_mono_ns();
    (void)checkpoint(s, SQLITE_CHECKPOINT_PASSIVE, 0); /* most of the work, beside readers */
    fit_slice(s, hk_mono_ns() - start, budget_ns);
    if (!s->broken && s->wal_pages > s->wal_limit)
        cut(s);
    else if (!s->broken && s->wal_pages > RESTART_PAGES)
        (void)checkpoint_alone(s, SQLITE_CHECKPOINT_RESTART, HOLD_PATIENCE);
    return false;
}

/* Before the writer's connection is closed. Closing the last connection copies the rest and removes
 * the WAL; where a program still reads, the copy is made here. */
void hk_wal_finish(hark_store *s)
{
    if (!s->broken)
        (void)checkpoint(s, SQLITE_CHECKPOINT_PASSIVE, 0);
    if (s->broken)
        sqlite3_db_config(s->conn.db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
}
