/* What becomes of a dead letter: redriven, it is an open row of its consumer again and goes with that row; discarded,
 * it is gone, and with it the row that parked its lane. Everything is looked up and judged before anything is
 * written, so that a refusal leaves nothing behind in the group. */
#include "store/postgres/ledger_i.h"

#include <stdio.h>
#include <stdlib.h>

static const hk_pg_sql find_one = {
    "letter_find", "SELECT d.consumer_id, d.seq, d.envelope, r.share, r.partitionkey FROM "
                   "@dead_letters d LEFT JOIN LATERAL (SELECT x.share, x.partitionkey FROM "
                   "@deliveries x WHERE x.consumer_id = d.consumer_id AND x.share = ANY(ARRAY("
                   "SELECT h.share FROM @shares h WHERE h.consumer_id = d.consumer_id)) AND x.seq "
                   "= d.seq LIMIT 1) r ON true WHERE d.id = $1::int8"};
enum { F_CONSUMER, F_SEQ, F_ENVELOPE, F_SHARE, F_KEY };

/* News are numbered under this lock, so that their numbers grow as they are committed. */
static const hk_pg_sql lock_consumer = {
    "letter_lock", "SELECT shares FROM @consumers WHERE id = $1::int8 FOR NO KEY UPDATE"};
static const hk_pg_sql lock_share = {"letter_lock_share",
                                     "SELECT owner, token, floor FROM @shares WHERE consumer_id = "
                                     "$1::int8 AND share = $2::int8 FOR NO KEY UPDATE"};
enum { S_OWNER, S_TOKEN, S_FLOOR };

static const hk_pg_sql find_state = {
    "letter_state",
    "SELECT d.generation, d.state, c.generation, (SELECT r.state FROM @deliveries r WHERE "
    "r.consumer_id = d.consumer_id AND r.share = $2::int8 AND r.seq = d.seq) FROM @dead_letters d "
    "LEFT JOIN @consumers c ON c.id = d.consumer_id WHERE d.id = $1::int8"};
enum { N_GENERATION, N_STATE, N_NOW, N_ROW };

static const hk_pg_sql mark_redriven = {
    "letter_redrive", "UPDATE @dead_letters SET state = 2 WHERE consumer_id = $1::int8 AND "
                      "seq = $2::int8 AND state = 1"};
static const hk_pg_sql drop_letter = {"letter_drop",
                                      "DELETE FROM @dead_letters WHERE id = $1::int8"};
static const hk_pg_sql add_news = {
    "letter_news", "INSERT INTO @news(consumer_id, share, kind, seq, due, key) VALUES($1::int8, "
                   "($2::int8)::int4, $3::int8, $4::int8, $5::int8, $6::text)"};

/* All that the decision needs. */
typedef struct letter {
    uint64_t id, consumer, generation, seq;
    int64_t state;
    uint64_t now;   /* the consumer's generation; 0 = the consumer is not there */
    uint32_t share; /* of the event; when that is damaged and there is no row, none is known: 0 */
    bool placed;    /* by its row */
    uint64_t floor; /* the share's */
    int64_t row;    /* state of the open row; 0 = there is none */
    bool settled;   /* by an ack that the floor does not tell yet */
    char *key;      /* lane */
    bool damaged;   /* its event cannot be read */
    bool remote;    /* another process has the share, or nobody */
} letter;

static hark_err copy_key(letter *l, const char *key, hark_errinfo *ei)
{
    l->key = hk_strdup(key);
    return l->key || !key ? HARK_OK
                          : hk_fail(ei, HARK_ENOMEM, "no memory for dead letter %llu",
                                    (unsigned long long)l->id);
}

/* The lane that the event would be in. A letter whose event is damaged can still be discarded. */
static hark_err key_of_event(const PGresult *r, letter *l, hark_errinfo *ei)
{
    char what[48];
    size_t len;
    const char *json = hk_pg_get_text(r, 0, F_ENVELOPE, &len);
    hark_event *e;
    (void)snprintf(what, sizeof what, "dead letter %llu", (unsigned long long)l->id);
    hark_err err = hk_envelope_event(json, len, NULL, 0, what, &e, ei);
    l->damaged = err == HARK_ECORRUPT;
    if (err)
        return l->damaged ? HARK_OK : err;
    err = copy_key(l, hark_event_key(e), ei);
    hark_event_unref(e);
    return err;
}

static hark_err no_letter(uint64_t id, hark_errinfo *ei)
{
    return hk_fail(ei, HARK_ENOTFOUND,
                   "there is no dead letter %llu (any more); list the dead letters",
                   (unsigned long long)id);
}

/* Whose it is, which never changes. The row's own lane is the one that counts, if there is a row. */
static hark_err find_place(hark_store *s, letter *l, hark_errinfo *ei)
{
    hk_pg_args args = {.n = 0};
    PGresult *r = NULL;
    hk_pg_int(&args, (int64_t)l->id);
    hark_err err = hk_pg_run(&s->w, &find_one, &args, &r, "looking up a dead letter", ei);
    if (!err && PQntuples(r) == 0)
        err = no_letter(l->id, ei);
    if (!err) {
        l->consumer = (uint64_t)hk_pg_get_int(r, 0, F_CONSUMER);
        l->seq = (uint64_t)hk_pg_get_int(r, 0, F_SEQ);
        l->share = (uint32_t)hk_pg_get_int(r, 0, F_SHARE);
        err = key_of_event(r, l, ei);
    }
    if (!err && !PQgetisnull(r, 0, F_SHARE)) {
        l->placed = true;
        free(l->key);
        err = copy_key(l, hk_pg_get_text(r, 0, F_KEY, NULL), ei);
    }
    PQclear(r);
    return err;
}

static hark_err lock(hark_store *s, letter *l, hark_errinfo *ei)
{
    hk_pg_args args = {.n = 0};
    PGresult *r = NULL;
    hk_pg_int(&args, (int64_t)l->consumer);
    hark_err err = hk_pg_run(&s->w, &lock_consumer, &args, &r, "looking up a consumer", ei);
    uint32_t shares = !err && PQntuples(r) > 0 ? (uint32_t)hk_pg_get_int(r, 0, 0) : 0;
    PQclear(r);
    r = NULL;
    if (err || !shares)
        return err;
    if (!l->placed && !l->damaged)
        l->share = hark_store_share_of(l->key, l->seq, shares);
    hk_pg_int(&args, l->share);
    err = hk_pg_run(&s->w, &lock_share, &args, &r, "looking up a share", ei);
    if (!err && PQntuples(r) > 0) {
        l->floor = (uint64_t)hk_pg_get_int(r, 0, S_FLOOR);
        l->remote =
            (uint64_t)hk_pg_get_int(r, 0, S_OWNER) != hk_mark_get(&s->process) ||
            !hk_pg_known_taken(s, l->consumer, l->share, (uint64_t)hk_pg_get_int(r, 0, S_TOKEN));
    }
    PQclear(r);
    return err;
}

/* With the share locked: nobody changes any of this until the group ends. */
static hark_err find_now(hark_store *s, letter *l, hark_errinfo *ei)
{
    hk_pg_args args;
    PGresult *r = NULL;
    hk_pg_head(&args, l->id, l->share);
    hark_err err = hk_pg_run(&s->w, &find_state, &args, &r, "looking up a dead letter", ei);
    if (!err && PQntuples(r) == 0)
        err = no_letter(l->id, ei);
    if (!err) {
        l->generation = (uint64_t)hk_pg_get_int(r, 0, N_GENERATION);
        l->state = hk_pg_get_int(r, 0, N_STATE);
        l->now = (uint64_t)hk_pg_get_int(r, 0, N_NOW);
        l->row = hk_pg_get_int(r, 0, N_ROW);
        l->settled = l->row == HK_ROW_SETTLED;
        if (l->settled)
            l->row = 0;
    }
    PQclear(r);
    return err;
}

static hark_err find(hark_store *s, uint64_t id, letter *l, hark_errinfo *ei)
{
    *l = (letter){.id = id};
    hark_err err = hk_pg_saves_flush(s, ei);
    if (!err)
        err = find_place(s, l, ei);
    if (!err)
        err = lock(s, l, ei);
    if (!err)
        err = find_now(s, l, ei);
    if (!err && l->state != HARK_LETTER_DEAD)
        err = hk_fail(ei, HARK_ECONFLICT,
                      "dead letter %llu is being redriven already; wait for what comes of it",
                      (unsigned long long)id);
    return err;
}

/* The share's process learns of it by `shares`. */
static hark_err tell(hark_store *s, const letter *l, hark_news_kind kind, int64_t due_ns,
                     hark_errinfo *ei)
{
    hk_pg_args args;
    if (!l->remote)
        return HARK_OK;
    s->saves.tell = true;
    hk_pg_head(&args, l->consumer, l->share);
    hk_pg_int(&args, kind);
    hk_pg_int(&args, (int64_t)l->seq);
    hk_pg_int(&args, due_ns);
    hk_pg_text(&args, l->key);
    return hk_pg_send(&s->w, &add_news, &args, ei);
}

/* The key goes to the caller. */
static void answer(letter *l, bool parked, hark_store_letter_done *ret)
{
    *ret = (hark_store_letter_done){.consumer = l->consumer,
                                    .generation = l->now,
                                    .sequence = l->seq,
                                    .key = l->key,
                                    .parked = parked,
                                    .remote = l->remote};
    l->key = NULL;
}

/* ---- redrive --------------------------------------------------------------------------------- */

static hark_err may_redrive(const letter *l, hark_errinfo *ei)
{
    if (!l->now)
        return hk_fail(ei, HARK_ENOTFOUND,
                       "the consumer of dead letter %llu is not there any more; discard it",
                       (unsigned long long)l->id);
    if (l->row && l->row != HARK_ROW_DEAD)
        return hk_fail(ei, HARK_ECONFLICT,
                       "sequence %llu of dead letter %llu is being delivered again; wait for what "
                       "comes of it",
                       (unsigned long long)l->seq, (unsigned long long)l->id);
    if (l->settled) /* a save that drops the row may be collected: it would drop the new one */
        return hk_fail(ei, HARK_EAGAIN,
                       "sequence %llu of dead letter %llu was settled this moment, or its consumer "
                       "is not open; try again when it is",
                       (unsigned long long)l->seq, (unsigned long long)l->id);
    if (!l->row && l->generation != l->now && l->seq > l->floor)
        return hk_fail(ei, HARK_EAGAIN,
                       "the consumer of dead letter %llu was reset and comes to sequence %llu by "
                       "itself; try again when it is past it",
                       (unsigned long long)l->id, (unsigned long long)l->seq);
    if (!l->row && l->damaged)
        return hk_fail(ei, HARK_ECORRUPT,
                       "the event of dead letter %llu is damaged; discard it, or restore the "
                       "database from a backup",
                       (unsigned long long)l->id);
    return HARK_OK;
}

/* One delivery answers for every dead letter of this consumer and event. */
static hark_err reopen(hark_store *s, const letter *l, int64_t due_ns, hark_errinfo *ei)
{
    const hark_store_row row = {
        .sequence = l->seq, .state = HARK_ROW_RETRY, .due_ns = due_ns, .key = l->key};
    hk_pg_args args;
    hark_err err = hk_pg_rows_put(&s->w, l->consumer, l->share, &row, 1, ei);
    if (!err)
        err = tell(s, l, HARK_NEWS_REDRIVEN, due_ns, ei);
    hk_pg_head(&args, l->consumer, l->seq);
    return err ? err : hk_pg_run(&s->w, &mark_redriven, &args, NULL, "redriving a dead letter", ei);
}

hark_err hk_pg_letter_redrive(hark_store *s, uint64_t id, int64_t due_ns,
                              hark_store_letter_done *ret, hark_errinfo *ei)
{
    letter l = {0};
    hark_err err = hk_pg_enter(s, "letter_redrive", ei);
    if (!err)
        err = find(s, id, &l, ei);
    if (!err)
        err = may_redrive(&l, ei);
    if (!err)
        err = reopen(s, &l, due_ns, ei);
    if (!err)
        answer(&l, l.row == HARK_ROW_DEAD, ret);
    free(l.key);
    return err;
}

/* ---- discard --------------------------------------------------------------------------------- */

static hark_err discard(hark_store *s, const letter *l, bool parked, hark_errinfo *ei)
{
    hk_pg_args args = {.n = 0};
    hark_err err = HARK_OK;
    if (parked)
        err = hk_pg_rows_drop(&s->w, l->consumer, l->share, &l->seq, 1, ei);
    if (parked && !err)
        err = tell(s, l, HARK_NEWS_DISCARDED, 0, ei);
    hk_pg_int(&args, (int64_t)l->id);
    if (!err)
        err = hk_pg_send(&s->w, &drop_letter, &args, ei);
    return err ? err : hk_pg_attempts_tidy(s, l->consumer, l->seq, ei);
}

hark_err hk_pg_letter_discard(hark_store *s, uint64_t id, hark_store_letter_done *ret,
                              hark_errinfo *ei)
{
    letter l = {0};
    hark_err err = hk_pg_enter(s, "letter_discard", ei);
    if (!err)
        err = find(s, id, &l, ei);
    /* The row of a later generation is parked by a later letter. */
    bool parked = !err && l.row == HARK_ROW_DEAD && l.generation == l.now;
    if (!err)
        err = discard(s, &l, parked, ei);
    if (!err)
        answer(&l, parked, ret);
    free(l.key);
    return err;
}
