/* Registers consumers and loads their durable state. All of it runs in the writer's transaction, so a
 * new consumer's start is resolved against the log as this group leaves it. What operators do with consumers is
 * in admin.c, what the delivery core saves in ledger.c. */
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

static const hk_pg_sql find = {
    "consumer_find",
    "SELECT id, pattern, policy, generation, floor, highest, settled, paused, rerun_id, "
    "rerun_from, rerun_upto, rerun_rate, rerun_started, rerun_settled, "
    "(SELECT min(g.first) FROM @gaps g WHERE g.consumer_id = c.id), "
    "(SELECT max(g.last) FROM @gaps g WHERE g.consumer_id = c.id) "
    "FROM @consumers c WHERE name = $1::text"};
enum {
    C_ID,
    C_PATTERN,
    C_POLICY,
    C_GENERATION,
    C_FLOOR,
    C_HIGHEST,
    C_SETTLED,
    C_PAUSED,
    C_RERUN,
    C_GAP = C_RERUN + 6
};

static const hk_pg_sql deliveries = {
    "consumer_deliveries",
    "SELECT seq, state, attempts, crashes, interruptions, due, first, partitionkey, error "
    "FROM @deliveries WHERE consumer_id = $1::int8 ORDER BY seq"};
enum { D_SEQ, D_STATE, D_ATTEMPTS, D_CRASHES, D_INTERRUPTIONS, D_DUE, D_FIRST, D_KEY, D_ERROR };

static const hk_pg_sql add_one = {
    "consumer_add",
    "INSERT INTO @consumers(name, pattern, policy, start, start_sequence, start_time, created, "
    "generation, floor, highest, paused) VALUES($1::text, $2::text, $3::text, $4::int8, $5::int8, "
    "$6::int8, $7::int8, 1, $8::int8, $8::int8, false) RETURNING id"};
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

hark_err hk_pg_start_floor(hark_store *s, const hk_pg_start *at, uint64_t *ret, hark_errinfo *ei)
{
    uint64_t begin = 0;
    hark_err err;
    switch (at->start) {
    case START_NOW:
        *ret = s->now.last;
        return HARK_OK;
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
        *ret = begin ? begin - 1 : s->now.last;
        return err;
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

static hark_err add(hark_store *s, hark_store_consumer *c, hark_errinfo *ei)
{
    hk_pg_args args = {0};
    PGresult *r = NULL;
    uint64_t floor;
    hk_pg_start at = {c->name, c->start, c->start_sequence, c->start_time_ns};
    hark_err err = hk_pg_start_floor(s, &at, &floor, ei);
    if (err)
        return err;
    hk_pg_text(&args, c->name);
    hk_pg_text(&args, c->pattern);
    hk_pg_text(&args, c->policy);
    hk_pg_int(&args, c->start);
    hk_pg_int(&args, (int64_t)c->start_sequence);
    hk_pg_int(&args, c->start_time_ns);
    hk_pg_int(&args, hk_wall_ns());
    hk_pg_int(&args, (int64_t)floor);
    err = hk_pg_run(&s->w, &add_one, &args, &r, "registering a consumer", ei);
    if (err)
        return err;
    c->ret_id = (uint64_t)hk_pg_get_int(r, 0, 0);
    PQclear(r);
    c->ret_created = 1;
    c->ret_generation = 1;
    c->ret_floor = c->ret_highest = floor;
    c->ret_pattern = hk_strdup(c->pattern);
    c->ret_policy = hk_strdup(c->policy);
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

static hark_err load_state(hark_store *s, const PGresult *r, hark_store_consumer *c,
                           hark_errinfo *ei)
{
    size_t len = 0;
    const uint8_t *settled = hk_pg_get_blob(r, 0, C_SETTLED, &len);
    c->ret_created = 0;
    c->ret_id = (uint64_t)hk_pg_get_int(r, 0, C_ID);
    c->ret_generation = (uint64_t)hk_pg_get_int(r, 0, C_GENERATION);
    c->ret_floor = (uint64_t)hk_pg_get_int(r, 0, C_FLOOR);
    c->ret_highest = (uint64_t)hk_pg_get_int(r, 0, C_HIGHEST);
    c->ret_paused = hk_pg_get_int(r, 0, C_PAUSED);
    c->ret_gap_from = (uint64_t)hk_pg_get_int(r, 0, C_GAP);
    c->ret_gap_to = (uint64_t)hk_pg_get_int(r, 0, C_GAP + 1);
    hk_pg_get_rerun(r, 0, C_RERUN, &c->ret_rerun);
    if (!settled || len == 0)
        return HARK_OK;
    hark_err err = hk_ranges_decode(c->ret_floor, settled, len, &c->ret_settled, &c->ret_n_settled);
    if (err == HARK_ENOMEM)
        return no_memory(c, ei);
    return err ? damaged(s, c, ei) : HARK_OK;
}

/* Copies a column's text; false when memory is out. */
static bool copy_text(const PGresult *r, int row, int col, const char **ret)
{
    const char *s = hk_pg_get_text(r, row, col, NULL);
    *ret = hk_strdup(s);
    return *ret || !s;
}

static bool load_row(const PGresult *r, int row, hark_store_row *ret)
{
    *ret = (hark_store_row){.sequence = (uint64_t)hk_pg_get_int(r, row, D_SEQ),
                            .state = hk_pg_get_int(r, row, D_STATE),
                            .attempts = hk_pg_get_int(r, row, D_ATTEMPTS),
                            .crashes = hk_pg_get_int(r, row, D_CRASHES),
                            .interruptions = hk_pg_get_int(r, row, D_INTERRUPTIONS),
                            .due_ns = hk_pg_get_int(r, row, D_DUE),
                            .first_ns = hk_pg_get_int(r, row, D_FIRST)};
    bool key = copy_text(r, row, D_KEY, &ret->key), error = copy_text(r, row, D_ERROR, &ret->error);
    return key && error;
}

/* Rows that only say that they are settled are sorted out into `seqs`, which has room for all. */
static bool load_rows(const PGresult *r, hark_store_consumer *c, uint64_t *seqs, size_t *ret_n)
{
    int n = PQntuples(r);
    bool ok = true;
    *ret_n = 0;
    for (int i = 0; i < n && ok; i++)
        if (hk_pg_get_int(r, i, D_STATE) == HK_ROW_SETTLED)
            seqs[(*ret_n)++] = (uint64_t)hk_pg_get_int(r, i, D_SEQ);
        else
            ok = load_row(r, i, &c->ret_rows[c->ret_n_rows++]);
    return ok;
}

/* Whoever only looks (`find`) may do so while the consumer is at work. Otherwise nobody may have loaded it
 * before and save it later: what acks told is saved, and their rows go. */
static hark_err fold(hark_store *s, hark_store_consumer *c, const uint64_t *seqs, size_t n,
                     hark_errinfo *ei)
{
    hark_err err = hk_ranges_settle(c, seqs, n);
    if (err)
        return no_memory(c, ei);
    if (n == 0 || c->find)
        return HARK_OK;
    const hark_store_save v = {.size = sizeof v,
                               .consumer = c->ret_id,
                               .generation = c->ret_generation,
                               .floor = c->ret_floor,
                               .highest = c->ret_highest,
                               .settled = c->ret_settled,
                               .n_settled = c->ret_n_settled,
                               .drop = seqs,
                               .n_drop = n};
    return hk_pg_consumer_save(s, &v, ei);
}

static hark_err read_rows(hark_store *s, hark_store_consumer *c, hark_errinfo *ei)
{
    hk_pg_args args = {0};
    PGresult *r = NULL;
    size_t n_acked = 0;
    hk_pg_int(&args, (int64_t)c->ret_id);
    hark_err err = hk_pg_run(&s->w, &deliveries, &args, &r, "loading a consumer", ei);
    size_t n = err ? 0 : (size_t)PQntuples(r);
    if (n > 0) {
        uint64_t *acked = malloc(n * sizeof *acked);
        c->ret_rows = calloc(n, sizeof *c->ret_rows);
        if (acked && c->ret_rows && load_rows(r, c, acked, &n_acked))
            err = fold(s, c, acked, n_acked, ei);
        else
            err = hk_fail(ei, HARK_ENOMEM, "no memory for the open rows of consumer %s", c->name);
        free(acked);
    }
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
    if (!err)
        err = load_state(s, r, c, ei);
    if (!err)
        err = read_rows(s, c, ei);
    if (!err && differs)
        err = update(s, c, ei);
    return err;
}

static hark_err add_unless_find(hark_store *s, hark_store_consumer *c, hark_errinfo *ei)
{
    if (c->find)
        return hk_fail(ei, HARK_ENOTFOUND,
                       "no consumer %s is registered in %s; check the name, or subscribe with it",
                       c->name, s->where);
    return add(s, c, ei);
}

hark_err hk_pg_consumer_open(hark_store *s, hark_store_consumer *c, hark_errinfo *ei)
{
    hk_pg_args args = {0};
    PGresult *r = NULL;
    hk_consumer_unfilled(c);
    hark_err err = hk_pg_enter(s, "consumer_open", ei);
    if (err)
        return err;
    hk_pg_text(&args, c->name);
    err = hk_pg_run(&s->w, &find, &args, &r, "looking up a consumer", ei);
    if (!err)
        err = PQntuples(r) > 0 ? load(s, r, c, ei) : add_unless_find(s, c, ei);
    PQclear(r);
    if (err)
        hark_store_consumer_clear(c);
    return err;
}
