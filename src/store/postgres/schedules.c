/* Schedules: events that wait for their time. A repeat is looked for in the log and among the schedules when one is
 * added; the append looks again when it is due, so that this needs no lock of the log. Of several processes that would publish
 * one, the first that drops its row does. */
#include "store/postgres/ledger_i.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- adding ---------------------------------------------------------------------------------- */

static const hk_pg_sql add = {
    "schedule_add",
    "INSERT INTO @schedules(due, by_delay, created, source, event_id, digest, type, dataversion, "
    "envelope, data) VALUES($1::int8, $2::int8, $3::int8, $4::text, $5::text, $6::bytea, $7::text, "
    "$8::int8, $9::text, $10::bytea) ON CONFLICT (event_id, source) DO NOTHING RETURNING id"};
static const hk_pg_sql find = {
    "schedule_find",
    "SELECT id, digest FROM @schedules WHERE event_id = $1::text AND source = $2::text"};
static const hk_pg_sql drop_waiting = {
    "schedule_drop", "WITH d AS (DELETE FROM @schedules WHERE id = $1::int8 RETURNING 1) SELECT "
                     "(SELECT count(*) FROM d), false"};
/* Whoever holds the log must not wait for a closure that cancels a schedule and may then want the log. */
static const hk_pg_sql drop_at_once = {
    "schedule_drop_now",
    "WITH x AS MATERIALIZED (SELECT id FROM @schedules WHERE id = $1::int8 FOR UPDATE SKIP "
    "LOCKED), "
    "d AS (DELETE FROM @schedules WHERE id IN (SELECT id FROM x) RETURNING 1) SELECT (SELECT "
    "count(*) FROM d), EXISTS(SELECT 1 FROM @schedules WHERE id = $1)"};

/* A field and a message have at most 1 GiB. */
enum { DATA_MAX = 1000 << 20 };

static hark_err check_size(const hark_store_schedule *sch, hark_errinfo *ei)
{
    size_t len;
    (void)hark_event_data(sch->event, &len);
    if (HK_LIKELY(len <= DATA_MAX))
        return hk_pg_check_keys(sch->event, ei);
    return hk_fail(ei, HARK_ETOOBIG, "an event with %zu bytes of data; PostgreSQL keeps at most %d",
                   len, DATA_MAX);
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

static bool is_same(const hark_store_schedule *sch, const void *digest, size_t len)
{
    return sch->first_stands ||
           (len == sizeof sch->digest && memcmp(digest, sch->digest, len) == 0);
}

/* The event itself, in the log or in this group; 0 = it is in neither. */
static hark_err find_event(hark_store *s, const hark_store_schedule *sch, uint64_t *ret,
                           hark_errinfo *ei)
{
    uint8_t digest[16];
    hark_err err = hk_pg_event_of(s, hark_event_source(sch->event), hark_event_id(sch->event), ret,
                                  digest, ei);
    if (!err && *ret && !is_same(sch, digest, sizeof digest))
        err = conflict(sch, "at sequence", *ret, ei);
    return err;
}

/* 0 = there is another schedule with this source and id. */
static hark_err insert(hark_store *s, const hark_store_schedule *sch, uint64_t *ret,
                       hark_errinfo *ei)
{
    hk_pg_args args = {.n = 0};
    PGresult *r = NULL;
    char *json;
    size_t json_len, len;
    const void *data = hark_event_data(sch->event, &len);
    hark_err err = hk_envelope_text(sch->event, &json, &json_len, ei);
    if (err)
        return err;
    hk_pg_int(&args, sch->due_ns);
    hk_pg_int(&args, sch->by_delay);
    hk_pg_int(&args, sch->created_ns);
    hk_pg_text(&args, hark_event_source(sch->event));
    hk_pg_text(&args, hark_event_id(sch->event));
    hk_pg_blob(&args, sch->digest, sizeof sch->digest);
    hk_pg_text(&args, hark_event_type(sch->event));
    hk_pg_int(&args, hark_event_dataversion(sch->event));
    hk_pg_text_n(&args, json, json_len);
    hk_pg_blob(&args, data, len);
    err = hk_pg_run(&s->w, &add, &args, &r, "keeping a schedule", ei);
    free(json);
    if (!err)
        *ret = PQntuples(r) ? (uint64_t)hk_pg_get_int(r, 0, 0) : 0;
    PQclear(r);
    return err;
}

/* 0 = it was published or cancelled meanwhile. */
static hark_err find_other(hark_store *s, const hark_store_schedule *sch, uint64_t *ret,
                           hark_errinfo *ei)
{
    hk_pg_args args = {.n = 0};
    PGresult *r = NULL;
    size_t len = 0;
    hk_pg_text(&args, hark_event_id(sch->event));
    hk_pg_text(&args, hark_event_source(sch->event));
    hark_err err = hk_pg_run(&s->w, &find, &args, &r, "looking for a repeated event", ei);
    *ret = 0;
    if (!err && PQntuples(r) > 0) {
        *ret = (uint64_t)hk_pg_get_int(r, 0, 0);
        const void *digest = hk_pg_get_blob(r, 0, 1, &len);
        if (!is_same(sch, digest, len))
            err = conflict(sch, "waiting in schedule", *ret, ei);
    }
    PQclear(r);
    return err;
}

static hark_err put_schedule(hark_store *s, hark_store_schedule *sch, uint64_t *ret_sequence,
                             bool *ret_duplicate, hark_errinfo *ei)
{
    enum { TRIES = 3 };
    uint64_t sequence = 0, added = 0, other = 0;
    hark_err err = hk_pg_enter(s, "schedule_add", ei);
    for (int i = 0; i < TRIES && !err && !sequence && !added && !other; i++) {
        err = find_event(s, sch, &sequence, ei);
        if (!err && !sequence)
            err = check_size(sch, ei);
        if (!err && !sequence)
            err = insert(s, sch, &added, ei);
        if (!err && !sequence && !added)
            err = find_other(s, sch, &other, ei);
    }
    if (!err && !sequence && !added && !other)
        err = hk_fail(ei, HARK_ESTORE, "%s: schedules of this event come and go; try again",
                      s->where);
    if (err)
        return err;
    if (added) {
        hk_pg_tx_wrote(s);
        s->tell_schedules = true;
    }
    sch->id = added ? added : other;
    *ret_sequence = sequence;
    *ret_duplicate = !added;
    return HARK_OK;
}

hark_err hk_pg_schedule_add(hark_store *s, hark_store_schedule *sch, uint64_t *ret_sequence,
                            bool *ret_duplicate, hark_errinfo *ei)
{
    hark_errinfo own;
    ei = ei ? ei : &own;
    return hk_pg_tx_note(s, put_schedule(s, sch, ret_sequence, ret_duplicate, ei), ei);
}

static hark_err drop_schedule(hark_store *s, uint64_t id, hark_errinfo *ei)
{
    hk_pg_args args = {.n = 0};
    PGresult *r = NULL;
    hark_err err =
        s->tx.open ? hk_pg_enter(s, "schedule_drop", ei) : hk_pg_log_take(s, "schedule_drop", ei);
    if (err)
        return err;
    hk_pg_int(&args, (int64_t)id);
    err = hk_pg_run(&s->w, s->log == HK_PG_HELD ? &drop_at_once : &drop_waiting, &args, &r,
                    "dropping a schedule", ei);
    bool dropped = !err && hk_pg_get_int(r, 0, 0), busy = !err && hk_pg_get_int(r, 0, 1);
    PQclear(r);
    if (!err && !dropped && busy)
        err = hk_fail(ei, HARK_ELOCKED,
                      "schedule %llu is being cancelled in a transaction this moment; look again "
                      "when that is over",
                      (unsigned long long)id);
    else if (!err && !dropped)
        err = hk_fail(ei, HARK_ENOTFOUND,
                      "there is no schedule %llu (any more): it was published, cancelled, or never "
                      "there; list the schedules",
                      (unsigned long long)id);
    if (!err)
        hk_pg_tx_wrote(s);
    return err;
}

hark_err hk_pg_schedule_drop(hark_store *s, uint64_t id, hark_errinfo *ei)
{
    hark_errinfo own;
    ei = ei ? ei : &own;
    return hk_pg_tx_note(s, drop_schedule(s, id, ei), ei);
}

/* ---- the list -------------------------------------------------------------------------------- */

#define BARE "id, due, by_delay, created, digest"
#define FULL BARE ", envelope, data"

/* A page has so many schedules, of about so many bytes of data; the server counts them without reading them. */
enum { PAGE = 256, PAGE_BYTES = 4 << 20 };

static const hk_pg_sql one_bare = {"schedule_bare",
                                   "SELECT " BARE " FROM @schedules WHERE id = $1::int8"};
static const hk_pg_sql one_full = {"schedule",
                                   "SELECT " FULL " FROM @schedules WHERE id = $1::int8"};
static const hk_pg_sql page_bare = {"schedules_bare",
                                    "SELECT " BARE " FROM @schedules WHERE id > $1::int8 "
                                    "ORDER BY id LIMIT $2::int8"};
static const hk_pg_sql page_full = {
    "schedules",
    "SELECT " FULL " FROM (SELECT " FULL ", coalesce(sum(octet_length(data)) OVER (ORDER BY id "
    "ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before FROM (SELECT " FULL
    " FROM @schedules WHERE id > $1::int8 ORDER BY id LIMIT $2::int8) p) q "
    "WHERE before < $3::int8 ORDER BY id"};
enum { S_ID, S_DUE, S_BY_DELAY, S_CREATED, S_DIGEST, S_ENVELOPE, S_DATA };

static hark_err load_event(const PGresult *r, int row, hark_store_schedule *sch, hark_errinfo *ei)
{
    char what[48];
    size_t len, data_len;
    const char *json = hk_pg_get_text(r, row, S_ENVELOPE, &len);
    const void *data = hk_pg_get_blob(r, row, S_DATA, &data_len);
    (void)snprintf(what, sizeof what, "schedule %llu", (unsigned long long)sch->id);
    return hk_envelope_event(json, len, data, data_len, what, &sch->event, ei);
}

/* Shows a row; *ret_more false: no more is wanted. */
static hark_err show(const PGresult *r, int row, bool events, hark_store_schedule_fn fn, void *ud,
                     bool *ret_more, hark_errinfo *ei)
{
    size_t len = 0;
    const void *digest = hk_pg_get_blob(r, row, S_DIGEST, &len);
    hark_store_schedule sch = {.id = (uint64_t)hk_pg_get_int(r, row, S_ID),
                               .due_ns = hk_pg_get_int(r, row, S_DUE),
                               .by_delay = hk_pg_get_int(r, row, S_BY_DELAY),
                               .created_ns = hk_pg_get_int(r, row, S_CREATED)};
    if (len == sizeof sch.digest)
        memcpy(sch.digest, digest, len);
    hark_err err = events ? load_event(r, row, &sch, ei) : HARK_OK;
    if (err)
        return err;
    *ret_more = fn(ud, &sch);
    hark_event_unref(sch.event);
    return HARK_OK;
}

typedef struct list {
    uint64_t after;
    bool events;
    PGresult *page;
} list;

static hark_err read_page(hk_pg *c, void *ud, hark_errinfo *ei)
{
    list *l = ud;
    hk_pg_args args = {.n = 0};
    hk_pg_int(&args, (int64_t)l->after);
    hk_pg_int(&args, PAGE);
    if (l->events)
        hk_pg_int(&args, PAGE_BYTES);
    return hk_pg_run(c, l->events ? &page_full : &page_bare, &args, &l->page, "listing schedules",
                     ei);
}

/* Page by page, until one is empty; what was found before an error is shown. */
static hark_err all_schedules(hark_store *s, list *l, hark_store_schedule_fn fn, void *ud,
                              hark_errinfo *ei)
{
    hark_err err = HARK_OK;
    for (bool more = true; !err && more;) {
        l->page = NULL;
        err = hk_pg_reader_run(s, read_page, l, ei);
        int n = err ? 0 : PQntuples(l->page);
        for (int i = 0; i < n && !err && more; i++)
            err = show(l->page, i, l->events, fn, ud, &more, ei);
        if (n > 0)
            l->after = (uint64_t)hk_pg_get_int(l->page, n - 1, S_ID);
        more &= n > 0;
        PQclear(l->page);
    }
    return err;
}

/* The connection is at rest before `fn` runs: it may drop the schedule. */
static hark_err one_schedule(hark_store *s, uint64_t id, bool events, hark_store_schedule_fn fn,
                             void *ud, hark_errinfo *ei)
{
    hk_pg_args args = {.n = 0};
    PGresult *r = NULL;
    bool more;
    hark_errinfo own;
    ei = ei ? ei : &own;
    hark_err err = s->in_group ? hk_pg_enter(s, "schedules", ei) : hk_pg_writer(s, ei);
    if (err)
        return err;
    hk_pg_int(&args, (int64_t)id);
    err = hk_pg_run(&s->w, events ? &one_full : &one_bare, &args, &r, "loading a schedule", ei);
    err = hk_pg_tx_note(s, err, ei);
    if (!err && PQntuples(r) > 0)
        err = show(r, 0, events, fn, ud, &more, ei);
    PQclear(r);
    return err;
}

/* ---- those that are due ------------------------------------------------------------------------- */

/* And one more, for how long it will take. */
static const hk_pg_sql due_next = {
    "schedules_due",
    "SELECT s.*, n.now FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8 * 1000 "
    "AS now OFFSET 0) n CROSS JOIN LATERAL (SELECT " BARE " FROM @schedules ORDER BY due, id LIMIT "
    "$1::int8) s ORDER BY s.due, s.id"};
enum { S_NOW = S_DIGEST + 1 };

typedef struct dues {
    size_t most;
    PGresult *r;
} dues;

static hark_err read_dues(hk_pg *c, void *ud, hark_errinfo *ei)
{
    dues *d = ud;
    hk_pg_args args = {.n = 0};
    hk_pg_int(&args, d->most < INT32_MAX ? (int64_t)d->most + 1 : INT32_MAX);
    return hk_pg_run(c, &due_next, &args, &d->r, "looking for due schedules", ei);
}

hark_err hk_pg_schedules_due(hark_store *s, int64_t ahead_ns, size_t most,
                             hark_store_schedule_fn fn, void *ud, int64_t *ret_next_ns,
                             hark_errinfo *ei)
{
    dues d = {.most = most};
    bool more = true;
    int i = 0;
    hark_err err = hk_pg_reader_run(s, read_dues, &d, ei);
    int n = err ? 0 : PQntuples(d.r);
    for (; !err && more && i < n && (size_t)i < most; i++) {
        if (hk_pg_get_int(d.r, i, S_DUE) - ahead_ns > hk_pg_get_int(d.r, i, S_NOW))
            break;
        err = show(d.r, i, false, fn, ud, &more, ei);
    }
    if (!err) {
        int64_t left = i < n ? hk_pg_get_int(d.r, i, S_DUE) - hk_pg_get_int(d.r, i, S_NOW) : -1;
        *ret_next_ns = i < n && left < 0 ? 0 : left;
    }
    PQclear(d.r);
    return err;
}

hark_err hk_pg_schedules(hark_store *s, uint64_t id, uint64_t after, bool events,
                         hark_store_schedule_fn fn, void *ud, hark_errinfo *ei)
{
    list l = {.after = after, .events = events};
    return id ? one_schedule(s, id, events, fn, ud, ei) : all_schedules(s, &l, fn, ud, ei);
}
