/* Saves what the delivery core decided: a consumer's floor and settled set, its open rows and finished attempts,
 * all in the group's one transaction and with one answer to wait for (two with dead letters, whose ids are needed: see
 * dead.c). The consumer itself goes last, since its outcome is the answer: what goes before it does nothing unless
 * consumer and generation are there. */
#include "store/postgres/ledger_i.h"

static const hk_pg_sql save_state = {
    "save_state", "UPDATE @consumers SET floor = $3::int8, highest = $4::int8, settled = $5::bytea "
                  "WHERE id = $1::int8 AND generation = $2::int8"};
static const hk_pg_sql drop_rows = {
    "save_drop", "DELETE FROM @deliveries WHERE consumer_id = $1::int8 AND seq = ANY($3::int8[]) "
                 "AND " HK_PG_PRESENT};
/* What an ack has settled (HK_ROW_SETTLED) stays: the save may be of before it. Of two rows for one sequence the
 * later one counts. */
static const hk_pg_sql put_rows = {
    "save_put",
    "INSERT INTO @deliveries AS r(consumer_id, seq, state, attempts, crashes, interruptions, due, "
    "first, partitionkey, error) SELECT DISTINCT ON (x.seq) $1::int8, x.seq, x.state, x.attempts, "
    "x.crashes, x.interruptions, x.due, x.first, x.partitionkey, x.error FROM "
    "unnest($3::int8[], $4::int8[], $5::int8[], $6::int8[], $7::int8[], $8::int8[], $9::int8[], "
    "$10::text[], $11::text[]) WITH ORDINALITY AS x(seq, state, attempts, crashes, interruptions, "
    "due, first, partitionkey, error, ord) WHERE " HK_PG_PRESENT " ORDER BY x.seq, x.ord DESC "
    "ON CONFLICT (consumer_id, seq) DO UPDATE SET state = excluded.state, "
    "attempts = excluded.attempts, crashes = excluded.crashes, "
    "interruptions = excluded.interruptions, due = excluded.due, first = excluded.first, "
    "partitionkey = excluded.partitionkey, error = excluded.error WHERE r.state <> 6"};
static const hk_pg_sql add_attempts = {
    "save_attempts",
    "INSERT INTO @attempts(consumer_id, generation, seq, number, started, ended, outcome, error) "
    "SELECT $1::int8, $2::int8, x.seq, x.number, x.started, x.ended, x.outcome, x.error FROM "
    "unnest($3::int8[], $4::int8[], $5::int8[], $6::int8[], $7::text[], $8::text[]) "
    "WITH ORDINALITY AS x(seq, number, started, ended, outcome, error, ord) WHERE " HK_PG_PRESENT
    " ORDER BY x.ord"};
static const hk_pg_sql gaps_done = {
    "save_gaps",
    "DELETE FROM @gaps WHERE consumer_id = $1::int8 AND last <= $3::int8 AND " HK_PG_PRESENT};
/* Sends, with what `args` has already and these columns, and frees them. */
static hark_err send_columns(hark_store *s, const hk_pg_sql *sql, hk_pg_args *args,
                             hk_pg_columns *c, hark_errinfo *ei)
{
    hark_err err = hk_pg_columns_args(c, args, ei);
    if (!err)
        err = hk_pg_send(&s->w, sql, args, ei);
    hk_pg_columns_free(c);
    return err;
}

static hark_err drop(hark_store *s, const hark_store_save *v, hark_errinfo *ei)
{
    hk_pg_args args;
    hk_pg_columns c;
    if (v->n_drop == 0)
        return HARK_OK;
    hk_pg_head(&args, v->consumer, v->generation);
    hk_pg_columns_init(&c, "i");
    for (size_t i = 0; i < v->n_drop; i++)
        hk_pg_array_int(&c.at[0], (int64_t)v->drop[i]);
    return send_columns(s, &drop_rows, &args, &c, ei);
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

hark_err hk_pg_rows_put(hark_store *s, uint64_t consumer, uint64_t generation,
                        const hark_store_row *rows, size_t n, hark_errinfo *ei)
{
    hk_pg_args args;
    hk_pg_columns c;
    if (n == 0)
        return HARK_OK;
    hk_pg_head(&args, consumer, generation);
    hk_pg_columns_init(&c, "iiiiiiitt");
    for (size_t i = 0; i < n; i++)
        add_row(&c, &rows[i]);
    return send_columns(s, &put_rows, &args, &c, ei);
}

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
    return send_columns(s, &add_attempts, &args, &c, ei);
}

static hark_err drop_gaps(hark_store *s, const hark_store_save *v, hark_errinfo *ei)
{
    hk_pg_args args;
    if (!v->gap_done)
        return HARK_OK;
    hk_pg_head(&args, v->consumer, v->generation);
    hk_pg_int(&args, (int64_t)v->gap_done);
    return hk_pg_send(&s->w, &gaps_done, &args, ei);
}

/* The answer to all of it. */
static hark_err save_consumer(hark_store *s, const hark_store_save *v, bool *ret_present,
                              hark_errinfo *ei)
{
    hk_pg_args args;
    hk_buf settled = {0};
    uint64_t changed = 0;
    hk_ranges_encode(v->floor, v->settled, v->n_settled, &settled);
    if (settled.failed) {
        hk_buf_free(&settled);
        return hk_fail(ei, HARK_ENOMEM, "no memory for the state of a consumer");
    }
    hk_pg_head(&args, v->consumer, v->generation);
    hk_pg_int(&args, (int64_t)v->floor);
    hk_pg_int(&args, (int64_t)v->highest);
    hk_pg_blob(&args, settled.len ? settled.data : NULL, settled.len);
    hark_err err = hk_pg_run_count(&s->w, &save_state, &args, &changed, "saving a consumer", ei);
    hk_buf_free(&settled);
    *ret_present = changed > 0;
    return err;
}

/* What settled deliveries leave behind goes last: their attempts may be those of a new letter. */
static hark_err save_all(hark_store *s, const hark_store_save *v, bool *ret_present,
                         hark_errinfo *ei)
{
    hark_err err = drop(s, v, ei);
    if (!err)
        err = hk_pg_rows_put(s, v->consumer, v->generation, v->put, v->n_put, ei);
    if (!err)
        err = put_attempts(s, v, ei);
    if (!err)
        err = hk_pg_dead_add(s, v, ret_present, ei);
    if (err || !*ret_present)
        return err;
    err = hk_pg_dead_settled(s, v, ei);
    if (!err)
        err = drop_gaps(s, v, ei);
    return err ? err : save_consumer(s, v, ret_present, ei);
}

/* The group goes on after a refusal, so that what was sent until then must not be refused. */
static hark_err end_group(hark_err err, uint64_t consumer, hark_errinfo *ei)
{
    if (!err || hark_err_class(err) != HARK_CLASS_REFUSED)
        return err;
    return hk_wrap(ei, HARK_ESTORE, "the state of consumer %llu cannot be saved (%s)",
                   (unsigned long long)consumer, hark_err_name(err));
}

hark_err hk_pg_consumer_save(hark_store *s, const hark_store_save *v, hark_errinfo *ei)
{
    bool present = true;
    hark_err err = hk_pg_enter(s, "consumer_save", ei);
    if (err)
        return err;
    err = end_group(save_all(s, v, &present, ei), v->consumer, ei);
    if (!err && !present)
        err = hk_fail(ei, HARK_ENOTFOUND, "consumer %llu of generation %llu is not there any more",
                      (unsigned long long)v->consumer, (unsigned long long)v->generation);
    return err;
}
