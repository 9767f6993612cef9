/* Saves what the delivery core decided: a consumer's floor and settled set, its open rows, finished
 * attempts and dead letters, all in the group's one transaction. */
#include "store/sqlite/store_i.h"

static hark_err save_state(hark_store *s, const hark_store_save *v, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    hk_buf settled = {0};
    hark_err err = hk_conn_get(&s->conn, HK_SQL_CONSUMER_SAVE, &st, ei);
    if (err)
        return err;
    hk_ranges_encode(v->floor, v->settled, v->n_settled, &settled);
    if (settled.failed) {
        hk_buf_free(&settled);
        return hk_fail(ei, HARK_ENOMEM, "no memory for the state of a consumer");
    }
    sqlite3_bind_int64(st, 1, (int64_t)v->consumer);
    sqlite3_bind_int64(st, 2, (int64_t)v->generation);
    sqlite3_bind_int64(st, 3, (int64_t)v->floor);
    sqlite3_bind_int64(st, 4, (int64_t)v->highest);
    sqlite3_bind_blob64(st, 5, settled.len ? settled.data : NULL, settled.len, SQLITE_STATIC);
    err = hk_conn_run(&s->conn, st, "saving a consumer", ei);
    sqlite3_bind_null(st, 5);
    hk_buf_free(&settled);
    if (!err && sqlite3_changes(s->conn.db) == 0)
        err = hk_fail(ei, HARK_ENOTFOUND, "consumer %llu of generation %llu is not there any more",
                      (unsigned long long)v->consumer, (unsigned long long)v->generation);
    return err;
}

hark_err hk_delivery_put(hark_store *s, uint64_t consumer, const hark_store_row *r,
                         hark_errinfo *ei)
{
    sqlite3_stmt *st;
    hark_err err = hk_conn_get(&s->conn, HK_SQL_DELIVERY_PUT, &st, ei);
    if (err)
        return err;
    sqlite3_bind_int64(st, 1, (int64_t)consumer);
    sqlite3_bind_int64(st, 2, (int64_t)r->sequence);
    sqlite3_bind_int64(st, 3, r->state);
    sqlite3_bind_int64(st, 4, r->attempts);
    sqlite3_bind_int64(st, 5, r->crashes);
    sqlite3_bind_int64(st, 6, r->interruptions);
    sqlite3_bind_int64(st, 7, r->due_ns);
    sqlite3_bind_int64(st, 8, r->first_ns);
    hk_bind_str(st, 9, r->key);
    hk_bind_str(st, 10, r->error);
    return hk_conn_run(&s->conn, st, "saving a delivery", ei);
}

hark_err hk_delivery_drop(hark_store *s, uint64_t consumer, uint64_t seq, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    hark_err err = hk_conn_get(&s->conn, HK_SQL_DELIVERY_DROP, &st, ei);
    if (err)
        return err;
    sqlite3_bind_int64(st, 1, (int64_t)consumer);
    sqlite3_bind_int64(st, 2, (int64_t)seq);
    return hk_conn_run(&s->conn, st, "settling a delivery", ei);
}

static hark_err drop_gaps(hark_store *s, const hark_store_save *v, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    hark_err err = hk_conn_get(&s->conn, HK_SQL_GAPS_DONE, &st, ei);
    if (err)
        return err;
    sqlite3_bind_int64(st, 1, (int64_t)v->consumer);
    sqlite3_bind_int64(st, 2, (int64_t)v->gap_done);
    return hk_conn_run(&s->conn, st, "settling a gap", ei);
}

hark_err hk_attempt_add(hark_store *s, uint64_t consumer, uint64_t generation,
                        const hark_store_attempt *a, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    hark_err err = hk_conn_get(&s->conn, HK_SQL_ATTEMPT_ADD, &st, ei);
    if (err)
        return err;
    sqlite3_bind_int64(st, 1, (int64_t)consumer);
    sqlite3_bind_int64(st, 2, (int64_t)generation);
    sqlite3_bind_int64(st, 3, (int64_t)a->sequence);
    sqlite3_bind_int64(st, 4, a->number);
    sqlite3_bind_int64(st, 5, a->started_ns);
    sqlite3_bind_int64(st, 6, a->ended_ns);
    hk_bind_str(st, 7, a->outcome);
    hk_bind_str(st, 8, a->error);
    return hk_conn_run(&s->conn, st, "recording an attempt", ei);
}

/* What settled deliveries leave behind goes last: their attempts may be those of a new letter. */
static hark_err save_rows(hark_store *s, const hark_store_save *v, hark_errinfo *ei)
{
    hark_err err = HARK_OK;
    for (size_t i = 0; i < v->n_drop && !err; i++)
        err = hk_delivery_drop(s, v->consumer, v->drop[i], ei);
    for (size_t i = 0; i < v->n_put && !err; i++)
        err = hk_delivery_put(s, v->consumer, &v->put[i], ei);
    for (size_t i = 0; i < v->n_attempts && !err; i++)
        err = hk_attempt_add(s, v->consumer, v->generation, &v->attempts[i], ei);
    for (size_t i = 0; i < v->n_dead && !err; i++)
        err = hk_dead_add(s, v, &v->dead[i], ei);
    uint64_t left_behind = v->n_drop > 0;
    if (v->n_drop > 1 && !err) /* asked once, since there is mostly nothing */
        err = hk_conn_number(&s->conn, HK_SQL_LEFT_BEHIND, &left_behind, ei);
    for (size_t i = 0; left_behind && i < v->n_drop && !err; i++)
        err = hk_dead_settled(s, v->consumer, v->drop[i], ei);
    if (v->gap_done && !err)
        err = drop_gaps(s, v, ei);
    return err;
}

/* The group goes on after a refusal, so that what was written until then must not be refused. */
static hark_err end_group(hark_err err, uint64_t consumer, hark_errinfo *ei)
{
    if (!err || hark_err_class(err) != HARK_CLASS_REFUSED)
        return err;
    return hk_wrap(ei, HARK_ESTORE, "the state of consumer %llu cannot be saved (%s)",
                   (unsigned long long)consumer, hark_err_name(err));
}

hark_err hk_sqlite_consumer_save(hark_store *s, const hark_store_save *v, hark_errinfo *ei)
{
    if (!s->in_group)
        return hk_fail(ei, HARK_EINTERNAL, "consumer_save outside of a group");
    hark_err err = save_state(s, v, ei);
    if (!err)
        err = end_group(save_rows(s, v, ei), v->consumer, ei);
    return hk_group_note(s, err);
}
