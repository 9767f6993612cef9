/* claim: takes shares of a consumer over, in the transaction of `shares`, and loads what their last owners left. What acks
 * told (ack.c) is saved on the way, and their rows go: whoever has the share next is told the same. */
#include "store/postgres/ledger_i.h"

#include <stdlib.h>

enum { CLAIM_AHEAD = 4096 }; /* sequences above what was delivered that may start without a save */

/* Tokens also grow with the log's epoch and the server's timeline: a server that took over may lack the last changes of owners,
 * and must not give the same tokens again. A share that somebody has locked is left for the next time: a group of its
 * last owner's is under way. */
static const hk_pg_sql claim = {
    "claim",
    "WITH x AS MATERIALIZED (SELECT share FROM @shares WHERE consumer_id = $1::int8 AND "
    "share = ANY($3::int8[]) ORDER BY share FOR NO KEY UPDATE SKIP LOCKED), t AS MATERIALIZED "
    "(SELECT (l.epoch + ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, "
    "8))::bit(32)::int8) << 32 AS low, l.last FROM @log l) UPDATE @shares h SET owner = $2::int8, "
    "token = greatest(h.token + 1, t.low), claimed = greatest(h.claimed, h.floor + $4::int8, "
    "h.highest + $4::int8), suspect = greatest(h.suspect, "
    "least(h.claimed, t.last)) FROM x, t WHERE h.consumer_id = $1::int8 AND h.share = x.share "
    "RETURNING h.share, h.token, h.floor, h.highest, h.settled, h.claimed, h.suspect"};
enum { C_SHARE, C_TOKEN, C_FLOOR, C_HIGHEST, C_SETTLED, C_CLAIMED, C_SUSPECT };
static const hk_pg_sql rows = {
    "claim_rows", "SELECT share, " HK_PG_DELIVERY " FROM @deliveries WHERE consumer_id "
                  "= $1::int8 AND share = ANY($2::int8[]) ORDER BY share, seq"};
/* Those rows tell the same. */
static const hk_pg_sql drop_news = {
    "claim_drop_news",
    "DELETE FROM @news WHERE consumer_id = $1::int8 AND share = ANY($2::int8[])"};

static hark_err no_memory(hark_errinfo *ei)
{
    return hk_fail(ei, HARK_ENOMEM, "no memory for the shares of a consumer; ask again");
}

/* ---- shares ------------------------------------------------------------------------------------ */

static hark_err take_share(const PGresult *r, int row, hark_store_claim *to)
{
    *to = (hark_store_claim){.share = (uint32_t)hk_pg_get_int(r, row, C_SHARE),
                             .token = (uint64_t)hk_pg_get_int(r, row, C_TOKEN),
                             .floor = (uint64_t)hk_pg_get_int(r, row, C_FLOOR),
                             .highest = (uint64_t)hk_pg_get_int(r, row, C_HIGHEST),
                             .claimed = (uint64_t)hk_pg_get_int(r, row, C_CLAIMED),
                             .suspect = (uint64_t)hk_pg_get_int(r, row, C_SUSPECT)};
    return hk_pg_get_settled(r, row, C_SETTLED, to->floor, &to->settled, &to->n_settled);
}

static int by_share(const void *a, const void *b)
{
    const hark_store_claim *x = a, *y = b;
    return (x->share > y->share) - (x->share < y->share);
}

static hark_err take_shares(const hark_store *s, const PGresult *r, hark_store_shares *x,
                            hark_errinfo *ei)
{
    size_t n = (size_t)PQntuples(r);
    hark_err err = HARK_OK;
    x->claimed = calloc(n ? n : 1, sizeof *x->claimed);
    if (!x->claimed)
        return no_memory(ei);
    for (int i = 0; i < (int)n && !err; i++)
        err = take_share(r, i, &x->claimed[x->n_claimed++]);
    qsort(x->claimed, x->n_claimed, sizeof *x->claimed, by_share);
    if (err == HARK_ENOMEM)
        return no_memory(ei);
    return err ? hk_fail(ei, err,
                         "%s: the state of consumer %llu is damaged; restore the database from a "
                         "backup",
                         s->where, (unsigned long long)x->consumer)
               : HARK_OK;
}

static hark_err take(hark_store *s, hark_store_shares *x, const uint32_t *shares, size_t n,
                     hark_errinfo *ei)
{
    hk_pg_args args;
    hk_pg_array list = {.kind = HK_PG_INT8};
    PGresult *r = NULL;
    hk_pg_head(&args, x->consumer, hk_mark_get(&s->process));
    for (size_t i = 0; i < n; i++)
        hk_pg_array_int(&list, shares[i]);
    hark_err err = hk_pg_arg_array(&args, &list, ei);
    hk_pg_int(&args, CLAIM_AHEAD);
    if (!err)
        err = hk_pg_run(&s->party.c, &claim, &args, &r, "claiming shares of a consumer", ei);
    if (!err)
        err = take_shares(s, r, x, ei);
    PQclear(r);
    hk_pg_array_free(&list);
    return err;
}

/* ---- their rows -------------------------------------------------------------------------------- */

/* Of one share: rows from..to of the result. Those that only say that they are settled are sorted out into `settled`, which has
 * room for all. */
static bool take_rows(const PGresult *r, int from, int to, hark_store_claim *k, uint64_t *settled,
                      size_t *ret_n)
{
    bool ok = true;
    *ret_n = 0;
    k->rows = calloc((size_t)(to - from), sizeof *k->rows);
    for (int i = from; i < to && ok && k->rows; i++)
        if (hk_pg_is_settled(r, i, 1))
            settled[(*ret_n)++] = (uint64_t)hk_pg_get_int(r, i, 1);
        else
            ok = hk_pg_get_delivery(r, i, 1, &k->rows[k->n_rows++]);
    return ok && k->rows;
}

static hark_err settle(hark_store_claim *k, const uint64_t *seqs, size_t n)
{
    hark_store_consumer c = {.ret_floor = k->floor,
                             .ret_highest = k->highest,
                             .ret_settled = k->settled,
                             .ret_n_settled = k->n_settled};
    hark_err err = hk_ranges_settle(&c, seqs, n);
    if (err)
        return err;
    k->floor = c.ret_floor;
    k->highest = c.ret_highest;
    k->settled = c.ret_settled;
    k->n_settled = c.ret_n_settled;
    return HARK_OK;
}

/* Only sends. */
static hark_err fold(hark_store *s, uint64_t consumer, hark_store_claim *k, const uint64_t *seqs,
                     size_t n, hark_errinfo *ei)
{
    hk_pg_columns list;
    hk_pg *c = &s->party.c;
    if (n == 0)
        return HARK_OK;
    if (settle(k, seqs, n) != HARK_OK)
        return no_memory(ei);
    hk_pg_columns_init(&list, "i");
    for (size_t i = 0; i < n; i++)
        hk_pg_array_int(&list.at[0], (int64_t)seqs[i]);
    hark_err err = hk_pg_share_set(c, consumer, k, ei);
    if (!err)
        err = hk_pg_rows_drop(c, consumer, k->share, seqs, n, ei);
    if (!err)
        err = hk_pg_dead_settled(c, consumer, k->share, &list, ei);
    hk_pg_columns_free(&list);
    return err;
}

static hark_err take_all_rows(hark_store *s, hark_store_shares *x, const PGresult *r,
                              uint64_t *settled, hark_errinfo *ei)
{
    hark_err err = HARK_OK;
    int to = 0, n = PQntuples(r);
    for (size_t i = 0; i < x->n_claimed && !err; i++) {
        hark_store_claim *k = &x->claimed[i];
        int from = to;
        size_t n_settled = 0;
        while (to < n && hk_pg_get_int(r, to, 0) == (int64_t)k->share)
            to++;
        if (to == from)
            continue;
        if (!take_rows(r, from, to, k, settled, &n_settled))
            return no_memory(ei);
        err = fold(s, x->consumer, k, settled, n_settled, ei);
    }
    return err;
}

static hark_err load(hark_store *s, hark_store_shares *x, hark_errinfo *ei)
{
    hk_pg_args args = {0};
    hk_pg_array list = {.kind = HK_PG_INT8};
    PGresult *r = NULL;
    hk_pg_int(&args, (int64_t)x->consumer);
    for (size_t i = 0; i < x->n_claimed; i++)
        hk_pg_array_int(&list, x->claimed[i].share);
    hark_err err = hk_pg_arg_array(&args, &list, ei);
    if (!err)
        err = hk_pg_send(&s->party.c, &drop_news, &args, ei);
    if (!err)
        err = hk_pg_run(&s->party.c, &rows, &args, &r, "loading shares of a consumer", ei);
    hk_pg_array_free(&list);
    uint64_t *settled = err ? NULL : malloc(((size_t)PQntuples(r) + 1) * sizeof *settled);
    if (!err)
        err = settled ? take_all_rows(s, x, r, settled, ei) : no_memory(ei);
    free(settled);
    PQclear(r);
    return err;
}

hark_err hk_pg_claim(hark_store *s, hark_store_shares *x, const uint32_t *shares, size_t n,
                     hark_errinfo *ei)
{
    if (n == 0)
        return HARK_OK;
    hark_err err = take(s, x, shares, n, ei);
    return err || x->n_claimed == 0 ? err : load(s, x, ei);
}
