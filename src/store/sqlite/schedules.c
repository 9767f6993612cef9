/* Schedules: events that wait for their time. A repeat is looked for in the log and among the
 * schedules when one is added; the append looks again when it is due. */
#include "store/sqlite/store_i.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Columns of HK_SQL_SCHEDULES and the other statements of that kind. */
enum { S_ID, S_DUE, S_BY_DELAY, S_CREATED, S_DIGEST, S_ENVELOPE, S_DATA };

/* ---- adding ---------------------------------------------------------------------------------- */

/* Who has this source and id, in the log or among the schedules? 0 = nobody. */
static hark_err find_first(hark_store *s, hk_sql which, const hark_store_schedule *sch,
                           uint64_t *ret, bool *ret_same, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    bool row = false;
    hark_err err = hk_conn_get(&s->conn, which, &st, ei);
    if (err)
        return err;
    hk_bind_str(st, 1, hark_event_id(sch->event));
    hk_bind_str(st, 2, hark_event_source(sch->event));
    err = hk_conn_step(&s->conn, st, &row, "looking for a repeated event", ei);
    *ret = !err && row ? (uint64_t)sqlite3_column_int64(st, 0) : 0;
    if (*ret)
        *ret_same = sch->first_stands || (sqlite3_column_bytes(st, 1) == 16 &&
                                          memcmp(sqlite3_column_blob(st, 1), sch->digest, 16) == 0);
    sqlite3_reset(st);
    return err;
}

static hark_err conflict(const hark_store_schedule *sch, const char *where, uint64_t place,
                         hark_errinfo *ei)
{
    return hk_fail(ei, HARK_ECONFLICT,
                   "an event with id %.100s and source %.100s is %s %llu with other content; give "
                   "the new event an id of its own",
                   hark_event_id(sch->event), hark_event_source(sch->event), where,
                   (unsigned long long)place);
}

static hark_err find_repeat(hark_store *s, const hark_store_schedule *sch, uint64_t *ret_sequence,
                            uint64_t *ret_schedule, hark_errinfo *ei)
{
    bool same = false;
    *ret_schedule = 0;
    hark_err err = find_first(s, HK_SQL_EVENT_OF, sch, ret_sequence, &same, ei);
    if (err || *ret_sequence)
        return err || same ? err : conflict(sch, "at sequence", *ret_sequence, ei);
    err = find_first(s, HK_SQL_SCHEDULE_OF, sch, ret_schedule, &same, ei);
    if (!err && *ret_schedule && !same)
        err = conflict(sch, "waiting in schedule", *ret_schedule, ei);
    return err;
}

static hark_err insert(hark_store *s, hark_store_schedule *sch, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    char *json = NULL;
    size_t json_len = 0, len;
    const void *data = hark_event_data(sch->event, &len);
    hark_err err = hk_append_size(s, len, ei);
    if (!err)
        err = hk_conn_get(&s->conn, HK_SQL_SCHEDULE_ADD, &st, ei);
    if (!err)
        err = hk_envelope_text(sch->event, &json, &json_len, ei);
    if (err)
        return err;
    sqlite3_bind_int64(st, 1, sch->due_ns);
    sqlite3_bind_int64(st, 2, sch->by_delay);
    sqlite3_bind_int64(st, 3, sch->created_ns);
    hk_bind_str(st, 4, hark_event_source(sch->event));
    hk_bind_str(st, 5, hark_event_id(sch->event));
    sqlite3_bind_blob(st, 6, sch->digest, sizeof sch->digest, SQLITE_STATIC);
    sqlite3_bind_text(st, 7, json, (int)json_len, SQLITE_STATIC);
    sqlite3_bind_blob64(st, 8, data, len, SQLITE_STATIC);
    err = hk_conn_run(&s->conn, st, "keeping a schedule", ei);
    sqlite3_clear_bindings(st);
    free(json);
    if (!err)
        sch->id = (uint64_t)sqlite3_last_insert_rowid(s->conn.db);
    return err;
}

hark_err hk_sqlite_schedule_add(hark_store *s, hark_store_schedule *sch, uint64_t *ret_sequence,
                                bool *ret_duplicate, hark_errinfo *ei)
{
    uint64_t sequence = 0, schedule = 0;
    if (!s->in_group)
        return hk_fail(ei, HARK_EINTERNAL, "schedule_add outside of a group");
    hark_err err = find_repeat(s, sch, &sequence, &schedule, ei);
    bool repeat = sequence || schedule;
    if (!err && !repeat)
        err = insert(s, sch, ei);
    if (err)
        return hk_group_note(s, err);
    if (repeat)
        sch->id = schedule;
    *ret_sequence = sequence;
    *ret_duplicate = repeat;
    return HARK_OK;
}

hark_err hk_sqlite_schedule_drop(hark_store *s, uint64_t id, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    if (!s->in_group)
        return hk_fail(ei, HARK_EINTERNAL, "schedule_drop outside of a group");
    hark_err err = hk_conn_get(&s->conn, HK_SQL_SCHEDULE_DROP, &st, ei);
    if (err)
        return hk_group_note(s, err);
    sqlite3_bind_int64(st, 1, (int64_t)id);
    err = hk_conn_run(&s->conn, st, "dropping a schedule", ei);
    if (!err && sqlite3_changes(s->conn.db) == 0)
        err = hk_fail(ei, HARK_ENOTFOUND,
                      "there is no schedule %llu (any more): it was published, cancelled, or never "
                      "there; list the schedules",
                      (unsigned long long)id);
    return hk_group_note(s, err);
}

/* ---- the list -------------------------------------------------------------------------------- */

/* A page has so many schedules, of about so many bytes. */
enum { PAGE = 256, PAGE_BYTES = 4 << 20 };

typedef struct list {
    uint64_t after;
    bool events, end;
    size_t bytes;
    hk_copies page;
} list;

static hark_err load_event(sqlite3_stmt *st, hark_store_schedule *sch, hark_errinfo *ei)
{
    char what[48];
    const char *json;
    const void *data;
    size_t len;
    (void)snprintf(what, sizeof what, "schedule %llu", (unsigned long long)sch->id);
    if (!hk_column_str(st, S_ENVELOPE, &json) || !hk_column_data(st, S_DATA, &data, &len))
        return hk_fail(ei, HARK_ENOMEM, "no memory for the event of %s", what);
    return hk_envelope_event(json, (size_t)sqlite3_column_bytes(st, S_ENVELOPE), data, len, what,
                             &sch->event, ei);
}

/* The row that `st` stands at; its event is the caller's to drop. */
static hark_err load(sqlite3_stmt *st, bool events, hark_store_schedule *ret, hark_errinfo *ei)
{
    *ret = (hark_store_schedule){.id = (uint64_t)sqlite3_column_int64(st, S_ID),
                                 .due_ns = sqlite3_column_int64(st, S_DUE),
                                 .by_delay = sqlite3_column_int64(st, S_BY_DELAY),
                                 .created_ns = sqlite3_column_int64(st, S_CREATED)};
    if (sqlite3_column_bytes(st, S_DIGEST) == sizeof ret->digest)
        memcpy(ret->digest, sqlite3_column_blob(st, S_DIGEST), sizeof ret->digest);
    return events ? load_event(st, ret, ei) : HARK_OK;
}

static hark_err keep(list *l, const hark_store_schedule *sch, hark_errinfo *ei)
{
    size_t len = 0;
    if (sch->event)
        (void)hark_event_data(sch->event, &len);
    l->bytes += len;
    l->after = sch->id;
    if (hk_copies_add(&l->page, sch, sizeof *sch, NULL, 0))
        return HARK_OK;
    hark_event_unref(sch->event);
    return hk_fail(ei, HARK_ENOMEM, "no memory to list the schedules");
}

static hark_err read_page(hk_reader *r, void *ud, hark_errinfo *ei)
{
    list *l = ud;
    sqlite3_stmt *st;
    hark_err err =
        hk_conn_get(&r->conn, l->events ? HK_SQL_SCHEDULES : HK_SQL_SCHEDULES_BARE, &st, ei);
    if (err)
        return err;
    sqlite3_bind_int64(st, 1, (int64_t)l->after);
    while (!err && l->page.n < PAGE && l->bytes < PAGE_BYTES) {
        hark_store_schedule sch;
        bool row = false;
        err = hk_conn_step(&r->conn, st, &row, "listing schedules", ei);
        l->end = !err && !row;
        if (err || !row)
            break;
        err = load(st, l->events, &sch, ei);
        if (!err)
            err = keep(l, &sch, ei);
    }
    sqlite3_reset(st);
    return err;
}

/* Empties the page; false: no more is wanted. */
static bool show(list *l, hark_store_schedule_fn fn, void *ud)
{
    bool more = true;
    for (size_t i = 0; i < l->page.n; i++) {
        const hark_store_schedule *sch = l->page.rows[i];
        more = more && fn(ud, sch);
        hark_event_unref(sch->event);
    }
    hk_copies_clear(&l->page);
    return more;
}

/* Page by page; what was found before an error is shown. */
static hark_err all_schedules(hark_store *s, list *l, hark_store_schedule_fn fn, void *ud,
                              hark_errinfo *ei)
{
    hark_err err = HARK_OK;
    for (bool more = true; !err && more && !l->end;) {
        l->bytes = 0;
        err = hk_reader_run(s, read_page, l, ei);
        more = show(l, fn, ud);
        if (!more)
            err = HARK_OK; /* as if they had been read one by one */
    }
    hk_copies_free(&l->page);
    return err;
}

/* The statement is at rest before `fn` runs: it may drop the schedule. */
static hark_err one_schedule(hark_store *s, uint64_t id, bool events, hark_store_schedule_fn fn,
                             void *ud, hark_errinfo *ei)
{
    hark_store_schedule sch;
    sqlite3_stmt *st;
    bool row = false;
    hark_err err = hk_conn_get(&s->conn, events ? HK_SQL_SCHEDULE : HK_SQL_SCHEDULE_BARE, &st, ei);
    if (err)
        return hk_group_note(s, err);
    sqlite3_bind_int64(st, 1, (int64_t)id);
    err = hk_group_note(s, hk_conn_step(&s->conn, st, &row, "loading a schedule", ei));
    if (!err && row) /* one that is damaged does not stand in the way of the others */
        err = load(st, events, &sch, ei);
    sqlite3_reset(st);
    if (err || !row)
        return err;
    (void)fn(ud, &sch);
    hark_event_unref(sch.event);
    return HARK_OK;
}

hark_err hk_sqlite_schedules(hark_store *s, uint64_t id, uint64_t after, bool events,
                             hark_store_schedule_fn fn, void *ud, hark_errinfo *ei)
{
    list l = {.after = after, .events = events};
    return id ? one_schedule(s, id, events, fn, ud, ei) : all_schedules(s, &l, fn, ud, ei);
}
