/* Acks that are part of a transaction of the program's: a row says that the delivery is settled, in the same
 * commit as the program's own rows. The consumer's core learns of it after the commit; its next save tells the
 * same by floor and settled set and drops the row. When the process dies in between, the row counts as soon as
 * the consumer is loaded (consumer.c). */
#include "store/postgres/ledger_i.h"

static const hk_pg_sql settle = {
    "ack",
    "INSERT INTO @deliveries AS r(consumer_id, seq, state, attempts, crashes, interruptions, due, "
    "first, partitionkey, error) SELECT c.id, $3::int8, 6, 0, 0, 0, 0, 0, NULL, NULL "
    "FROM @consumers c WHERE c.id = $1::int8 AND c.generation = $2::int8 "
    "ON CONFLICT (consumer_id, seq) DO UPDATE SET state = 6, attempts = 0, crashes = 0, "
    "interruptions = 0, due = 0, first = 0, partitionkey = NULL, error = NULL WHERE r.state <> 6"};

hark_err hk_pg_ack(hark_store *s, uint64_t consumer, uint64_t generation, uint64_t seq,
                   hark_errinfo *ei)
{
    hk_pg_args args = {0};
    uint64_t changed = 0;
    hark_err err = hk_pg_enter(s, "ack", ei);
    if (err)
        return err;
    hk_pg_int(&args, (int64_t)consumer);
    hk_pg_int(&args, (int64_t)generation);
    hk_pg_int(&args, (int64_t)seq);
    err = hk_pg_run_count(&s->w, &settle, &args, &changed, "settling a delivery", ei);
    if (!err && changed == 0)
        err =
            hk_fail(ei, HARK_ESTALE,
                    "consumer %llu was reset or removed while sequence %llu was being handled, or "
                    "has settled it; it is delivered again if the consumer still wants it",
                    (unsigned long long)consumer, (unsigned long long)seq);
    if (!err)
        hk_pg_tx_wrote(s);
    return err;
}
