/* The schema as numbered migrations, and what to do with a file that is not ours. Each migration
 * takes a file from format n to n + 1; all that are due run in one transaction, so a crash leaves
 * the old format or the new one. Later formats add migrations and never change one. A new file gets the
 * present format at once: schema_new.c. */
#include "store/sqlite/store_i.h"

#include <string.h>

static const char *const migrations[HK_SQLITE_FORMAT - 1] = {
    /* 1 -> 2 */
    "ALTER TABLE consumers ADD COLUMN rerun_id TEXT;"
    "ALTER TABLE consumers ADD COLUMN rerun_from INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE consumers ADD COLUMN rerun_upto INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE consumers ADD COLUMN rerun_rate INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE consumers ADD COLUMN rerun_started INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE consumers ADD COLUMN rerun_settled INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE dead_letters ADD COLUMN crashes INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE dead_letters ADD COLUMN interruptions INTEGER NOT NULL DEFAULT 0;"
    "CREATE INDEX dead_letters_by_state ON dead_letters(consumer_id, state);" /* and id */
    "CREATE TABLE schedules("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  due INTEGER NOT NULL,"
    "  by_delay INTEGER NOT NULL,"
    "  created INTEGER NOT NULL,"
    "  source TEXT NOT NULL,"
    "  event_id TEXT NOT NULL,"
    "  digest BLOB NOT NULL,"
    "  envelope TEXT NOT NULL,"
    "  data BLOB);"
    "CREATE UNIQUE INDEX schedules_by_event ON schedules(event_id, source);"
    "CREATE TABLE replays("
    "  id TEXT PRIMARY KEY,"
    "  pattern TEXT NOT NULL,"
    "  first INTEGER NOT NULL,"
    "  last INTEGER NOT NULL,"
    "  from_ns INTEGER NOT NULL,"
    "  to_ns INTEGER NOT NULL,"
    "  rate INTEGER NOT NULL,"
    "  position INTEGER NOT NULL,"
    "  done INTEGER NOT NULL,"
    "  total INTEGER NOT NULL,"
    "  rejected INTEGER NOT NULL,"
    "  state INTEGER NOT NULL,"
    "  started INTEGER NOT NULL,"
    "  changed INTEGER NOT NULL,"
    "  error TEXT) WITHOUT ROWID;"
    "CREATE TABLE gaps("
    "  consumer_id INTEGER NOT NULL,"
    "  first INTEGER NOT NULL,"
    "  last INTEGER NOT NULL,"
    "  PRIMARY KEY(consumer_id, first)) WITHOUT ROWID;"
    "CREATE TABLE subjects(subject TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID;",
    /* 2 -> 3: the program's tables are in the same file, so ours get a prefix */
    "ALTER TABLE meta RENAME TO hark_meta;"
    "ALTER TABLE types RENAME TO hark_types;"
    "ALTER TABLE sources RENAME TO hark_sources;"
    "ALTER TABLE mediatypes RENAME TO hark_mediatypes;"
    "ALTER TABLE events RENAME TO hark_events;"
    "ALTER TABLE consumers RENAME TO hark_consumers;"
    "ALTER TABLE deliveries RENAME TO hark_deliveries;"
    "ALTER TABLE attempts RENAME TO hark_attempts;"
    "ALTER TABLE dead_letters RENAME TO hark_dead_letters;"
    "ALTER TABLE schedules RENAME TO hark_schedules;"
    "ALTER TABLE replays RENAME TO hark_replays;"
    "ALTER TABLE gaps RENAME TO hark_gaps;"
    "ALTER TABLE subjects RENAME TO hark_subjects;"
    "DROP INDEX events_by_id;"
    "CREATE UNIQUE INDEX hark_events_by_id ON hark_events(id, source_id);"
    "DROP INDEX events_by_type;"
    "CREATE INDEX hark_events_by_type ON hark_events(type_id);"
    "DROP INDEX events_by_subject;"
    "CREATE INDEX hark_events_by_subject ON hark_events(subject, subject_version)"
    "  WHERE subject IS NOT NULL;"
    "DROP INDEX attempts_by_seq;"
    "CREATE INDEX hark_attempts_by_seq ON hark_attempts(seq, consumer_id);"
    "DROP INDEX dead_letters_by_consumer;"
    "CREATE INDEX hark_dead_letters_by_consumer ON hark_dead_letters(consumer_id, seq);"
    "DROP INDEX dead_letters_by_state;"
    "CREATE INDEX hark_dead_letters_by_state ON hark_dead_letters(consumer_id, state);"
    "DROP INDEX schedules_by_event;"
    "CREATE UNIQUE INDEX hark_schedules_by_event ON hark_schedules(event_id, source);"
    "CREATE TABLE hark_versions("
    "  type_id INTEGER NOT NULL,"
    "  version INTEGER NOT NULL,"
    "  count INTEGER NOT NULL,"
    "  first INTEGER NOT NULL,"
    "  last INTEGER NOT NULL,"
    "  PRIMARY KEY(type_id, version)) WITHOUT ROWID;"
    "INSERT INTO hark_versions SELECT type_id, dataversion, count(*), min(recorded), max(recorded)"
    "  FROM hark_events GROUP BY type_id, dataversion;"
    "INSERT INTO hark_meta SELECT 'counted', ifnull(max(seq), 0) FROM hark_events;"
    "CREATE TABLE hark_kept("
    "  key TEXT PRIMARY KEY,"
    "  until INTEGER NOT NULL,"
    "  data BLOB NOT NULL) WITHOUT ROWID;"
    "CREATE INDEX hark_kept_by_until ON hark_kept(until);",
};

static hark_err number(hk_conn *c, const char *sql, int64_t *ret, hark_errinfo *ei)
{
    sqlite3_stmt *st = NULL;
    if (sqlite3_prepare_v2(c->db, sql, -1, &st, NULL) != SQLITE_OK)
        return hk_conn_fail(c, "examining it", ei);
    hark_err err = hk_conn_int(c, st, 0, ret, ei);
    sqlite3_finalize(st);
    return err;
}

/* What kind of file is it? *ret_format is 0 for an empty one. */
static hark_err judge(hk_conn *c, const char *path, int64_t *ret_format, hark_errinfo *ei)
{
    int64_t app = 0, format = 0, tables = 0;
    hark_err err = number(c, "PRAGMA application_id", &app, ei);
    if (!err)
        err = number(c, "PRAGMA user_version", &format, ei);
    if (!err)
        err = number(c, "SELECT count(*) FROM sqlite_master", &tables, ei);
    if (err && (sqlite3_errcode(c->db) & 0xff) == SQLITE_NOTADB)
        return hk_fail(ei, HARK_EFORMAT,
                       "%s is not a database; name another path, or move the file away", path);
    if (err)
        return err;
    bool empty = app == 0 && format == 0 && tables == 0;
    if (!empty && (app != HK_SQLITE_APPLICATION_ID || format < 1))
        return hk_fail(
            ei, HARK_EFORMAT,
            "%s is the database of another program (application id 0x%08llx, %lld tables "
            "and indexes); name another path",
            path, (unsigned long long)app & 0xffffffff, (long long)tables);
    if (format > HK_SQLITE_FORMAT)
        return hk_fail(ei, HARK_EFORMAT,
                       "%s was made by a newer version (format %lld; this library knows %d); "
                       "use a newer hark",
                       path, (long long)format, HK_SQLITE_FORMAT);
    *ret_format = format;
    return HARK_OK;
}

static hark_err use_wal(hk_conn *c, const char *path, hark_errinfo *ei)
{
    sqlite3_stmt *st = NULL;
    bool row = false, wal = false;
    if (sqlite3_prepare_v2(c->db, "PRAGMA journal_mode = WAL", -1, &st, NULL) != SQLITE_OK)
        return hk_conn_fail(c, "choosing the write-ahead log", ei);
    hark_err err = hk_conn_step(c, st, &row, "choosing the write-ahead log", ei);
    if (!err)
        wal = row && strcmp((const char *)sqlite3_column_text(st, 0), "wal") == 0;
    sqlite3_finalize(st);
    if (!err && !wal)
        err = hk_fail(ei, HARK_ESTORE,
                      "%s cannot have a write-ahead log on this file system; choose a local disk",
                      path);
    return err;
}

/* Something of the program's stands in the way: to try again is no use. */
static hark_err in_the_way(hk_conn *c, hark_errinfo *ei)
{
    hark_errinfo own;
    ei = ei ? ei : &own;
    hark_err err = hk_conn_fail(c, "setting up its tables", ei);
    if (err != HARK_ESTORE || (sqlite3_errcode(c->db) & 0xff) != SQLITE_ERROR)
        return err;
    return hk_fail(ei, HARK_EFORMAT,
                   "%s cannot be brought to format %d: %s; rename or drop what is in the way with "
                   "another program, then open it again; it is as it was",
                   sqlite3_db_filename(c->db, "main"), HK_SQLITE_FORMAT, sqlite3_errmsg(c->db));
}

static hark_err migrate(hk_conn *c, int64_t from, hark_errinfo *ei)
{
    char ids[96];
    hark_err err = hk_conn_exec(c, "BEGIN IMMEDIATE", "beginning to set it up", ei);
    for (size_t i = 0; !err && from == 0 && hk_schema_new[i]; i++)
        err = hk_conn_exec(c, hk_schema_new[i], "setting up its tables", ei);
    for (int64_t i = from ? from : HK_SQLITE_FORMAT; !err && i < HK_SQLITE_FORMAT; i++)
        if (sqlite3_exec(c->db, migrations[i - 1], NULL, NULL, NULL) != SQLITE_OK)
            err = in_the_way(c, ei);
    sqlite3_snprintf(sizeof ids, ids, "PRAGMA application_id = %d; PRAGMA user_version = %d",
                     HK_SQLITE_APPLICATION_ID, HK_SQLITE_FORMAT);
    if (!err)
        err = hk_conn_exec(c, ids, "marking its format", ei);
    if (!err)
        err = hk_conn_exec(c, "COMMIT", "setting up its tables", ei);
    return err;
}

hark_err hk_schema_open(hk_conn *c, const char *path, hark_errinfo *ei)
{
    int64_t format = 0;
    hark_err err = judge(c, path, &format, ei);
    if (!err)
        err = use_wal(c, path, ei);
    if (!err)
        err = hk_conn_exec(c,
                           "PRAGMA synchronous = FULL; PRAGMA cache_size = -16384;"
                           "PRAGMA temp_store = MEMORY; PRAGMA foreign_keys = OFF",
                           "setting it up", ei);
    if (!err && format < HK_SQLITE_FORMAT)
        err = migrate(c, format, ei);
    if (!err) /* for the program's tables; the log's have none */
        err = hk_conn_exec(c, "PRAGMA foreign_keys = ON", "setting it up", ei);
    return err;
}

static hark_err no_meta(const hark_store *s, const char *key, hark_errinfo *ei)
{
    return hk_fail(ei, HARK_ECORRUPT, "%s has no %s in its table hark_meta; restore from a backup",
                   s->path, key);
}

static hark_err load_log_id(hark_store *s, hark_errinfo *ei)
{
    sqlite3_stmt *st = NULL;
    bool row = false;
    if (sqlite3_prepare_v2(s->conn.db, "SELECT value FROM hark_meta WHERE key = 'log_id'", -1, &st,
                           NULL) != SQLITE_OK)
        return hk_conn_fail(&s->conn, "reading the log's id", ei);
    hark_err err = hk_conn_step(&s->conn, st, &row, "reading the log's id", ei);
    if (!err && row && sqlite3_column_bytes(st, 0) == sizeof s->log_id)
        memcpy(s->log_id, sqlite3_column_blob(st, 0), sizeof s->log_id);
    else if (!err)
        err = no_meta(s, "log_id", ei);
    sqlite3_finalize(st);
    return err;
}

/* The newest event is never removed without its place being kept in hark_meta, so this is the
 * highest sequence ever used. */
hark_err hk_schema_load(hark_store *s, hark_errinfo *ei)
{
    int64_t epoch = 0, recorded = 0, subjects = 0;
    uint64_t first = 0, last = 0;
    hark_err err = load_log_id(s, ei);
    if (!err)
        err = number(&s->conn, "SELECT value FROM hark_meta WHERE key = 'epoch'", &epoch, ei);
    if (!err && epoch < 1)
        err = no_meta(s, "epoch", ei);
    if (!err)
        err = hk_conn_number(&s->conn, HK_SQL_FIRST_SEQ, &first, ei);
    if (!err)
        err = hk_conn_number(&s->conn, HK_SQL_LAST_EVER, &last, ei);
    if (!err)
        err = number(
            &s->conn,
            "SELECT max(ifnull((SELECT recorded FROM hark_events ORDER BY seq DESC LIMIT 1), "
            "0), ifnull((SELECT value FROM hark_meta WHERE key = 'last_recorded'), 0))",
            &recorded, ei);
    if (!err)
        err = number(&s->conn, "SELECT EXISTS(SELECT 1 FROM hark_subjects)", &subjects, ei);
    if (err)
        return err;
    s->subjects_kept = subjects != 0;
    s->epoch = (uint64_t)epoch;
    s->first_public = first;
    s->last_public = last;
    s->now = s->kept = (hk_place){.first = first, .last = last, .recorded = recorded};
    return hk_versions_load(s, ei);
}
