/* shares: whose which part of a consumer is, decided by whoever asks, with the consumer's row locked. Mostly there is
 * nothing to decide, and one statement that changes nothing answers. What is claimed is loaded by claim.c. */
#include "store/postgres/ledger_i.h"

#include <stdio.h>
#include <stdlib.h>

/* The consumer, those who have it open, and its shares: a row for each of these. $2: this process. */
static const hk_pg_sql look = {
    "shares_look",
    "WITH c AS MATERIALIZED (SELECT c.id, c.generation, c.paused, c.rerun_id, c.rerun_from, "
    "c.rerun_upto, c.rerun_rate, c.rerun_started, c.rerun_settled, "
    "(SELECT min(g.first) FROM @gaps g WHERE g.consumer_id = c.id) AS gap_from, "
    "(SELECT max(g.last) FROM @gaps g WHERE g.consumer_id = c.id) AS gap_to, "
    "(SELECT count(*) FROM @members m JOIN @processes p ON p.id = m.process_id WHERE m.consumer_id "
    "= c.id AND p.id <> $2::int8 AND p.until > clock_timestamp()) AS live, "
    "(SELECT count(*) FROM @members m WHERE m.consumer_id = c.id AND m.process_id <> $2::int8) "
    "AS others, "
    "EXISTS(SELECT 1 FROM @members m WHERE m.consumer_id = c.id AND m.process_id = $2::int8) "
    "AS joined, "
    "EXISTS(SELECT 1 FROM @processes p WHERE p.id = $2::int8 AND p.until > clock_timestamp()) "
    "AS alive, "
    "(SELECT string_agg(p.id || ' ' || p.who, E'\\n') FROM @members m JOIN @processes p ON p.id = "
    "m.process_id WHERE m.consumer_id = c.id AND p.id <> $2::int8 AND p.until > "
    "clock_timestamp()) AS whos, "
    "EXISTS(SELECT 1 FROM @news n JOIN @shares o ON o.consumer_id = n.consumer_id AND o.share = "
    "n.share WHERE n.consumer_id = c.id AND o.owner = $2::int8) AS news "
    "FROM @consumers c WHERE c.id = $1::int8) "
    "SELECT c.generation, c.paused, c.rerun_id, c.rerun_from, c.rerun_upto, c.rerun_rate, "
    "c.rerun_started, c.rerun_settled, c.gap_from, c.gap_to, c.live, c.others, c.joined, c.alive, "
    "c.whos, c.news, h.share, h.token, h.owner, p.until > clock_timestamp() FROM c JOIN @shares h "
    "ON h.consumer_id = c.id LEFT JOIN @processes p ON p.id = h.owner ORDER BY h.share"};
enum {
    K_GENERATION,
    K_PAUSED,
    K_RERUN,
    K_GAP = K_RERUN + 6,
    K_LIVE = K_GAP + 2,
    K_OTHERS,
    K_JOINED,
    K_ALIVE,
    K_WHOS,
    K_NEWS,
    K_SHARE,
    K_TOKEN,
    K_OWNER,
    K_RUNS
};

static const hk_pg_sql begin_tx = {"shares_begin",
                                   "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"};
static const hk_pg_sql commit_tx = {"shares_commit", "COMMIT"};
static const hk_pg_sql rollback_tx = {"shares_rollback", "ROLLBACK"};
static const hk_pg_sql lock_consumer = {
    "shares_lock", "SELECT 1 FROM @consumers WHERE id = $1::int8 FOR NO KEY UPDATE"};
static const hk_pg_sql bury = {
    "shares_bury", "UPDATE @processes SET until = '-infinity' WHERE id = ANY($1::int8[])"};
static const hk_pg_sql prune = {
    "shares_prune", "DELETE FROM @members m WHERE m.consumer_id = $1::int8 AND m.process_id <> "
                    "$2::int8 AND NOT EXISTS(SELECT 1 FROM @processes p WHERE p.id = m.process_id "
                    "AND p.until > clock_timestamp())"};
static const hk_pg_sql join = {"shares_join",
                               "INSERT INTO @members(consumer_id, process_id) VALUES($1::int8, "
                               "$2::int8) ON CONFLICT DO NOTHING"};
static const hk_pg_sql part = {
    "shares_part", "DELETE FROM @members WHERE consumer_id = $1::int8 AND process_id = $2::int8"};
static const hk_pg_sql release_all = {
    "shares_release_all",
    "UPDATE @shares SET owner = NULL, claimed = CASE WHEN $3::int8 = 0 THEN claimed ELSE 0 END "
    "WHERE consumer_id = $1::int8 AND owner = $2::int8"};
static const hk_pg_sql release = {
    "shares_release",
    "UPDATE @shares h SET owner = NULL, claimed = CASE WHEN $5::int8 = 0 THEN h.claimed ELSE 0 END "
    "FROM unnest($3::int8[], $4::int8[]) AS x(share, token) WHERE h.consumer_id = $1::int8 AND "
    "h.owner = $2::int8 AND h.share = x.share AND h.token = x.token"};
static const hk_pg_sql drop_news = {
    "shares_drop_news",
    "DELETE FROM @news n USING @shares h WHERE n.consumer_id = $1::int8 AND n.id <= $3::int8 AND "
    "h.consumer_id = n.consumer_id AND h.share = n.share AND h.owner = $2::int8"};
static const hk_pg_sql list_news = {
    "shares_news",
    "SELECT n.id, n.share, n.kind, n.seq, n.due, n.key FROM @news n JOIN @shares h ON "
    "h.consumer_id = n.consumer_id AND h.share = n.share WHERE n.consumer_id = "
    "$1::int8 AND h.owner = $2::int8 AND n.id > $3::int8 ORDER BY n.id"};

/* ---- a look ------------------------------------------------------------------------------------ */

typedef struct change {
    hark_store *s;
    hark_store_shares *x;
    hk_pg *c;
    uint64_t me;
    PGresult *seen;
    hk_pg_array dead; /* processes */
    bool tell;        /* others should ask */
    /* what is to become of the shares that were seen */
    size_t fair, n_claim, n_let_go;
    uint32_t claim[HARK_SHARES_MAX], let_go[HARK_SHARES_MAX];
} change;

static void args_of(const change *c, hk_pg_args *args)
{
    hk_pg_head(args, c->x->consumer, c->me);
}

static hark_err look_now(change *c, hark_errinfo *ei)
{
    hk_pg_args args;
    args_of(c, &args);
    PQclear(c->seen);
    c->seen = NULL;
    hark_err err = hk_pg_run(c->c, &look, &args, &c->seen, "looking at a consumer's shares", ei);
    int n = err ? 0 : PQntuples(c->seen);
    if (!err && (n == 0 || n > HARK_SHARES_MAX))
        err = hk_fail(ei, HARK_ENOTFOUND, "%s has no consumer %llu any more; list the consumers",
                      c->s->where, (unsigned long long)c->x->consumer);
    return err;
}

static bool is_mine(const change *c, int row)
{
    return (uint64_t)hk_pg_get_int(c->seen, row, K_OWNER) == c->me;
}

static hark_store_owned at(const change *c, int row)
{
    return (hark_store_owned){(uint32_t)hk_pg_get_int(c->seen, row, K_SHARE),
                              (uint64_t)hk_pg_get_int(c->seen, row, K_TOKEN)};
}

static void clear_answer(hark_store_shares *x)
{
    hark_store_shares_clear(x);
    x->ret_generation = 0;
    x->ret_paused = 0;
    x->ret_rerun = (hark_store_rerun){0};
    x->ret_gap_from = x->ret_gap_to = 0;
    x->ret_members = 0;
}

static void take_head(const PGresult *r, hark_store_shares *x)
{
    x->ret_generation = (uint64_t)hk_pg_get_int(r, 0, K_GENERATION);
    x->ret_paused = hk_pg_get_int(r, 0, K_PAUSED);
    x->ret_gap_from = (uint64_t)hk_pg_get_int(r, 0, K_GAP);
    x->ret_gap_to = (uint64_t)hk_pg_get_int(r, 0, K_GAP + 1);
    x->ret_members = (uint32_t)hk_pg_get_int(r, 0, K_LIVE) + !x->leave;
    hk_pg_get_rerun(r, 0, K_RERUN, &x->ret_rerun);
}

/* What it keeps, and what of that it should give up. */
static hark_err keep(change *c, hark_errinfo *ei)
{
    hark_store_shares *x = c->x;
    size_t n = (size_t)PQntuples(c->seen), members = x->ret_members ? x->ret_members : 1;
    c->fair = (n + members - 1) / members;
    x->owned = calloc(n, sizeof *x->owned);
    x->give = calloc(n, sizeof *x->give);
    if (!x->owned || !x->give)
        return hk_fail(ei, HARK_ENOMEM, "no memory for the shares of a consumer; ask again");
    for (int i = 0; i < (int)n; i++)
        if (is_mine(c, i) &&
            hk_pg_is_known(c->s, x->consumer, at(c, i).share, at(c, i).token, false))
            x->owned[x->n_owned++] = at(c, i);
    for (size_t i = c->fair; i < x->n_owned; i++)
        x->give[x->n_give++] = x->owned[i].share;
    return HARK_OK;
}

static bool is_kept(const hark_store_shares *x, uint32_t share)
{
    for (size_t i = 0; i < x->n_owned; i++)
        if (x->owned[i].share == share)
            return true;
    return false;
}

/* What is ours without the caller's knowing comes first; what of it is too much goes. A process that is over by the
 * server's clock would lose at once what it took. */
static void want(change *c)
{
    size_t room = c->x->n_owned < c->fair ? c->fair - c->x->n_owned : 0;
    if (!hk_pg_get_int(c->seen, 0, K_ALIVE))
        room = 0;
    for (int i = 0; i < PQntuples(c->seen); i++) {
        uint32_t share = at(c, i).share;
        if (!is_mine(c, i) || is_kept(c->x, share))
            continue;
        if (c->n_claim < room)
            c->claim[c->n_claim++] = share;
        else
            c->let_go[c->n_let_go++] = share;
    }
    for (int i = 0; i < PQntuples(c->seen) && c->n_claim < room; i++)
        if (!is_mine(c, i) && !hk_pg_get_int(c->seen, i, K_RUNS))
            c->claim[c->n_claim++] = at(c, i).share;
}

/* With another generation, and when it leaves, it has nothing. */
static hark_err judge(change *c, hark_errinfo *ei)
{
    clear_answer(c->x);
    take_head(c->seen, c->x);
    c->n_claim = c->n_let_go = 0;
    if (c->x->leave || c->x->generation != c->x->ret_generation)
        return HARK_OK;
    hark_err err = keep(c, ei);
    if (!err)
        want(c);
    return err;
}

/* Lines of a process's id and text. */
static void find_dead(change *c)
{
    const char *s = hk_pg_get_text(c->seen, 0, K_WHOS, NULL);
    while (s && *s) {
        char line[HK_WHO_MAX + 32], *who;
        size_t n = strcspn(s, "\n");
        (void)snprintf(line, sizeof line, "%.*s", (int)n, s);
        long long id = strtoll(line, &who, 10);
        if (hk_who_is_dead(who))
            hk_pg_array_int(&c->dead, id);
        s += n + (s[n] == '\n');
    }
}

/* What was seen can stay as it is. */
static bool is_settled(const change *c)
{
    const PGresult *r = c->seen;
    const hark_store_shares *x = c->x;
    return !x->leave && x->n_release == 0 && x->generation == x->ret_generation &&
           hk_pg_get_int(r, 0, K_JOINED) && c->dead.n == 0 &&
           hk_pg_get_int(r, 0, K_LIVE) == hk_pg_get_int(r, 0, K_OTHERS) &&
           !hk_pg_get_int(r, 0, K_NEWS) && c->n_claim == 0 && c->n_let_go == 0;
}

/* ---- changes ----------------------------------------------------------------------------------- */

/* `in_order`: nothing of them is under way. */
static hark_err send_shares(change *c, const hark_store_owned *list, size_t n, bool in_order,
                            hark_errinfo *ei)
{
    hk_pg_args args;
    hk_pg_columns columns;
    if (n == 0)
        return HARK_OK;
    c->tell = true;
    args_of(c, &args);
    hk_pg_columns_init(&columns, "ii");
    for (size_t i = 0; i < n; i++) {
        hk_pg_array_int(&columns.at[0], list[i].share);
        hk_pg_array_int(&columns.at[1], (int64_t)list[i].token);
    }
    hark_err err = hk_pg_columns_args(&columns, &args, ei);
    hk_pg_int(&args, in_order);
    if (!err)
        err = hk_pg_send(c->c, &release, &args, ei);
    hk_pg_columns_free(&columns);
    return err;
}

static hark_err send_dead(change *c, hark_errinfo *ei)
{
    hk_pg_args args = {0};
    if (c->dead.n == 0)
        return HARK_OK;
    hark_err err = hk_pg_arg_array(&args, &c->dead, ei);
    return err ? err : hk_pg_send(c->c, &bury, &args, ei);
}

/* Who is a member, and what this one gives up. */
static hark_err send_members(change *c, hark_errinfo *ei)
{
    hk_pg_args args;
    const hark_store_shares *x = c->x;
    bool none = x->leave || x->generation != (uint64_t)hk_pg_get_int(c->seen, 0, K_GENERATION);
    bool joined = hk_pg_get_int(c->seen, 0, K_JOINED) != 0;
    args_of(c, &args);
    hark_err err = hk_pg_send(c->c, &prune, &args, ei);
    if (!err)
        err = hk_pg_send(c->c, x->leave ? &part : &join, &args, ei);
    hk_pg_int(&args, x->leave != 0); /* then it has ended in order */
    if (!err && none)
        err = hk_pg_send(c->c, &release_all, &args, ei);
    c->tell = c->tell || none || !joined;
    return err ? err : send_shares(c, x->release, none ? 0 : x->n_release, true, ei);
}

static hark_err send_news_done(change *c, hark_errinfo *ei)
{
    hk_pg_args args;
    if (!c->x->news_done || !hk_pg_get_int(c->seen, 0, K_NEWS))
        return HARK_OK;
    args_of(c, &args);
    hk_pg_int(&args, (int64_t)c->x->news_done);
    return hk_pg_send(c->c, &drop_news, &args, ei);
}

/* Locks the consumer, makes the changes that need no decision, and looks again. */
static hark_err prepare(change *c, hark_errinfo *ei)
{
    hk_pg_args args = {0};
    hk_pg_int(&args, (int64_t)c->x->consumer);
    hark_err err = hk_pg_send(c->c, &begin_tx, NULL, ei);
    if (!err)
        err = hk_pg_send(c->c, &lock_consumer, &args, ei);
    if (!err)
        err = send_dead(c, ei);
    if (!err)
        err = send_news_done(c, ei);
    if (!err)
        err = send_members(c, ei);
    return err ? err : look_now(c, ei);
}

static hark_err let_go(change *c, hark_errinfo *ei)
{
    hark_store_owned list[HARK_SHARES_MAX];
    size_t n = 0;
    for (int i = 0; i < PQntuples(c->seen); i++)
        for (size_t j = 0; j < c->n_let_go; j++)
            if (at(c, i).share == c->let_go[j])
                list[n++] = at(c, i);
    return send_shares(c, list, n, false, ei); /* the caller never knew of them */
}

static hark_err take_news(const PGresult *r, hark_store_shares *x, hark_errinfo *ei)
{
    size_t n = (size_t)PQntuples(r);
    x->news = calloc(n ? n : 1, sizeof *x->news);
    bool ok = x->news != NULL;
    for (int i = 0; i < (int)n && ok; i++) {
        const char *key = hk_pg_get_text(r, i, 5, NULL);
        hark_store_news *to = &x->news[x->n_news++];
        *to = (hark_store_news){.id = (uint64_t)hk_pg_get_int(r, i, 0),
                                .share = (uint32_t)hk_pg_get_int(r, i, 1),
                                .kind = hk_pg_get_int(r, i, 2),
                                .sequence = (uint64_t)hk_pg_get_int(r, i, 3),
                                .due_ns = hk_pg_get_int(r, i, 4),
                                .key = hk_strdup(key)};
        ok = to->key || !key;
    }
    return ok ? HARK_OK
              : hk_fail(ei, HARK_ENOMEM, "no memory for the news of a consumer; ask again");
}

/* After the claim: of what was claimed there are none any more. */
static hark_err read_news(change *c, hark_errinfo *ei)
{
    hk_pg_args args;
    PGresult *r = NULL;
    if (!hk_pg_get_int(c->seen, 0, K_NEWS) || c->x->n_owned == 0)
        return HARK_OK;
    args_of(c, &args);
    hk_pg_int(&args, (int64_t)c->x->news_done);
    hark_err err = hk_pg_run(c->c, &list_news, &args, &r, "reading news of a consumer", ei);
    if (!err)
        err = take_news(r, c->x, ei);
    PQclear(r);
    return err;
}

static hark_err change_all(change *c, hark_errinfo *ei)
{
    hark_err err = prepare(c, ei);
    if (!err)
        err = judge(c, ei);
    if (!err)
        err = let_go(c, ei);
    if (!err)
        err = hk_pg_claim(c->s, c->x, c->claim, c->n_claim, ei);
    if (!err)
        err = read_news(c, ei);
    return err ? err : hk_pg_run(c->c, &commit_tx, NULL, NULL, "dividing a consumer", ei);
}

static hark_err change_in_one(change *c, hark_errinfo *ei)
{
    hark_err err = change_all(c, ei);
    if (err && hk_pg_connected(c->c) &&
        hk_pg_run(c->c, &rollback_tx, NULL, NULL, "rolling back", NULL) != HARK_OK)
        hk_pg_disconnect(c->c);
    if (c->tell) /* also when it is not known */
        hk_pg_hint(c->s, &c->s->hint_shares);
    return err;
}

static hark_err ask(change *c, hark_errinfo *ei)
{
    hk_pg_know_asked(c->s, c->x);
    hark_err err = look_now(c, ei);
    if (!err)
        err = judge(c, ei);
    if (err)
        return err;
    find_dead(c);
    return is_settled(c) ? HARK_OK : change_in_one(c, ei);
}

hark_err hk_pg_shares(hark_store *s, hark_store_shares *x, hark_errinfo *ei)
{
    change c = {.s = s, .x = x, .c = &s->party.c, .me = hk_mark_get(&s->process)};
    c.dead.kind = HK_PG_INT8;
    x->owned = NULL;
    x->give = NULL;
    x->claimed = NULL;
    x->news = NULL;
    x->n_owned = x->n_give = x->n_claimed = x->n_news = 0;
    hark_err err = hk_pg_party_connect(s, ei);
    if (!err)
        err = ask(&c, ei);
    if (err)
        clear_answer(x);
    else
        hk_pg_know_answer(s, x);
    PQclear(c.seen);
    hk_pg_array_free(&c.dead);
    return err;
}
