/* Who has yet to see what retention wants to remove? A consumer whose pattern matches holds what is above its floor, which is
 * the lowest of its shares, and whatever its pattern is now, every event that it has as an open row. When it is forced nothing is held: those who
 * miss something get a gap, kept until it was handed out, and lose their open rows there, but for those whose dead
 * letters have their own copy: heads of parked lanes, and what is being redriven. */
#include "store/postgres/trim_i.h"

#include "event/event.h"

#include <stdlib.h>
#include <string.h>

static const hk_pg_sql load = {
    "trim_consumers",
    "SELECT c.id, c.pattern, h.floor, c.shares, c.name FROM @consumers c CROSS JOIN LATERAL "
    "(SELECT min(s.floor) AS floor FROM @shares s WHERE s.consumer_id = c.id) h WHERE h.floor + 1 "
    "< "
    "$1::int8 OR EXISTS(SELECT 1 FROM @shares s CROSS JOIN LATERAL (SELECT 1 FROM @deliveries r "
    "WHERE r.consumer_id = c.id AND r.share = s.share AND r.seq < $1 LIMIT 1) x WHERE "
    "s.consumer_id = c.id)"};
/* A reset, which locks it otherwise, waits: it would set the floor back meanwhile. */
static const hk_pg_sql keep_all = {"trim_keep",
                                   "SELECT 1 FROM @consumers ORDER BY id FOR KEY SHARE"};
static const hk_pg_sql load_shares = {
    "trim_shares", "SELECT share, floor, settled FROM @shares WHERE consumer_id = $1::int8"};
static const hk_pg_sql rows = {
    "trim_rows",
    "SELECT r.seq, r.consumer_id, r.state, r.share, r.state = 4 OR (SELECT 1 FROM @dead_letters d "
    "WHERE "
    "d.consumer_id = r.consumer_id AND d.seq = r.seq AND d.state = 2 LIMIT 1) IS NOT NULL FROM "
    "unnest($1::int8[]) x(id) JOIN @shares s ON s.consumer_id = x.id CROSS JOIN LATERAL (SELECT * "
    "FROM @deliveries r WHERE r.consumer_id = x.id AND r.share = s.share AND r.seq >= $2::int8 AND "
    "r.seq <= $3::int8 OFFSET 0) r ORDER BY r.seq"};
static const hk_pg_sql save_gap = {
    "trim_gap",
    "WITH old AS (DELETE FROM @gaps WHERE consumer_id = $1::int8 AND first <> least((SELECT "
    "min(first) FROM @gaps WHERE consumer_id = $1), $2::int8)) INSERT INTO @gaps AS g(consumer_id, "
    "first, last) SELECT $1, least(min(first), $2), greatest(max(last), $3::int8) FROM @gaps WHERE "
    "consumer_id = $1 ON CONFLICT (consumer_id, first) DO UPDATE SET last = excluded.last"};

/* ---- loading ----------------------------------------------------------------------------------- */

static hark_err no_memory(const hk_pg_trimming *w, hark_errinfo *ei)
{
    return hk_fail(ei, HARK_ENOMEM, "no memory to remove events of %s", w->t->pattern);
}

static hark_err damaged(const hk_pg_trimming *w, const char *name, hark_errinfo *ei)
{
    return hk_fail(ei, HARK_ECORRUPT,
                   "%s: the state of consumer %s is damaged; restore it from a backup", w->s->where,
                   name);
}

static hark_err take_share(const PGresult *r, int row, hk_pg_holder *h)
{
    size_t len;
    const uint8_t *bytes = hk_pg_get_blob(r, row, 2, &len);
    uint64_t share = (uint64_t)hk_pg_get_int(r, row, 0);
    if (share >= h->n_shares)
        return HARK_ECORRUPT;
    hk_pg_held *to = &h->shares[share];
    to->floor = (uint64_t)hk_pg_get_int(r, row, 1);
    return len ? hk_ranges_decode(to->floor, bytes, len, &to->settled, &to->n_settled) : HARK_OK;
}

static hark_err load_shares_of(hk_pg_trimming *w, hk_pg_holder *h, const char *name,
                               hark_errinfo *ei)
{
    hk_pg_args args = {0};
    PGresult *r = NULL;
    hk_pg_int(&args, (int64_t)h->id);
    h->shares = calloc(h->n_shares ? h->n_shares : 1, sizeof *h->shares);
    if (!h->shares)
        return no_memory(w, ei);
    if (h->n_shares == 0)
        return damaged(w, name, ei);
    hark_err err = hk_pg_run(&w->s->w, &load_shares, &args, &r, "loading a consumer", ei);
    hark_err of_it = HARK_OK;
    for (int i = 0; !err && !of_it && i < PQntuples(r); i++)
        of_it = take_share(r, i, h);
    PQclear(r);
    if (err || !of_it)
        return err;
    return of_it == HARK_ENOMEM ? no_memory(w, ei) : damaged(w, name, ei);
}

static hark_err add_holder(hk_pg_trimming *w, const PGresult *r, int row, hark_errinfo *ei)
{
    hk_pg_holder *list = hk_array_room(w->holders, w->n_holders, &w->cap_holders, 16, sizeof *list);
    if (!list)
        return no_memory(w, ei);
    w->holders = list;
    hk_pg_holder *h = &list[w->n_holders++];
    *h = (hk_pg_holder){.id = (uint64_t)hk_pg_get_int(r, row, 0),
                        .floor = (uint64_t)hk_pg_get_int(r, row, 2),
                        .n_shares = (uint32_t)hk_pg_get_int(r, row, 3),
                        .pattern = hk_strdup(hk_pg_get_text(r, row, 1, NULL))};
    hk_pg_array_int(&w->ids, (int64_t)h->id);
    if (!h->pattern)
        return no_memory(w, ei);
    return w->t->force ? load_shares_of(w, h, hk_pg_get_text(r, row, 4, NULL), ei) : HARK_OK;
}

/* Most consumers are past the limit and have no rows; they hold nothing. */
hark_err hk_pg_holders_load(hk_pg_trimming *w, hark_errinfo *ei)
{
    hk_pg_args args = {0};
    PGresult *r = NULL;
    hk_pg_int(&args, (int64_t)w->limit);
    hark_err err = hk_pg_send(&w->s->w, &keep_all, NULL, ei);
    if (!err)
        err = hk_pg_run(&w->s->w, &load, &args, &r, "looking who has yet to see events", ei);
    for (int i = 0; !err && i < PQntuples(r); i++)
        err = add_holder(w, r, i, ei);
    PQclear(r);
    return err;
}

void hk_pg_holders_free(hk_pg_trimming *w)
{
    for (size_t i = 0; i < w->n_holders; i++) {
        free(w->holders[i].pattern);
        for (uint32_t j = 0; w->holders[i].shares && j < w->holders[i].n_shares; j++)
            free(w->holders[i].shares[j].settled);
        free(w->holders[i].shares);
    }
    free(w->holders);
}

uint64_t hk_pg_holders_limit(const hk_pg_trimming *w, const char *type)
{
    uint64_t limit = w->limit;
    for (size_t i = 0; i < w->n_holders && !w->t->force; i++) {
        const hk_pg_holder *h = &w->holders[i];
        if (h->floor + 1 < limit && hark_pattern_match(h->pattern, type))
            limit = h->floor + 1;
    }
    return limit;
}

/* ---- the rows in the way ----------------------------------------------------------------------- */

/* What a consumer has of an event. */
typedef enum mark {
    NO_ROW,
    OPEN,
    COPIED, /* open, and a dead letter has the event */
    ACKED   /* the row says that it is settled */
} mark;

static mark mark_of(const PGresult *r, int row)
{
    if (hk_pg_get_int(r, row, 2) == HK_ROW_SETTLED)
        return ACKED;
    return hk_pg_get_int(r, row, 4) ? COPIED : OPEN;
}

/* The rows of one event lie in one stretch of the result. */
typedef struct stretch {
    const PGresult *r;
    int from, to;
} stretch;

static void move_to(stretch *st, uint64_t seq)
{
    int n = PQntuples(st->r);
    for (st->from = st->to; st->from < n && (uint64_t)hk_pg_get_int(st->r, st->from, 0) < seq;)
        st->from++;
    for (st->to = st->from; st->to < n && (uint64_t)hk_pg_get_int(st->r, st->to, 0) == seq;)
        st->to++;
}

static mark mark_for(const stretch *st, uint64_t consumer)
{
    for (int i = st->from; i < st->to; i++)
        if ((uint64_t)hk_pg_get_int(st->r, i, 1) == consumer)
            return mark_of(st->r, i);
    return NO_ROW;
}

static bool is_held(const stretch *st)
{
    for (int i = st->from; i < st->to; i++)
        if (mark_of(st->r, i) != ACKED)
            return true;
    return false;
}

/* ---- forcing ----------------------------------------------------------------------------------- */

static bool has_settled(const hk_pg_holder *h, const hk_pg_old *e)
{
    const hk_pg_held *x = &h->shares[hark_store_share_of(e->key, e->seq, h->n_shares)];
    return e->seq <= x->floor || hk_ranges_have(x->settled, x->n_settled, e->seq);
}

static void look_for_misses(hk_pg_trimming *w, const stretch *st, const hk_pg_old *e)
{
    for (size_t i = 0; i < w->n_holders; i++) {
        hk_pg_holder *h = &w->holders[i];
        mark m = mark_for(st, h->id);
        if (m != OPEN &&
            (m == ACKED || has_settled(h, e) || !hark_pattern_match(h->pattern, e->type)))
            continue;
        if (h->first == 0)
            h->first = e->seq;
        h->last = e->seq;
    }
}

static void drop_open(hk_pg_trimming *w, const stretch *st, uint64_t seq)
{
    for (int i = st->from; i < st->to; i++)
        if (mark_of(st->r, i) == OPEN) {
            hk_pg_array_int(&w->rows_of, hk_pg_get_int(st->r, i, 1));
            hk_pg_array_int(&w->rows_in, hk_pg_get_int(st->r, i, 3));
            hk_pg_array_int(&w->rows_at, (int64_t)seq);
        }
}

static hark_store_gap *gap_of(hk_pg_trimming *w, const hk_pg_holder *h)
{
    for (size_t i = 0; i < w->t->ret_n_gaps; i++)
        if (w->t->gaps[i].consumer == h->id)
            return &w->t->gaps[i];
    return NULL;
}

static void tell(hk_pg_trimming *w, const hk_pg_holder *h)
{
    hark_store_gap *gap = gap_of(w, h);
    if (!gap) {
        gap = &w->t->gaps[w->t->ret_n_gaps++];
        *gap = (hark_store_gap){.consumer = h->id, .from = h->first, .to = h->last};
    }
    gap->from = h->first < gap->from ? h->first : gap->from;
    gap->to = h->last > gap->to ? h->last : gap->to;
}

static hark_err tell_all(hk_pg_trimming *w, bool *ret_room, hark_errinfo *ei)
{
    size_t more = 0;
    for (size_t i = 0; i < w->n_holders; i++)
        more += w->holders[i].first && !gap_of(w, &w->holders[i]);
    *ret_room = w->t->ret_n_gaps + more <= w->t->cap_gaps;
    if (!*ret_room && w->t->ret_n_gaps == 0 && w->t->ret_removed == 0)
        return hk_fail(ei, HARK_EINVAL, "room for %zu gaps, and %zu consumers have one",
                       w->t->cap_gaps, more);
    for (size_t i = 0; i < w->n_holders && *ret_room; i++)
        if (w->holders[i].first)
            tell(w, &w->holders[i]);
    return HARK_OK;
}

/* ---- judging ----------------------------------------------------------------------------------- */

static hark_err judge(hk_pg_trimming *w, const hk_pg_old *old, size_t n, const PGresult *r,
                      bool *ret_room, hark_errinfo *ei)
{
    stretch st = {.r = r};
    for (size_t i = 0; i < w->n_holders; i++)
        w->holders[i].first = w->holders[i].last = 0;
    for (size_t i = 0; i < n; i++) {
        move_to(&st, old[i].seq);
        if (w->t->force) {
            look_for_misses(w, &st, &old[i]);
            drop_open(w, &st, old[i].seq);
        } else if (is_held(&st)) {
            continue;
        }
        hk_pg_array_int(&w->gone, (int64_t)old[i].seq);
    }
    return w->t->force ? tell_all(w, ret_room, ei) : HARK_OK;
}

hark_err hk_pg_holders_judge(hk_pg_trimming *w, const hk_pg_old *old, size_t n, bool *ret_room,
                             hark_errinfo *ei)
{
    hk_pg_args args = {0};
    PGresult *r = NULL;
    *ret_room = true;
    hk_pg_array_clear(&w->gone);
    hk_pg_array_clear(&w->rows_of);
    hk_pg_array_clear(&w->rows_in);
    hk_pg_array_clear(&w->rows_at);
    hark_err err = hk_pg_arg_array(&args, &w->ids, ei);
    hk_pg_int(&args, (int64_t)old[0].seq);
    hk_pg_int(&args, (int64_t)old[n - 1].seq);
    if (!err)
        err = hk_pg_run(&w->s->w, &rows, &args, &r, "looking for open rows", ei);
    if (!err)
        err = judge(w, old, n, r, ret_room, ei);
    PQclear(r);
    return err;
}

hark_err hk_pg_holders_save_gaps(hk_pg_trimming *w, hark_errinfo *ei)
{
    hark_err err = HARK_OK;
    for (size_t i = 0; i < w->t->ret_n_gaps && !err; i++) {
        const hark_store_gap *g = &w->t->gaps[i];
        hk_pg_args args = {0};
        hk_pg_int(&args, (int64_t)g->consumer);
        hk_pg_int(&args, (int64_t)g->from);
        hk_pg_int(&args, (int64_t)g->to);
        err = hk_pg_send(&w->s->w, &save_gap, &args, ei);
    }
    return err;
}
