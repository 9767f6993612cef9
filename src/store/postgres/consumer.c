/* Registers consumers and tells how they are registered. All of it runs in the writer's transaction, so a
 * new consumer's start is resolved against the log as this group leaves it. Their state comes with their shares (claim.c);
 * what operators do with consumers is in admin.c, what the delivery core saves in ledger.c. */
#include "store/postgres/ledger_i.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* hark_store_consumer.start, the values of hark_start in <hark/bus.h>. */
enum { START_NOW, START_FIRST, START_SEQUENCE, START_TIME };

/* Recorded times never decrease with the sequence. */
static const hk_pg_sql first_at = {
    "consumer_first_at",
    "SELECT min(seq) FROM @events WHERE recorded = (SELECT min(recorded) FROM @events WHERE "
    "recorded >= $1::int8)"};
static const hk_pg_sql first = {"consumer_first", "SELECT min(seq) FROM @events"};

/* What the group has inserted may be beyond what the log's row says so far. */
static const hk_pg_sql end = {"consumer_end",
                              "SELECT greatest(last, (SELECT max(seq) FROM @events)) FROM @log"};

static const hk_pg_sql find = {
    "consumer_find",
    "SELECT c.id, c.pattern, c.policy, c.generation, h.floor, h.highest, c.shares, c.paused, "
    "c.rerun_id, c.rerun_from, c.rerun_upto, c.rerun_rate, c.rerun_started, c.rerun_settled, "
    "(SELECT min(g.first) FROM @gaps g WHERE g.consumer_id = c.id), "
    "(SELECT max(g.last) FROM @gaps g WHERE g.consumer_id = c.id) "
    "FROM @consumers c CROSS JOIN LATERAL (SELECT min(s.floor) AS floor, max(s.highest) AS highest "
    "FROM @shares s WHERE s.consumer_id = c.id) h WHERE c.name = $1::text"};
enum {
    C_ID,
    C_PATTERN,
    C_POLICY,
    C_GENERATION,
    C_FLOOR,
    C_HIGHEST,
    C_SHARES,
    C_PAUSED,
    C_RERUN,
    C_GAP = C_RERUN + 6
};

/* The share before its rows: what is saved between the two is then told as not settled yet, never as settled too early. */
static const hk_pg_sql share = {
    "consumer_share", "SELECT floor, highest, settled FROM @shares WHERE consumer_id = $1::int8 "
                      "AND share = $2::int8"};
enum { S_FLOOR, S_HIGHEST, S_SETTLED };
static const hk_pg_sql deliveries = {"consumer_deliveries",
                                     "SELECT " HK_PG_DELIVERY " FROM @deliveries WHERE consumer_id "
                                     "= $1::int8 AND share = $2::int8 ORDER BY seq"};
enum { D_SEQ, D_STATE, D_ATTEMPTS, D_CRASHES, D_INTERRUPTIONS, D_DUE, D_FIRST, D_KEY, D_ERROR };

/* Of two processes that register it at once, the second waits for the first, and loads what that registered. */
static const hk_pg_sql add_one = {
    "consumer_add",
    "INSERT INTO @consumers(name, pattern, policy, start, start_sequence, start_time, created, "
    "generation, shares, paused) VALUES($1::text, $2::text, $3::text, $4::int8, $5::int8, "
    "$6::int8, $7::int8, 1, ($8::int8)::int4, false) ON CONFLICT (name) DO NOTHING RETURNING id"};
/* Tokens from 1: no share is anybody's who has none. */
static const hk_pg_sql add_shares = {
    "consumer_add_shares",
    "INSERT INTO @shares(consumer_id, share, token, floor, highest) SELECT $1::int8, g, 1, "
    "$2::int8, $2::int8 FROM generate_series(0, ($3::int8)::int4 - 1) g"};
static const hk_pg_sql update_one = {
    "consumer_update",
    "UPDATE @consumers SET pattern = $2::text, policy = $3::text WHERE id = $1::int8"};

/* ---- where it starts ------------------------------------------------------------------------- */

/* The first event, or the first at a time; 0 = there is none. */
static hark_err find_first(hark_store *s, const hk_pg_start *at, uint64_t *ret, hark_errinfo *ei)
{
    hk_pg_args args = {0};
    PGresult *r = NULL;
    bool by_time = at->start == START_TIME;
    hark_err err = hk_pg_append_flush(s, ei);
    if (by_time)
        hk_pg_int(&args, at->time_ns);
    if (!err)
        err = hk_pg_run(&s->w, by_time ? &first_at : &first, &args, &r,
                        "looking for a consumer's start", ei);
    *ret = err ? 0 : (uint64_t)hk_pg_get_int(r, 0, 0);
    PQclear(r);
    return err;
}

/* The log's end, with what this group appends. */
static hark_err find_end(hark_store *s, uint64_t *ret, hark_errinfo *ei)
{
    PGresult *r = NULL;
    hark_err err = hk_pg_append_flush(s, ei);
    if (!err)
        err = hk_pg_run(&s->w, &end, NULL, &r, "looking for the log's end", ei);
    if (!err)
        *ret = (uint64_t)hk_pg_get_int(r, 0, 0);
    PQclear(r);
    return err;
}

hark_err hk_pg_start_floor(hark_store *s, const hk_pg_start *at, uint64_t *ret, hark_errinfo *ei)
{
    uint64_t begin = 0;
    hark_err err;
    switch (at->start) {
    case START_NOW:
        return find_end(s, ret, ei);
    case START_SEQUENCE:
        if (at->sequence > HARK_SEQ_MAX)
            return hk_fail(
                ei, HARK_EINVAL,
                "consumer %s: start_sequence %llu is over 2^53 - 1, the highest that there can be",
                at->name, (unsigned long long)at->sequence);
        *ret = at->sequence ? at->sequence - 1 : 0;
        return HARK_OK;
    case START_FIRST:
    case START_TIME:
        err = find_first(s, at, &begin, ei);
        if (err || !begin)
            return err ? err : find_end(s, ret, ei);
        *ret = begin - 1;
        return HARK_OK;
    default:
        return hk_fail(ei, HARK_EINVAL,
                       "consumer %s: start %lld is not a hark_start; give one of <hark/bus.h>",
                       at->name, (long long)at->start);
    }
}

static hark_err no_memory(const hark_store_consumer *c, hark_errinfo *ei)
{
    return hk_fail(ei, HARK_ENOMEM, "no memory for the state of consumer %s", c->name);
}

static hark_err insert(hark_store *s, const hark_store_consumer *c, uint64_t *ret_id,
                       hark_errinfo *ei)
{
    hk_pg_args args = {0};
    PGresult *r = NULL;
    hk_pg_text(&args, c->name);
    hk_pg_text(&args, c->pattern);
    hk_pg_text(&args, c->policy);
    hk_pg_int(&args, c->start);
    hk_pg_int(&args, (int64_t)c->start_sequence);
    hk_pg_int(&args, c->start_time_ns);
    hk_pg_int(&args, hk_wall_ns());
    hk_pg_int(&args, HK_PG_SHARES);
    hark_err err = hk_pg_run(&s->w, &add_one, &args, &r, "registering a consumer", ei);
    if (!err)
        *ret_id = PQntuples(r) > 0 ? (uint64_t)hk_pg_get_int(r, 0, 0) : 0;
    PQclear(r);
    return err;
}

static hark_err insert_shares(hark_store *s, uint64_t id, uint64_t floor, hark_errinfo *ei)
{
    hk_pg_args args;
    hk_pg_head(&args, id, floor);
    hk_pg_int(&args, HK_PG_SHARES);
    return hk_pg_run(&s->w, &add_shares, &args, NULL, "registering a consumer", ei);
}

/* *ret_added false: another process was faster. */
static hark_err add(hark_store *s, hark_store_consumer *c, bool *ret_added, hark_errinfo *ei)
{
    uint64_t floor = 0, id = 0;
    hk_pg_start at = {c->name, c->start, c->start_sequence, c->start_time_ns};
    hark_err err = hk_pg_start_floor(s, &at, &floor, ei);
    if (!err)
        err = insert(s, c, &id, ei);
    *ret_added = id != 0;
    if (err || !id)
        return err;
    err = insert_shares(s, id, floor, ei);
    s->saves.tell = true;
    c->ret_id = id;
    c->ret_created = 1;
    c->ret_generation = 1;
    c->ret_shares = HK_PG_SHARES;
    c->ret_floor = c->ret_highest = floor;
    c->ret_pattern = hk_strdup(c->pattern);
    c->ret_policy = hk_strdup(c->policy);
    if (err)
        return err;
    return c->ret_pattern && c->ret_policy ? HARK_OK : no_memory(c, ei);
}

/* ---- its state ------------------------------------------------------------------------------- */

void hk_pg_get_rerun(const PGresult *r, int row, int col, hark_store_rerun *ret)
{
    const char *id = hk_pg_get_text(r, row, col, NULL);
    *ret = (hark_store_rerun){.from = (uint64_t)hk_pg_get_int(r, row, col + 1),
                              .upto = (uint64_t)hk_pg_get_int(r, row, col + 2),
                              .rate = hk_pg_get_int(r, row, col + 3),
                              .started_ns = hk_pg_get_int(r, row, col + 4),
                              .settled = (uint64_t)hk_pg_get_int(r, row, col + 5)};
    if (id)
        (void)snprintf(ret->id, sizeof ret->id, "%s", id);
}

static hark_err damaged(const hark_store *s, const hark_store_consumer *c, hark_errinfo *ei)
{
    return hk_fail(ei, HARK_ECORRUPT,
                   "%s: the state of consumer %s is damaged; restore the database from a backup",
                   s->where, c->name);
}

static void load_state(const PGresult *r, hark_store_consumer *c)
{
    c->ret_created = 0;
    c->ret_id = (uint64_t)hk_pg_get_int(r, 0, C_ID);
    c->ret_generation = (uint64_t)hk_pg_get_int(r, 0, C_GENERATION);
    c->ret_floor = (uint64_t)hk_pg_get_int(r, 0, C_FLOOR);
    c->ret_highest = (uint64_t)hk_pg_get_int(r, 0, C_HIGHEST);
    c->ret_shares = (uint32_t)hk_pg_get_int(r, 0, C_SHARES);
    c->ret_paused = hk_pg_get_int(r, 0, C_PAUSED);
    c->ret_gap_from = (uint64_t)hk_pg_get_int(r, 0, C_GAP);
    c->ret_gap_to = (uint64_t)hk_pg_get_int(r, 0, C_GAP + 1);
    hk_pg_get_rerun(r, 0, C_RERUN, &c->ret_rerun);
}

/* Copies a column's text; false when memory is out. */
static bool copy_text(const PGresult *r, int row, int col, const char **ret)
{
    const char *s = hk_pg_get_text(r, row, col, NULL);
    *ret = hk_strdup(s);
    return *ret || !s;
}

bool hk_pg_get_delivery(const PGresult *r, int row, int col, hark_store_row *ret)
{
    *ret = (hark_store_row){.sequence = (uint64_t)hk_pg_get_int(r, row, col + D_SEQ),
                            .state = hk_pg_get_int(r, row, col + D_STATE),
                            .attempts = hk_pg_get_int(r, row, col + D_ATTEMPTS),
                            .crashes = hk_pg_get_int(r, row, col + D_CRASHES),
                            .interruptions = hk_pg_get_int(r, row, col + D_INTERRUPTIONS),
                            .due_ns = hk_pg_get_int(r, row, col + D_DUE),
                            .first_ns = hk_pg_get_int(r, row, col + D_FIRST)};
    bool key = copy_text(r, row, col + D_KEY, &ret->key);
    return copy_text(r, row, col + D_ERROR, &ret->error) && key;
}

hark_err hk_pg_get_settled(const PGresult *r, int row, int col, uint64_t floor,
                           hark_store_range **ret, size_t *ret_n)
{
    size_t len = 0;
    const uint8_t *bytes = hk_pg_get_blob(r, row, col, &len);
    return bytes && len ? hk_ranges_decode(floor, bytes, len, ret, ret_n) : HARK_OK;
}

/* Rows that only say that they are settled are sorted out into `seqs`, which has room for all. */
static bool load_rows(const PGresult *r, hark_store_consumer *c, uint64_t *seqs, size_t *ret_n)
{
    int n = PQntuples(r);
    bool ok = true;
    *ret_n = 0;
    for (int i = 0; i < n && ok; i++)
        if (hk_pg_is_settled(r, i, 0))
            seqs[(*ret_n)++] = (uint64_t)hk_pg_get_int(r, i, D_SEQ);
        else
            ok = hk_pg_get_delivery(r, i, 0, &c->ret_rows[c->ret_n_rows++]);
    return ok;
}

static hark_err take_rows(const PGresult *r, hark_store_consumer *c, hark_errinfo *ei)
{
    size_t n = (size_t)PQntuples(r), n_settled = 0;
    if (n == 0)
        return HARK_OK;
    uint64_t *settled = malloc(n * sizeof *settled);
    c->ret_rows = calloc(n, sizeof *c->ret_rows);
    hark_err err = HARK_ENOMEM;
    if (settled && c->ret_rows && load_rows(r, c, settled, &n_settled))
        err = hk_ranges_settle(c, settled, n_settled);
    free(settled);
    return err ? no_memory(c, ei) : HARK_OK;
}

static hark_err take_share(const hark_store *s, const PGresult *r, hark_store_consumer *c,
                           hark_errinfo *ei)
{
    if (PQntuples(r) == 0)
        return hk_fail(ei, HARK_ENOTFOUND, "consumer %s has no share %u, but %u, from 0 on",
                       c->name, c->share, c->ret_shares);
    c->ret_floor = (uint64_t)hk_pg_get_int(r, 0, S_FLOOR);
    c->ret_highest = (uint64_t)hk_pg_get_int(r, 0, S_HIGHEST);
    hark_err err =
        hk_pg_get_settled(r, 0, S_SETTLED, c->ret_floor, &c->ret_settled, &c->ret_n_settled);
    if (err == HARK_ENOMEM)
        return no_memory(c, ei);
    return err ? damaged(s, c, ei) : HARK_OK;
}

/* Whoever only looks may do so while the consumer is at work. */
static hark_err look_at_share(hark_store *s, hark_store_consumer *c, hark_errinfo *ei)
{
    hk_pg_args args;
    PGresult *r = NULL, *rows = NULL;
    hk_pg_head(&args, c->ret_id, c->share);
    hark_err err = hk_pg_run(&s->w, &share, &args, &r, "loading a consumer", ei);
    if (!err)
        err = take_share(s, r, c, ei);
    if (!err)
        err = hk_pg_run(&s->w, &deliveries, &args, &rows, "loading a consumer", ei);
    if (!err)
        err = take_rows(rows, c, ei);
    PQclear(rows);
    PQclear(r);
    return err;
}

static hark_err update(hark_store *s, const hark_store_consumer *c, hark_errinfo *ei)
{
    hk_pg_args args = {0};
    hk_pg_int(&args, (int64_t)c->ret_id);
    hk_pg_text(&args, c->pattern);
    hk_pg_text(&args, c->policy);
    return hk_pg_run(&s->w, &update_one, &args, NULL, "updating a consumer", ei);
}

/* Pattern and policy as they will be registered after this call. */
static hark_err load_terms(const PGresult *r, hark_store_consumer *c, bool *ret_differs,
                           hark_errinfo *ei)
{
    const char *pattern = hk_pg_get_text(r, 0, C_PATTERN, NULL),
               *policy = hk_pg_get_text(r, 0, C_POLICY, NULL);
    return hk_consumer_terms(c, pattern, policy, ret_differs, ei);
}

static hark_err load(hark_store *s, const PGresult *r, hark_store_consumer *c, hark_errinfo *ei)
{
    bool differs = false;
    hark_err err = load_terms(r, c, &differs, ei);
    if (err)
        return err;
    load_state(r, c);
    if (c->find)
        return look_at_share(s, c, ei);
    hk_pg_known_forget(s, c->ret_id);
    return differs ? update(s, c, ei) : HARK_OK;
}

/* *ret_there false: there is no such consumer. */
static hark_err load_by_name(hark_store *s, hark_store_consumer *c, bool *ret_there,
                             hark_errinfo *ei)
{
    hk_pg_args args = {0};
    PGresult *r = NULL;
    hk_pg_text(&args, c->name);
    hark_err err = hk_pg_run(&s->w, &find, &args, &r, "looking up a consumer", ei);
    *ret_there = !err && PQntuples(r) > 0;
    if (*ret_there)
        err = load(s, r, c, ei);
    PQclear(r);
    return err;
}

static hark_err open_one(hark_store *s, hark_store_consumer *c, hark_errinfo *ei)
{
    bool there = false, added = false;
    hark_err err = load_by_name(s, c, &there, ei);
    if (err || there)
        return err;
    if (c->find)
        return hk_fail(ei, HARK_ENOTFOUND,
                       "no consumer %s is registered in %s; check the name, or subscribe with it",
                       c->name, s->where);
    err = add(s, c, &added, ei);
    if (err || added)
        return err;
    err = load_by_name(s, c, &there, ei);
    return err || there ? err
                        : hk_fail(ei, HARK_ESTORE, "consumer %s came and went; try again", c->name);
}

hark_err hk_pg_consumer_open(hark_store *s, hark_store_consumer *c, hark_errinfo *ei)
{
    hk_consumer_unfilled(c);
    hark_err err = hk_pg_enter(s, "consumer_open", ei);
    if (!err)
        err = hk_pg_saves_flush(s, ei);
    if (!err)
        err = open_one(s, c, ei);
    if (err)
        hark_store_consumer_clear(c);
    return err;
}
