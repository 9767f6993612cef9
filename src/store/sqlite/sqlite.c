/* The store's front: opening, closing, facts, and the table of calls. */
#include "store/sqlite/sqlite.h"
#include "store/sqlite/store_i.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static hark_err check_path(const char *rest, const char **ret, hark_errinfo *ei)
{
    const char *path = strncmp(rest, "//", 2) == 0 ? rest + 2 : rest;
    if (*path == '\0')
        return hk_fail(ei, HARK_EINVAL, "the store URL names no file; write sqlite:PATH");
    if (strcmp(path, ":memory:") == 0)
        return hk_fail(ei, HARK_EINVAL,
                       "sqlite::memory: would not be durable; write memory: or sqlite:PATH");
    *ret = path;
    return HARK_OK;
}

static void free_store(hark_store *s)
{
    hk_readers_close(s);
    hk_slots_close(s);
    for (size_t i = 0; i < HK_NAME_KINDS; i++)
        hk_intern_free(&s->names[i]);
    hk_program_close(&s->program);
    hk_conn_close(&s->conn);
    hk_file_lock_drop(s->lock, s->path); /* after every connection: see lock.c */
    hk_buf_free(&s->attrs);
    free(s->tally.runs);
    pthread_mutex_destroy(&s->lock_public);
    pthread_mutex_destroy(&s->lock_readers);
    pthread_cond_destroy(&s->readers_moved);
    free(s->path);
    free(s);
}

static bool has_wal(const char *path)
{
    char *wal = sqlite3_mprintf("%s-wal", path);
    bool there = wal && access(wal, F_OK) == 0;
    sqlite3_free(wal);
    return there;
}

/* If the file turns out to be another program's, closing it must not copy what that program's WAL
 * holds: that is for its owner to do. */
static hark_err open_schema(hark_store *s, hark_errinfo *ei)
{
    sqlite3_db_config(s->conn.db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, (int)has_wal(s->path), NULL);
    hark_err err = hk_schema_open(&s->conn, s->path, ei);
    if (!err)
        sqlite3_db_config(s->conn.db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
    return err;
}

static hark_err open_locked(hark_store *s, const char *path, hark_errinfo *ei)
{
    s->path = realpath(path, NULL);
    if (!s->path)
        return hk_fail(ei, HARK_ESYS, "cannot resolve %s: %s; check the path", path,
                       strerror(errno));
    hark_err err = hk_conn_open(&s->conn, s->path, SQLITE_OPEN_READWRITE, ei);
    if (err)
        return err;
    hk_wal_watch(s);
    err = open_schema(s, ei);
    if (!err)
        err = hk_schema_load(s, ei);
    if (!err)
        err = hk_sqlite_tx_open(s, ei);
    return err ? err : hk_slots_open(s, ei);
}

static hark_err open_store(const char *rest, const hark_store_opts *opts,
                           const hark_store_host *host, hark_store **ret, hark_errinfo *ei)
{
    const char *path = NULL;
    (void)host;
    hark_err err = check_path(rest, &path, ei);
    if (err)
        return err;
    if (!sqlite3_threadsafe())
        return hk_fail(ei, HARK_ENOTSUP, "SQLite %s was built without threads; use another build",
                       sqlite3_libversion());
    hark_store *s = calloc(1, sizeof *s);
    if (!s)
        return hk_fail(ei, HARK_ENOMEM, "no memory to open %s", path);
    pthread_mutex_init(&s->lock_public, NULL);
    pthread_mutex_init(&s->lock_readers, NULL);
    hk_cond_init(&s->readers_moved);
    err = hk_file_lock_take(path, opts && opts->existing, &s->lock, ei);
    if (!err)
        err = open_locked(s, path, ei);
    if (err) {
        free_store(s);
        return err;
    }
    s->lock->created = false;
    *ret = s;
    return HARK_OK;
}

static void close_store(hark_store *s)
{
    if (!s)
        return;
    hk_group_rollback(s);
    hk_readers_close(s);
    hk_sqlite_tx_finish(s);
    hk_versions_finish(s);
    hk_wal_finish(s);
    free_store(s);
}

static void info(hark_store *s, hark_store_info *ret)
{
    *ret = (hark_store_info){.size = sizeof *ret,
                             .epoch = s->epoch,
                             .format = HK_SQLITE_FORMAT,
                             .durability = HARK_DISK};
    memcpy(ret->log_id, s->log_id, sizeof ret->log_id);
    pthread_mutex_lock(&s->lock_public);
    ret->first_sequence = s->first_public;
    ret->last_sequence = s->last_public;
    pthread_mutex_unlock(&s->lock_public);
}

const hark_store_ops hk_store_sqlite = {.size = sizeof(hark_store_ops),
                                        .scheme = "sqlite",
                                        .open = open_store,
                                        .close = close_store,
                                        .info = info,
                                        .begin = hk_group_begin,
                                        .commit = hk_group_commit,
                                        .rollback = hk_group_rollback,
                                        .append = hk_sqlite_tx_append,
                                        .read = hk_read,
                                        .consumer_open = hk_sqlite_consumer_open,
                                        .consumer_save = hk_sqlite_consumer_save,
                                        .maintain = hk_wal_maintain,
                                        .consumer_reset = hk_sqlite_consumer_reset,
                                        .consumer_pause = hk_sqlite_consumer_pause,
                                        .consumers = hk_sqlite_consumers,
                                        .letters = hk_sqlite_letters,
                                        .attempts = hk_sqlite_attempts,
                                        .letter_redrive = hk_sqlite_letter_redrive,
                                        .letter_discard = hk_sqlite_letter_discard,
                                        .schedule_add = hk_sqlite_tx_schedule_add,
                                        .schedule_drop = hk_sqlite_tx_schedule_drop,
                                        .schedules = hk_sqlite_schedules,
                                        .replay_put = hk_sqlite_replay_put,
                                        .replays = hk_sqlite_replays,
                                        .count = hk_sqlite_count,
                                        .trim = hk_trim,
                                        .slots_take = hk_slots_take,
                                        .slots_give = hk_slots_give,
                                        .versions = hk_sqlite_versions,
                                        .ack = hk_sqlite_tx_ack,
                                        .tx_begin = hk_sqlite_tx_begin,
                                        .tx_end = hk_sqlite_tx_end,
                                        .tx_run = hk_sqlite_tx_run,
                                        .tx_native = hk_sqlite_tx_native,
                                        .keep = hk_sqlite_tx_keep,
                                        .kept = hk_sqlite_tx_kept,
                                        .query = hk_sqlite_query};
