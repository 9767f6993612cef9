/* Saves what the delivery core decided: a share's floor and settled set, its open rows and finished attempts, all in the
 * group's one transaction. First it is judged whether the share is still whose it was: that statement keeps the share
 * locked until the group ends, and its answer is waited for; what follows is only sent. Saves whose verdict may be late wait
 * for each other, and are sent as if all were good (quick.c), or judged together. Dead letters are in dead.c. */
#include "store/postgres/ledger_i.h"

#include <stdlib.h>

/* Tokens grow at each change of the owner and at each reset, so that a token that is not the present one never will be again.
 * The shares are locked in their order, which is that of everybody. */
#define GOOD_ONES                                                                                  \
    "x AS MATERIALIZED (SELECT h.consumer_id, h.share, u.floor, u.highest, u.claimed, u.settled, " \
    "u.ord FROM unnest($1::int8[], $2::int8[], $3::int8[], $4::int8[], $5::int8[], $6::int8[], "   \
    "$7::int8[], $8::bytea[]) WITH ORDINALITY AS u(consumer_id, generation, share, token, floor, " \
    "highest, claimed, settled, ord) JOIN @consumers c ON c.id = u.consumer_id AND c.generation "  \
    "= u.generation JOIN @shares h ON h.consumer_id = u.consumer_id AND h.share = u.share AND "    \
    "h.token = u.token ORDER BY h.consumer_id, h.share FOR NO KEY UPDATE OF h)"
#define SET_THEM                                                                                   \
    "UPDATE @shares h SET floor = x.floor, highest = x.highest, settled = x.settled, claimed = "   \
    "greatest(h.claimed, x.claimed) FROM x WHERE h.consumer_id = x.consumer_id AND h.share = "     \
    "x.share RETURNING x.ord"
static const hk_pg_sql judge_all = {"save_judge", "WITH " GOOD_ONES " " SET_THEM};
/* Fails when one of them is not good. */
static const hk_pg_sql all_good = {"save_all_good", "WITH " GOOD_ONES ", j AS (" SET_THEM
                                                    ") SELECT 1 / CASE WHEN count(*) = $9::int8 "
                                                    "THEN 1 ELSE 0 END FROM j"};
enum { J_CONSUMER, J_GENERATION, J_SHARE, J_TOKEN, J_FLOOR, J_HIGHEST, J_CLAIMED, J_SETTLED };
#define J_KINDS "iiiiiiib"

static const hk_pg_sql is_present = {
    "save_is_present", "SELECT 1 FROM @consumers WHERE id = $1::int8 AND generation = $2::int8"};

static const hk_pg_sql set_share = {
    "save_share", "UPDATE @shares SET floor = $3::int8, highest = $4::int8, settled = $5::bytea "
                  "WHERE consumer_id = $1::int8 AND share = $2::int8"};
static const hk_pg_sql drop_rows = {"save_drop",
                                    "DELETE FROM @deliveries WHERE consumer_id = $1::int8 AND "
                                    "share = $2::int8 AND seq = ANY($3::int8[])"};
/* One that waits for its retry was redriven since the share was claimed. */
static const hk_pg_sql drop_stale = {
    "save_drop_stale", "DELETE FROM @deliveries WHERE consumer_id = $1::int8 AND share = $2::int8 "
                       "AND seq = ANY($3::int8[]) AND state <> 1"};
/* What an ack has settled (HK_ROW_SETTLED) stays: the save may be of before it. Of two rows for one sequence the
 * later one counts. */
static const hk_pg_sql put_rows = {
    "save_put",
    "INSERT INTO @deliveries AS r(consumer_id, share, seq, state, attempts, crashes, "
    "interruptions, due, first, partitionkey, error) SELECT DISTINCT ON (x.seq) $1::int8, "
    "($2::int8)::int4, x.seq, x.state, x.attempts, x.crashes, x.interruptions, x.due, x.first, "
    "x.partitionkey, x.error FROM unnest($3::int8[], $4::int8[], $5::int8[], $6::int8[], "
    "$7::int8[], $8::int8[], $9::int8[], $10::text[], $11::text[]) WITH ORDINALITY AS x(seq, "
    "state, attempts, crashes, interruptions, due, first, partitionkey, error, ord) ORDER BY "
    "x.seq, x.ord DESC ON CONFLICT (consumer_id, share, seq) DO UPDATE SET state = "
    "excluded.state, attempts = excluded.attempts, crashes = excluded.crashes, interruptions = "
    "excluded.interruptions, due = excluded.due, first = excluded.first, partitionkey = "
    "excluded.partitionkey, error = excluded.error WHERE r.state <> 6"};
static const hk_pg_sql add_attempts = {
    "save_attempts",
    "INSERT INTO @attempts(consumer_id, generation, seq, number, started, ended, outcome, error) "
    "SELECT $1::int8, $2::int8, x.seq, x.number, x.started, x.ended, x.outcome, x.error FROM "
    "unnest($3::int8[], $4::int8[], $5::int8[], $6::int8[], $7::text[], $8::text[]) "
    "WITH ORDINALITY AS x(seq, number, started, ended, outcome, error, ord) ORDER BY x.ord"};
static const hk_pg_sql gaps_done = {
    "save_gaps", "DELETE FROM @gaps WHERE consumer_id = $1::int8 AND last <= $2::int8"};

static hark_err no_memory(hark_errinfo *ei)
{
    return hk_fail(ei, HARK_ENOMEM, "no memory for the state of a consumer");
}

/* ---- rows -------------------------------------------------------------------------------------- */

/* Sends, with what `args` has already and these columns, and frees them. */
static hark_err send_columns(hk_pg *to, const hk_pg_sql *sql, hk_pg_args *args, hk_pg_columns *c,
                             hark_errinfo *ei)
{
    hark_err err = hk_pg_columns_args(c, args, ei);
    if (!err)
        err = hk_pg_send(to, sql, args, ei);
    hk_pg_columns_free(c);
    return err;
}

static hark_err drop(hk_pg *to, const hk_pg_sql *sql, uint64_t consumer, uint32_t share,
                     const uint64_t *seqs, size_t n, hark_errinfo *ei)
{
    hk_pg_args args;
    hk_pg_columns c;
    if (n == 0)
        return HARK_OK;
    hk_pg_head(&args, consumer, share);
    hk_pg_columns_init(&c, "i");
    for (size_t i = 0; i < n; i++)
        hk_pg_array_int(&c.at[0], (int64_t)seqs[i]);
    return send_columns(to, sql, &args, &c, ei);
}

hark_err hk_pg_rows_drop(hk_pg *to, uint64_t consumer, uint32_t share, const uint64_t *seqs,
                         size_t n, hark_errinfo *ei)
{
    return drop(to, &drop_rows, consumer, share, seqs, n, ei);
}

static void add_row(hk_pg_columns *c, const hark_store_row *r)
{
    const int64_t numbers[] = {(int64_t)r->sequence, r->state,  r->attempts, r->crashes,
                               r->interruptions,     r->due_ns, r->first_ns};
    for (size_t i = 0; i < HK_COUNTOF(numbers); i++)
        hk_pg_array_int(&c->at[i], numbers[i]);
    hk_pg_column_str(c, 7, r->key);
    hk_pg_column_str(c, 8, r->error);
}

hark_err hk_pg_rows_put(hk_pg *to, uint64_t consumer, uint32_t share, const hark_store_row *rows,
                        size_t n, hark_errinfo *ei)
{
    hk_pg_args args;
    hk_pg_columns c;
    if (n == 0)
        return HARK_OK;
    hk_pg_head(&args, consumer, share);
    hk_pg_columns_init(&c, "iiiiiiitt");
    for (size_t i = 0; i < n; i++)
        add_row(&c, &rows[i]);
    return send_columns(to, &put_rows, &args, &c, ei);
}

hark_err hk_pg_share_set(hk_pg *to, uint64_t consumer, const hark_store_claim *state,
                         hark_errinfo *ei)
{
    hk_pg_args args;
    hk_buf settled = {0};
    hk_ranges_encode(state->floor, state->settled, state->n_settled, &settled);
    hk_pg_head(&args, consumer, state->share);
    hk_pg_int(&args, (int64_t)state->floor);
    hk_pg_int(&args, (int64_t)state->highest);
    hk_pg_blob(&args, settled.len ? settled.data : NULL, settled.len);
    hark_err err = settled.failed ? no_memory(ei) : hk_pg_send(to, &set_share, &args, ei);
    hk_buf_free(&settled);
    return err;
}

/* ---- what goes with a save --------------------------------------------------------------------- */

static void add_attempt(hk_pg_columns *c, const hark_store_attempt *a)
{
    const int64_t numbers[] = {(int64_t)a->sequence, a->number, a->started_ns, a->ended_ns};
    for (size_t i = 0; i < HK_COUNTOF(numbers); i++)
        hk_pg_array_int(&c->at[i], numbers[i]);
    hk_pg_column_str(c, 4, a->outcome);
    hk_pg_column_str(c, 5, a->error);
}

static hark_err put_attempts(hark_store *s, const hark_store_save *v, hark_errinfo *ei)
{
    hk_pg_args args;
    hk_pg_columns c;
    if (v->n_attempts == 0)
        return HARK_OK;
    hk_pg_head(&args, v->consumer, v->generation);
    hk_pg_columns_init(&c, "iiiitt");
    for (size_t i = 0; i < v->n_attempts; i++)
        add_attempt(&c, &v->attempts[i]);
    return send_columns(&s->w, &add_attempts, &args, &c, ei);
}

static hark_err drop_gaps(hark_store *s, const hark_store_save *v, hark_errinfo *ei)
{
    hk_pg_args args;
    if (!v->gap_done)
        return HARK_OK;
    hk_pg_head(&args, v->consumer, v->gap_done);
    return hk_pg_send(&s->w, &gaps_done, &args, ei);
}

static hark_err tidy(hark_store *s, const hark_store_save *v, hark_errinfo *ei)
{
    hk_pg_columns seqs;
    hk_pg_columns_init(&seqs, "i");
    for (size_t i = v->n_stale; i < v->n_drop; i++)
        hk_pg_array_int(&seqs.at[0], (int64_t)v->drop[i]);
    for (size_t i = 0; i < v->n_dead; i++)
        hk_pg_array_int(&seqs.at[0], (int64_t)hark_event_sequence(v->dead[i].event));
    hark_err err = hk_pg_dead_settled(&s->w, v->consumer, v->share, &seqs, ei);
    hk_pg_columns_free(&seqs);
    return err;
}

/* What settled deliveries leave behind goes last: their attempts may be those of a new letter. */
static hark_err write_rest(hark_store *s, const hark_store_save *v, hark_errinfo *ei)
{
    size_t stale = v->n_stale, rest = v->n_drop - stale;
    hark_err err = drop(&s->w, &drop_stale, v->consumer, v->share, v->drop, stale, ei);
    if (!err && rest > 0)
        err = hk_pg_rows_drop(&s->w, v->consumer, v->share, v->drop + stale, rest, ei);
    if (!err)
        err = hk_pg_rows_put(&s->w, v->consumer, v->share, v->put, v->n_put, ei);
    if (!err)
        err = put_attempts(s, v, ei);
    if (!err)
        err = hk_pg_dead_add(s, v, ei);
    if (!err)
        err = tidy(s, v, ei);
    return err ? err : drop_gaps(s, v, ei);
}

/* ---- judging ----------------------------------------------------------------------------------- */

static void add_save(hk_pg_columns *c, const hark_store_save *v, hk_buf *settled)
{
    hk_buf_clear(settled);
    hk_ranges_encode(v->floor, v->settled, v->n_settled, settled);
    hk_pg_array_int(&c->at[J_CONSUMER], (int64_t)v->consumer);
    hk_pg_array_int(&c->at[J_GENERATION], (int64_t)v->generation);
    hk_pg_array_int(&c->at[J_SHARE], v->share);
    hk_pg_array_int(&c->at[J_TOKEN], (int64_t)v->token);
    hk_pg_array_int(&c->at[J_FLOOR], (int64_t)v->floor);
    hk_pg_array_int(&c->at[J_HIGHEST], (int64_t)v->highest);
    hk_pg_array_int(&c->at[J_CLAIMED], (int64_t)v->claimed);
    hk_pg_array_add(&c->at[J_SETTLED], settled->len ? settled->data : NULL, settled->len);
}

/* To be freed even when it fails. */
static hark_err columns_of(const hark_store_save *v, size_t n, hk_pg_columns *ret, hk_pg_args *args,
                           hark_errinfo *ei)
{
    hk_buf settled = {0};
    hk_pg_columns_init(ret, J_KINDS);
    for (size_t i = 0; i < n; i++)
        add_save(ret, &v[i], &settled);
    hark_err err = settled.failed ? no_memory(ei) : hk_pg_columns_args(ret, args, ei);
    hk_buf_free(&settled);
    return err;
}

/* A row for each of the saves that is good, with its place from 1. Its share is locked from then on. */
static hark_err judge(hark_store *s, const hark_store_save *v, size_t n, PGresult **ret,
                      hark_errinfo *ei)
{
    hk_pg_args args = {0};
    hk_pg_columns c;
    hark_err err = columns_of(v, n, &c, &args, ei);
    if (!err)
        err = hk_pg_run(&s->w, &judge_all, &args, ret, "saving a consumer", ei);
    hk_pg_columns_free(&c);
    return err;
}

/* Why a save was not good: HARK_ENOTFOUND or HARK_ESTALE as its verdict. */
static hark_err find_why(hark_store *s, const hark_store_save *v, hark_err *ret, hark_errinfo *ei)
{
    hk_pg_args args;
    PGresult *r = NULL;
    hk_pg_head(&args, v->consumer, v->generation);
    hark_err err = hk_pg_run(&s->w, &is_present, &args, &r, "looking up a consumer", ei);
    if (!err)
        *ret = PQntuples(r) > 0 ? HARK_ESTALE : HARK_ENOTFOUND;
    PQclear(r);
    return err;
}

static bool is_good(const PGresult *r, size_t i)
{
    for (int row = 0; row < PQntuples(r); row++)
        if (hk_pg_get_int(r, row, 0) == (int64_t)i + 1)
            return true;
    return false;
}

/* Verdicts go to `late` where a save has it, and to *ret, which is the last one's. */
static hark_err save_all(hark_store *s, const hark_store_save *v, size_t n, hark_err *ret,
                         hark_errinfo *ei)
{
    PGresult *r = NULL;
    hark_err err = judge(s, v, n, &r, ei);
    for (size_t i = 0; i < n && !err; i++) {
        hark_err verdict = HARK_OK;
        if (is_good(r, i))
            err = write_rest(s, &v[i], ei);
        else
            err = find_why(s, &v[i], &verdict, ei);
        if (v[i].late)
            *v[i].late = verdict;
        *ret = verdict;
    }
    PQclear(r);
    return err;
}

/* The group goes on after a refusal, so that what was sent until then must not be refused. */
static hark_err end_group(hark_err err, hark_errinfo *ei)
{
    if (!err || hark_err_class(err) != HARK_CLASS_REFUSED)
        return err;
    return hk_wrap(ei, HARK_ESTORE, "the state of a consumer cannot be saved (%s)",
                   hark_err_name(err));
}

/* ---- saves that wait --------------------------------------------------------------------------- */

hark_err hk_pg_saves_flush(hark_store *s, hark_errinfo *ei)
{
    hark_err verdict;
    size_t n = s->saves.n;
    if (HK_LIKELY(n == 0))
        return HARK_OK;
    s->saves.n = 0;
    hark_err err = hk_pg_enter(s, "consumer_save", ei);
    return err ? err : end_group(save_all(s, s->saves.list, n, &verdict, ei), ei);
}

hark_err hk_pg_saves_send(hark_store *s, hark_errinfo *ei)
{
    hk_pg_args args = {0};
    hk_pg_columns c;
    if (s->saves.n == 0)
        return HARK_OK;
    hark_err err = columns_of(s->saves.list, s->saves.n, &c, &args, ei);
    hk_pg_int(&args, (int64_t)s->saves.n);
    if (!err)
        err = hk_pg_send(&s->w, &all_good, &args, ei);
    for (size_t i = 0; i < s->saves.n && !err; i++)
        err = write_rest(s, &s->saves.list[i], ei);
    hk_pg_columns_free(&c);
    return end_group(err, ei);
}

void hk_pg_saves_good(hark_store *s)
{
    for (size_t i = 0; i < s->saves.n; i++)
        *s->saves.list[i].late = HARK_OK;
}

void hk_pg_saves_end(hark_store *s, bool committed)
{
    if (s->saves.tell && committed)
        hk_mark_set(&s->hint_shares, 1);
    s->saves.tell = false;
    s->saves.n = 0;
}

/* One statement cannot save the same share twice. */
static bool waits(const hark_store *s, const hark_store_save *v)
{
    for (size_t i = 0; i < s->saves.n; i++)
        if (s->saves.list[i].consumer == v->consumer && s->saves.list[i].share == v->share)
            return true;
    return false;
}

static hark_err wait_with(hark_store *s, const hark_store_save *v, hark_errinfo *ei)
{
    hark_err err = waits(s, v) ? hk_pg_saves_flush(s, ei) : HARK_OK;
    if (err)
        return err;
    hark_store_save *list =
        hk_array_room(s->saves.list, s->saves.n, &s->saves.cap, 32, sizeof *list);
    if (!list)
        return end_group(no_memory(ei), ei);
    s->saves.list = list;
    list[s->saves.n++] = *v;
    return HARK_OK;
}

static hark_err refused(const hark_store_save *v, hark_err verdict, hark_errinfo *ei)
{
    if (verdict == HARK_ENOTFOUND)
        return hk_fail(ei, verdict, "consumer %llu of generation %llu is not there any more",
                       (unsigned long long)v->consumer, (unsigned long long)v->generation);
    return hk_fail(ei, verdict,
                   "share %u of consumer %llu is another process's now; what was not saved of it "
                   "is delivered there",
                   v->share, (unsigned long long)v->consumer);
}

hark_err hk_pg_consumer_save(hark_store *s, const hark_store_save *v, hark_errinfo *ei)
{
    hark_err verdict = HARK_OK, err;
    if (!s->in_group)
        return hk_fail(ei, HARK_EINTERNAL, "consumer_save outside of a group");
    if (v->late && v->n_dead == 0) /* ids of dead letters are wanted at once */
        return wait_with(s, v, ei);
    err = hk_pg_enter(s, "consumer_save", ei);
    if (err)
        return err;
    if (v->n_dead) /* they are announced: the log comes before the shares, see group.c */
        err = hk_pg_log_take(s, "consumer_save", ei);
    if (!err && waits(s, v))
        err = hk_pg_saves_flush(s, ei);
    if (!err)
        err = end_group(save_all(s, v, 1, &verdict, ei), ei);
    return !err && verdict ? refused(v, verdict, ei) : err;
}
