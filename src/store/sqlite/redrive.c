/* What becomes of a dead letter: redriven, it is an open row of its consumer again and goes with
 * that row; discarded, it is gone, and with it the row that parked its lane. Everything is looked
 * up and judged before anything is written, so that a refusal leaves nothing behind in the group.
 */
#include "store/sqlite/store_i.h"

#include <stdio.h>
#include <stdlib.h>

/* All that the decision needs. */
typedef struct letter {
    uint64_t id, consumer, generation, seq;
    int64_t state;
    uint64_t now;   /* the consumer's generation; 0 = the consumer is not there */
    uint64_t floor; /* the consumer's */
    int64_t row;    /* state of the open row; 0 = there is none */
    bool settled;   /* by an ack that the floor does not tell yet */
    char *key;      /* lane */
    bool damaged;   /* its event cannot be read */
} letter;

static hark_err no_memory(const letter *l, hark_errinfo *ei)
{
    return hk_fail(ei, HARK_ENOMEM, "no memory for dead letter %llu", (unsigned long long)l->id);
}

/* The lane that the event would be in. A letter whose event is damaged can still be discarded. */
static hark_err key_of_event(sqlite3_stmt *st, letter *l, hark_errinfo *ei)
{
    char what[48];
    const char *json;
    hark_event *e;
    if (!hk_column_str(st, 4, &json))
        return no_memory(l, ei);
    (void)snprintf(what, sizeof what, "dead letter %llu", (unsigned long long)l->id);
    hark_err err =
        hk_envelope_event(json, (size_t)sqlite3_column_bytes(st, 4), NULL, 0, what, &e, ei);
    l->damaged = err == HARK_ECORRUPT;
    if (err)
        return l->damaged ? HARK_OK : err;
    const char *key = hark_event_key(e);
    l->key = hk_strdup(key);
    if (key && !l->key)
        err = no_memory(l, ei);
    hark_event_unref(e);
    return err;
}

static hark_err find_letter(hark_store *s, letter *l, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    bool row = false;
    hark_err err = hk_conn_get(&s->conn, HK_SQL_LETTER_AT, &st, ei);
    if (err)
        return err;
    sqlite3_bind_int64(st, 1, (int64_t)l->id);
    err = hk_conn_step(&s->conn, st, &row, "looking up a dead letter", ei);
    if (!err && !row)
        err = hk_fail(ei, HARK_ENOTFOUND,
                      "there is no dead letter %llu (any more); list the dead letters",
                      (unsigned long long)l->id);
    if (!err) {
        l->consumer = (uint64_t)sqlite3_column_int64(st, 0);
        l->generation = (uint64_t)sqlite3_column_int64(st, 1);
        l->seq = (uint64_t)sqlite3_column_int64(st, 2);
        l->state = sqlite3_column_int64(st, 3);
        err = key_of_event(st, l, ei);
    }
    sqlite3_reset(st);
    return err;
}

static hark_err find_consumer(hark_store *s, letter *l, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    bool row = false;
    hark_err err = hk_conn_get(&s->conn, HK_SQL_CONSUMER_AT, &st, ei);
    if (err)
        return err;
    sqlite3_bind_int64(st, 1, (int64_t)l->consumer);
    err = hk_conn_step(&s->conn, st, &row, "looking up a consumer", ei);
    if (!err && row) {
        l->now = (uint64_t)sqlite3_column_int64(st, 0);
        l->floor = (uint64_t)sqlite3_column_int64(st, 1);
    }
    sqlite3_reset(st);
    return err;
}

/* The row's own lane is the one that counts, if there is a row. */
static hark_err find_row(hark_store *s, letter *l, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    bool row = false;
    hark_err err = hk_conn_get(&s->conn, HK_SQL_DELIVERY_AT, &st, ei);
    if (err)
        return err;
    sqlite3_bind_int64(st, 1, (int64_t)l->consumer);
    sqlite3_bind_int64(st, 2, (int64_t)l->seq);
    err = hk_conn_step(&s->conn, st, &row, "looking up a delivery", ei);
    if (!err && row) {
        l->row = sqlite3_column_int64(st, 0);
        l->settled = l->row == HK_ROW_SETTLED;
    }
    if (l->settled) {
        l->row = 0;
    } else if (!err && row) {
        const char *key;
        bool there = hk_column_str(st, 1, &key);
        free(l->key);
        l->key = hk_strdup(key);
        if (!there || (key && !l->key))
            err = no_memory(l, ei);
    }
    sqlite3_reset(st);
    return err;
}

static hark_err find(hark_store *s, uint64_t id, letter *l, hark_errinfo *ei)
{
    *l = (letter){.id = id};
    hark_err err = find_letter(s, l, ei);
    if (!err && l->state != HARK_LETTER_DEAD)
        err = hk_fail(ei, HARK_ECONFLICT,
                      "dead letter %llu is being redriven already; wait for what comes of it",
                      (unsigned long long)id);
    if (!err)
        err = find_consumer(s, l, ei);
    return err ? err : find_row(s, l, ei);
}

/* The key goes to the caller. */
static void answer(letter *l, bool parked, hark_store_letter_done *ret)
{
    *ret = (hark_store_letter_done){.consumer = l->consumer,
                                    .generation = l->now,
                                    .sequence = l->seq,
                                    .key = l->key,
                                    .parked = parked};
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
                       "the event of dead letter %llu is damaged; discard it, or restore the file "
                       "from a backup",
                       (unsigned long long)l->id);
    return HARK_OK;
}

static hark_err put_row(hark_store *s, const letter *l, int64_t due_ns, hark_errinfo *ei)
{
    const hark_store_row r = {
        .sequence = l->seq, .state = HARK_ROW_RETRY, .due_ns = due_ns, .key = l->key};
    return hk_delivery_put(s, l->consumer, &r, ei);
}

/* One delivery answers for every dead letter of this consumer and event. */
static hark_err mark_redriven(hark_store *s, const letter *l, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    hark_err err = hk_conn_get(&s->conn, HK_SQL_LETTER_REDRIVE, &st, ei);
    if (err)
        return err;
    sqlite3_bind_int64(st, 1, (int64_t)l->consumer);
    sqlite3_bind_int64(st, 2, (int64_t)l->seq);
    return hk_conn_run(&s->conn, st, "redriving a dead letter", ei);
}

hark_err hk_sqlite_letter_redrive(hark_store *s, uint64_t id, int64_t due_ns,
                                  hark_store_letter_done *ret, hark_errinfo *ei)
{
    letter l;
    if (!s->in_group)
        return hk_fail(ei, HARK_EINTERNAL, "letter_redrive outside of a group");
    hark_err err = hk_group_note(s, find(s, id, &l, ei));
    if (!err)
        err = may_redrive(&l, ei);
    if (err) {
        free(l.key);
        return err;
    }
    err = put_row(s, &l, due_ns, ei);
    if (!err)
        err = mark_redriven(s, &l, ei);
    if (!err)
        answer(&l, l.row == HARK_ROW_DEAD, ret);
    free(l.key);
    return hk_group_note(s, err);
}

/* ---- discard --------------------------------------------------------------------------------- */

static hark_err drop_letter(hark_store *s, const letter *l, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    hark_err err = hk_conn_get(&s->conn, HK_SQL_LETTER_DROP, &st, ei);
    if (err)
        return err;
    sqlite3_bind_int64(st, 1, (int64_t)l->id);
    err = hk_conn_run(&s->conn, st, "discarding a dead letter", ei);
    return err ? err : hk_attempts_tidy(s, l->consumer, l->seq, ei);
}

hark_err hk_sqlite_letter_discard(hark_store *s, uint64_t id, hark_store_letter_done *ret,
                                  hark_errinfo *ei)
{
    letter l;
    if (!s->in_group)
        return hk_fail(ei, HARK_EINTERNAL, "letter_discard outside of a group");
    hark_err err = find(s, id, &l, ei);
    /* The row of a later generation is parked by a later letter. */
    bool parked = !err && l.row == HARK_ROW_DEAD && l.generation == l.now;
    if (parked)
        err = hk_delivery_drop(s, l.consumer, l.seq, ei);
    if (!err)
        err = drop_letter(s, &l, ei);
    if (!err)
        answer(&l, parked, ret);
    free(l.key);
    return hk_group_note(s, err);
}
