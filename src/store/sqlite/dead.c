/* Writes dead letters. Each holds its own copy of the event: the envelope as CloudEvents JSON, the
 * data byte for byte, so that it outlives the log's retention. */
#include "store/sqlite/store_i.h"

#include "event/event.h"

#include <stdlib.h>

/* The event's attributes as JSON, without its data; malloc'ed. */
static hark_err envelope(const hark_event *e, char **ret, size_t *ret_len, hark_errinfo *ei)
{
    hark_ext ext[HARK_EXTENSIONS_MAX];
    char time[HARK_TIME_TEXT];
    hark_event_spec spec;
    hark_event *bare;
    hark_event_to_spec(e, ext, time, &spec);
    spec.data = NULL;
    spec.data_len = 0;
    hark_err err =
        hk_event_make(&spec, NULL, hark_event_time_ns(e), 1, 0, HK_EVENT_TRUSTED, &bare, ei);
    if (err)
        return err;
    err = hark_event_to_json(bare, ret, ret_len);
    hark_event_unref(bare);
    return err ? hk_fail(ei, err, "no memory for a dead letter") : HARK_OK;
}

hark_err hk_dead_add(hark_store *s, const hark_store_save *v, const hark_store_dead *d,
                     hark_errinfo *ei)
{
    sqlite3_stmt *st = hk_conn_stmt(&s->conn, HK_SQL_DEAD_ADD, ei);
    char *json = NULL;
    size_t json_len = 0, len;
    const void *data = hark_event_data(d->event, &len);
    hark_err err = st ? envelope(d->event, &json, &json_len, ei) : HARK_ESTORE;
    if (err)
        return err;
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
    sqlite3_bind_text(st, 11, json, (int)json_len, SQLITE_STATIC);
    sqlite3_bind_blob64(st, 12, data, len, SQLITE_STATIC);
    err = hk_conn_run(&s->conn, st, "writing a dead letter", ei);
    sqlite3_clear_bindings(st);
    free(json);
    return err;
}
