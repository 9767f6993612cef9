/* Writes dead letters. Each holds its own copy of the event: the envelope as CloudEvents JSON, the
 * data byte for byte, so that it outlives the log's retention. Lists are in letters.c, what becomes
 * of a letter in redrive.c. */
#include "store/sqlite/store_i.h"

#include <stdlib.h>

static void bind(sqlite3_stmt *st, const hark_store_save *v, const hark_store_dead *d)
{
    size_t len;
    const void *data = hark_event_data(d->event, &len);
    sqlite3_bind_int64(st, 1, (int64_t)v->consumer);
    sqlite3_bind_int64(st, 2, (int64_t)v->generation);
    sqlite3_bind_int64(st, 3, (int64_t)hark_event_sequence(d->event));
    hk_bind_str(st, 4, d->reason);
    hk_bind_str(st, 5, d->error);
    sqlite3_bind_int64(st, 6, d->attempts);
    sqlite3_bind_int64(st, 7, d->first_ns);
    sqlite3_bind_int64(st, 8, d->dead_ns);
    sqlite3_bind_int64(st, 9, hark_event_recorded_ns(d->event));
    hk_bind_str(st, 10, hark_event_type(d->event));
    sqlite3_bind_blob64(st, 12, data, len, SQLITE_STATIC);
    sqlite3_bind_int64(st, 13, d->crashes);
    sqlite3_bind_int64(st, 14, d->interruptions);
}

/* A redriven event that died again has one letter, the new one. It comes before the old one goes:
 * the attempts are of both. */
hark_err hk_dead_add(hark_store *s, const hark_store_save *v, hark_store_dead *d, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    char *json = NULL;
    size_t json_len = 0;
    hark_err err = hk_conn_get(&s->conn, HK_SQL_DEAD_ADD, &st, ei);
    if (!err)
        err = hk_envelope_text(d->event, &json, &json_len, ei);
    if (err)
        return err;
    bind(st, v, d);
    sqlite3_bind_text(st, 11, json, (int)json_len, SQLITE_STATIC);
    err = hk_conn_run(&s->conn, st, "writing a dead letter", ei);
    sqlite3_clear_bindings(st);
    free(json);
    if (err)
        return err;
    d->ret_id = (uint64_t)sqlite3_last_insert_rowid(s->conn.db);
    return hk_dead_settled(s, v->consumer, hark_event_sequence(d->event), ei);
}

static hark_err drop(hark_store *s, hk_sql which, uint64_t consumer, uint64_t seq, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    hark_err err = hk_conn_get(&s->conn, which, &st, ei);
    if (err)
        return err;
    sqlite3_bind_int64(st, 1, (int64_t)consumer);
    sqlite3_bind_int64(st, 2, (int64_t)seq);
    return hk_conn_run(&s->conn, st, "settling a dead letter", ei);
}

hark_err hk_dead_settled(hark_store *s, uint64_t consumer, uint64_t seq, hark_errinfo *ei)
{
    hark_err err = drop(s, HK_SQL_REDRIVEN_DROP, consumer, seq, ei);
    return err ? err : hk_attempts_tidy(s, consumer, seq, ei);
}

hark_err hk_attempts_tidy(hark_store *s, uint64_t consumer, uint64_t seq, hark_errinfo *ei)
{
    return drop(s, HK_SQL_ATTEMPTS_DROP, consumer, seq, ei);
}
