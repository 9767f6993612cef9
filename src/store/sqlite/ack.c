/* Acks that are part of a transaction of the program's: a row says that the delivery is settled, in
 * the same commit as the program's own rows. The consumer's core learns of it after the commit; its
 * next save tells the same by floor and settled set and drops the row. When the process dies in
 * between, the row counts as soon as the consumer is loaded. */
#include "store/sqlite/store_i.h"

/* Has this consumer acked in this group with this generation? A reset forgets it. */
static bool is_acking(const hark_store *s, uint64_t consumer, uint64_t generation)
{
    for (size_t i = 0; i < s->n_acking; i++)
        if (s->acking[i].consumer == consumer)
            return s->acking[i].generation == generation;
    return false;
}

static void note_acking(hark_store *s, uint64_t consumer, uint64_t generation)
{
    if (s->n_acking < HK_ACKING) {
        s->acking[s->n_acking].consumer = consumer;
        s->acking[s->n_acking++].generation = generation;
    }
}

/* The short way, nearly always open: it is not to be looked at whether the consumer is what it was,
 * nor what the row was before, since there is none. */
static hark_err ack_new(hark_store *s, uint64_t consumer, uint64_t seq, bool *ret_done,
                        hark_errinfo *ei)
{
    sqlite3_stmt *st;
    hark_err err = hk_conn_get(&s->conn, HK_SQL_ACK_NEW, &st, ei);
    if (err)
        return err;
    sqlite3_bind_int64(st, 1, (int64_t)consumer);
    sqlite3_bind_int64(st, 2, (int64_t)seq);
    err = hk_conn_run(&s->conn, st, "settling a delivery", ei);
    *ret_done = !err && sqlite3_changes(s->conn.db) > 0;
    return err;
}

hark_err hk_sqlite_ack(hark_store *s, uint64_t consumer, uint64_t generation, uint64_t seq,
                       hark_errinfo *ei)
{
    sqlite3_stmt *st;
    bool done = false;
    hark_err err = HARK_OK;
    if (!s->in_group)
        return hk_fail(ei, HARK_EINTERNAL, "ack outside of a group");
    bool known = is_acking(s, consumer, generation);
    if (known)
        err = ack_new(s, consumer, seq, &done, ei);
    if (!err && !done)
        err = hk_conn_get(&s->conn, HK_SQL_ACK, &st, ei);
    if (err || done)
        return hk_group_note(s, err);
    sqlite3_bind_int64(st, 1, (int64_t)consumer);
    sqlite3_bind_int64(st, 2, (int64_t)generation);
    sqlite3_bind_int64(st, 3, (int64_t)seq);
    err = hk_conn_run(&s->conn, st, "settling a delivery", ei);
    if (!err && sqlite3_changes(s->conn.db) == 0)
        err =
            hk_fail(ei, HARK_ESTALE,
                    "consumer %llu was reset or removed while sequence %llu was being handled, or "
                    "has settled it; it is delivered again if the consumer still wants it",
                    (unsigned long long)consumer, (unsigned long long)seq);
    if (!err && !known)
        note_acking(s, consumer, generation);
    return hk_group_note(s, err);
}

/* ---- loading --------------------------------------------------------------------------------- */

hark_err hk_acks_fold(hark_store *s, hark_store_consumer *c, const uint64_t *seqs, size_t n,
                      bool keep, hark_errinfo *ei)
{
    hark_err err = hk_ranges_settle(c, seqs, n);
    if (err)
        return hk_fail(ei, err, "no memory for the state of consumer %s", c->name);
    if (n == 0 || !keep)
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
    return hk_sqlite_consumer_save(s, &v, ei);
}
