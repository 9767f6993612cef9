/* readers: connections for reading, made when they are first needed, one thread at a time each. A query of the program's keeps one
 * for as long as the program looks at its rows, in which it may wait for a publish; but whoever publishes reads, too,
 * what others have appended. So the program never has the last one. */
#include "store/postgres/store_i.h"

#include <stdlib.h>

typedef struct hk_pg_reader {
    hk_pg conn;
    struct hk_pg_reader *next;
} hk_pg_reader;

/* A page is read along an index, in order; a server that guesses, or planned when the tables were small, would
 * rather read and sort all. To say so makes every cost look huge, which must not start the compiler. */
static const char settings[] = "SET default_transaction_read_only = on; SET enable_bitmapscan = "
                               "off; SET enable_seqscan = off; SET jit = off; "
                               "SET plan_cache_mode = force_generic_plan";

static hark_err connect(hk_pg_reader *r, hark_errinfo *ei)
{
    if (hk_pg_connected(&r->conn))
        return HARK_OK;
    hark_err err = hk_pg_connect(&r->conn, ei);
    if (!err)
        err = hk_pg_script(&r->conn, settings, "preparing to read", ei);
    if (err)
        hk_pg_disconnect(&r->conn);
    if (hark_err_class(err) == HARK_CLASS_REFUSED) { /* it was let in when the log was opened */
        err = HARK_ESTORE;
        if (ei)
            ei->err = err;
    }
    return err;
}

static hk_pg_reader *new_reader(const hark_store *s)
{
    hk_pg_reader *r = calloc(1, sizeof *r);
    if (r)
        r->conn = (hk_pg){.info = s->info, .where = s->where, .schema = s->schema};
    return r;
}

static bool must_wait(const hark_store *s, bool programs)
{
    return (programs && s->n_queries >= HK_PG_READERS - 1) ||
           (!s->idle && s->n_readers >= HK_PG_READERS);
}

static hark_err take(hark_store *s, bool programs, hk_pg_reader **ret, hark_errinfo *ei)
{
    pthread_mutex_lock(&s->lock);
    while (must_wait(s, programs))
        (void)hk_cond_wait(&s->reader_free, &s->lock, -1);
    s->n_queries += programs;
    hk_pg_reader *r = s->idle;
    if (r)
        s->idle = r->next;
    else if ((r = new_reader(s)))
        s->n_readers++;
    else
        s->n_queries -= programs;
    pthread_mutex_unlock(&s->lock);
    *ret = r;
    return r ? HARK_OK : hk_fail(ei, HARK_ENOMEM, "no memory to read from %s", s->where);
}

/* Those who wait do not all wait for the same. */
static void give(hark_store *s, bool programs, hk_pg_reader *r)
{
    pthread_mutex_lock(&s->lock);
    r->next = s->idle;
    s->idle = r;
    s->n_queries -= programs;
    pthread_cond_broadcast(&s->reader_free);
    pthread_mutex_unlock(&s->lock);
}

static hark_err run(hark_store *s, bool programs, hk_pg_read_fn fn, void *ud, hark_errinfo *ei)
{
    hk_pg_reader *r;
    hark_err err = take(s, programs, &r, ei);
    if (err)
        return err;
    bool old = hk_pg_connected(&r->conn);
    err = connect(r, ei);
    if (!err)
        err = fn(&r->conn, ud, ei);
    if (err && old && !hk_pg_connected(&r->conn)) {
        err = connect(r, ei);
        if (!err)
            err = fn(&r->conn, ud, ei);
    }
    give(s, programs, r);
    return err;
}

hark_err hk_pg_reader_run(hark_store *s, hk_pg_read_fn fn, void *ud, hark_errinfo *ei)
{
    return run(s, false, fn, ud, ei);
}

hark_err hk_pg_reader_query(hark_store *s, hk_pg_read_fn fn, void *ud, hark_errinfo *ei)
{
    return run(s, true, fn, ud, ei);
}

void hk_pg_readers_close(hark_store *s)
{
    while (s->idle) {
        hk_pg_reader *r = s->idle;
        s->idle = r->next;
        hk_pg_disconnect(&r->conn);
        free(r);
    }
    s->n_readers = 0;
}
