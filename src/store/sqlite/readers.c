/* The pool of reading connections: opened when first needed, one thread at a time each, read-only
 * and never checkpointing. A few are kept for the next page. Between pages the writer may hold all
 * of them back for the moment that the write-ahead log needs to start over: SQLite alone would let
 * busy readers keep it growing for ever. */
#include "store/sqlite/store_i.h"

#include <stdlib.h>

#define IDLE_MAX 8

static void free_reader(hk_reader *r)
{
    hk_program_close(&r->program);
    hk_conn_close(&r->conn);
    for (size_t i = 0; i < HK_NAME_KINDS; i++)
        hk_names_free(&r->names[i]);
    hk_type_sets_free(r);
    free(r);
}

static hark_err open_reader(hark_store *s, hk_reader *r, hark_errinfo *ei)
{
    /* Another file in this place would be read as the log, and closing it again would be harmless,
     * but it isn't the log. */
    if (!hk_file_lock_names(s->lock, s->path))
        return hk_fail(ei, HARK_ESTORE,
                       "%s was moved or replaced while it is open; put the file back", s->path);
    hark_err err = hk_conn_open(&r->conn, s->path, SQLITE_OPEN_READONLY, ei);
    if (!err) {
        sqlite3_busy_timeout(r->conn.db, 1000);
        err = hk_conn_exec(&r->conn, "PRAGMA query_only = 1; PRAGMA cache_size = -4096",
                           "preparing to read", ei);
    }
    if (!err)
        hk_program_open(&r->program, &r->conn, true);
    return err;
}

static hark_err new_reader(hark_store *s, hk_reader **ret, hark_errinfo *ei)
{
    hk_reader *r = calloc(1, sizeof *r);
    if (!r)
        return hk_fail(ei, HARK_ENOMEM, "no memory to read %s", s->path);
    hark_err err = open_reader(s, r, ei);
    if (err)
        free_reader(r);
    else
        *ret = r;
    return err;
}

/* One page less is being read. */
static void leave_locked(hark_store *s)
{
    if (--s->n_busy == 0 && s->paused)
        pthread_cond_broadcast(&s->readers_moved);
}

hark_err hk_reader_take(hark_store *s, hk_reader **ret, hark_errinfo *ei)
{
    pthread_mutex_lock(&s->lock_readers);
    while (s->paused)
        (void)hk_cond_wait(&s->readers_moved, &s->lock_readers, -1);
    s->n_busy++;
    hk_reader *r = s->idle;
    if (r) {
        s->idle = r->next;
        s->n_idle--;
    }
    pthread_mutex_unlock(&s->lock_readers);
    hark_err err = r ? HARK_OK : new_reader(s, &r, ei);
    if (!err) {
        *ret = r;
        return HARK_OK;
    }
    pthread_mutex_lock(&s->lock_readers);
    leave_locked(s);
    pthread_mutex_unlock(&s->lock_readers);
    return err;
}

void hk_reader_give(hark_store *s, hk_reader *r)
{
    pthread_mutex_lock(&s->lock_readers);
    bool keep = s->n_idle < IDLE_MAX;
    if (keep) {
        r->next = s->idle;
        s->idle = r;
        s->n_idle++;
    }
    leave_locked(s);
    pthread_mutex_unlock(&s->lock_readers);
    if (!keep)
        free_reader(r);
}

hark_err hk_reader_run(hark_store *s, hark_err (*fn)(hk_reader *r, void *ud, hark_errinfo *ei),
                       void *ud, hark_errinfo *ei)
{
    hk_reader *r;
    hark_err err = hk_reader_take(s, &r, ei);
    if (err)
        return err;
    err = hk_conn_do(&r->conn, HK_SQL_BEGIN_READ, "beginning to read", ei);
    if (!err) {
        err = fn(r, ud, ei);
        (void)hk_conn_do(&r->conn, HK_SQL_COMMIT, "ending to read", NULL);
    }
    hk_reader_give(s, r);
    return err;
}

bool hk_readers_pause(hark_store *s, int64_t timeout_ns)
{
    int64_t until = hk_mono_ns() + timeout_ns, left = timeout_ns;
    pthread_mutex_lock(&s->lock_readers);
    s->paused = true;
    for (; s->n_busy > 0 && left > 0; left = until - hk_mono_ns())
        (void)hk_cond_wait(&s->readers_moved, &s->lock_readers, left);
    bool all = s->n_busy == 0;
    pthread_mutex_unlock(&s->lock_readers);
    return all;
}

void hk_readers_resume(hark_store *s)
{
    pthread_mutex_lock(&s->lock_readers);
    s->paused = false;
    pthread_cond_broadcast(&s->readers_moved);
    pthread_mutex_unlock(&s->lock_readers);
}

void hk_readers_close(hark_store *s)
{
    while (s->idle) {
        hk_reader *r = s->idle;
        s->idle = r->next;
        free_reader(r);
    }
    s->n_idle = 0;
}
