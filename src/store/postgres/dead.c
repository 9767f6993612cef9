/* Writes dead letters, and removes what deliveries leave behind that have ended. A letter holds its own copy of the
 * event: the envelope as CloudEvents JSON, the data byte for byte, so that it outlives the log's retention. Lists
 * are in letters.c, what becomes of a letter in redrive.c. */
#include "store/postgres/ledger_i.h"

#include <stdlib.h>

/* A statement takes letters of about so many bytes of data: the server's bound is 1 GiB for all of it. */
enum { CHUNK_BYTES = 64 << 20 };

/* Ids in the order of the rows. */
static const hk_pg_sql add = {
    "dead_add",
    "INSERT INTO @dead_letters(consumer_id, generation, seq, reason, error, attempts, crashes, "
    "interruptions, first, dead, state, recorded, type, dataversion, envelope, data) "
    "SELECT $1::int8, $2::int8, x.seq, x.reason, x.error, x.attempts, x.crashes, x.interruptions, "
    "x.first, x.dead, 1, x.recorded, x.type, x.dataversion, x.envelope, x.data FROM "
    "unnest($3::int8[], $4::text[], $5::text[], $6::int8[], $7::int8[], $8::int8[], $9::int8[], "
    "$10::int8[], $11::int8[], $12::text[], $13::int8[], $14::text[], $15::bytea[]) "
    "WITH ORDINALITY AS x(seq, reason, error, attempts, crashes, interruptions, first, dead, "
    "recorded, type, dataversion, envelope, data, ord) ORDER BY x.ord RETURNING id"};
enum {
    L_SEQ,
    L_REASON,
    L_ERROR,
    L_ATTEMPTS,
    L_CRASHES,
    L_INTERRUPTIONS,
    L_FIRST,
    L_DEAD,
    L_RECORDED,
    L_TYPE,
    L_VERSION,
    L_ENVELOPE,
    L_DATA
};
#define L_KINDS "ittiiiiiititb"

/* By the index of those that are redriven, which are few; "+ 0" keeps the planner from the one of all letters of
 * the consumer. */
static const hk_pg_sql drop_redriven = {"dead_drop_redriven",
                                        "DELETE FROM @dead_letters d WHERE d.seq = ANY($3::int8[]) "
                                        "AND d.consumer_id + 0 = $1::int8 AND "
                                        "d.state = 2 AND $2::int8 >= 0"};
/* Looked at by sequence: mostly the event is there, and nothing is asked further. */
#define LEFT_OVER(share)                                                                           \
    HK_PG_NO_EVENT " AND " HK_PG_NO_LETTER " AND (SELECT 1 FROM @deliveries r WHERE "              \
                   "r.consumer_id = $1::int8 AND r.share = " share                                 \
                   " AND r.seq = a.seq LIMIT 1) IS NULL"
static const hk_pg_sql tidy = {"attempts_tidy",
                               "DELETE FROM @attempts t WHERE t.seq = ANY(ARRAY(SELECT a.seq FROM "
                               "unnest($3::int8[]) AS a(seq) "
                               "WHERE " LEFT_OVER("$2::int8") ")) AND t.consumer_id = $1::int8"};
static const hk_pg_sql tidy_one = {
    "attempts_tidy_one",
    "DELETE FROM @attempts a WHERE a.seq = $2::int8 AND a.consumer_id = $1::int8 AND " LEFT_OVER(
        HK_PG_EACH_SHARE)};

static hark_err add_letter(hk_pg_columns *c, const hark_store_dead *d, hark_errinfo *ei)
{
    char *json;
    size_t json_len, len;
    const void *data = hark_event_data(d->event, &len);
    hark_err err = hk_envelope_text(d->event, &json, &json_len, ei);
    if (err)
        return err;
    hk_pg_array_int(&c->at[L_SEQ], (int64_t)hark_event_sequence(d->event));
    hk_pg_column_str(c, L_REASON, d->reason);
    hk_pg_column_str(c, L_ERROR, d->error);
    hk_pg_array_int(&c->at[L_ATTEMPTS], d->attempts);
    hk_pg_array_int(&c->at[L_CRASHES], d->crashes);
    hk_pg_array_int(&c->at[L_INTERRUPTIONS], d->interruptions);
    hk_pg_array_int(&c->at[L_FIRST], d->first_ns);
    hk_pg_array_int(&c->at[L_DEAD], d->dead_ns);
    hk_pg_array_int(&c->at[L_RECORDED], hark_event_recorded_ns(d->event));
    hk_pg_column_str(c, L_TYPE, hark_event_type(d->event));
    hk_pg_array_int(&c->at[L_VERSION], hark_event_dataversion(d->event));
    hk_pg_array_add(&c->at[L_ENVELOPE], json, json_len);
    hk_pg_array_add(&c->at[L_DATA], data, len);
    free(json);
    return HARK_OK;
}

/* So many letters, from the first on, as a statement takes; at least one. */
static hark_err fill(hk_pg_columns *c, const hark_store_dead *dead, size_t n, size_t *ret_n,
                     hark_errinfo *ei)
{
    hark_err err = HARK_OK;
    size_t i = 0;
    while (i < n && !err && c->at[L_DATA].bytes.len < CHUNK_BYTES)
        err = add_letter(c, &dead[i++], ei);
    *ret_n = i;
    return err;
}

static hark_err add_chunk(hark_store *s, const hark_store_save *v, hark_store_dead *dead, size_t n,
                          size_t *ret_n, hark_errinfo *ei)
{
    hk_pg_args args;
    hk_pg_columns c;
    PGresult *r = NULL;
    hk_pg_head(&args, v->consumer, v->generation);
    hk_pg_columns_init(&c, L_KINDS);
    hark_err err = fill(&c, dead, n, ret_n, ei);
    if (!err)
        err = hk_pg_columns_args(&c, &args, ei);
    if (!err)
        err = hk_pg_run(&s->w, &add, &args, &r, "writing a dead letter", ei);
    hk_pg_columns_free(&c);
    for (int i = 0; !err && i < PQntuples(r); i++)
        dead[i].ret_id = (uint64_t)hk_pg_get_int(r, i, 0);
    PQclear(r);
    return err;
}

hark_err hk_pg_dead_add(hark_store *s, const hark_store_save *v, hark_errinfo *ei)
{
    hark_err err = HARK_OK;
    for (size_t i = 0, n = 0; i < v->n_dead && !err; i += n)
        err = add_chunk(s, v, v->dead + i, v->n_dead - i, &n, ei);
    return err;
}

/* A redriven event that died again has one letter, the new one. It comes before the old one goes: the attempts
 * are of both. */
hark_err hk_pg_dead_settled(hk_pg *c, uint64_t consumer, uint32_t share, hk_pg_columns *seqs,
                            hark_errinfo *ei)
{
    hk_pg_args args;
    if (seqs->at[0].n == 0)
        return HARK_OK;
    hk_pg_head(&args, consumer, share);
    hark_err err = hk_pg_columns_args(seqs, &args, ei);
    if (!err)
        err = hk_pg_send(c, &drop_redriven, &args, ei);
    return err ? err : hk_pg_send(c, &tidy, &args, ei);
}

hark_err hk_pg_attempts_tidy(hark_store *s, uint64_t consumer, uint64_t sequence, hark_errinfo *ei)
{
    hk_pg_args args;
    hk_pg_head(&args, consumer, sequence);
    return hk_pg_run(&s->w, &tidy_one, &args, NULL, "tidying a dead letter's attempts", ei);
}
