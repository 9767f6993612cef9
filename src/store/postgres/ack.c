/* Acks that are part of a transaction of the program's: a row says that the delivery is settled, in the same
 * commit as the program's own rows. The consumer's core learns of it after the commit; its next save tells the
 * same by floor and settled set and drops the row. When the process dies in between, the row counts as soon as
 * the share is claimed (claim.c). */
#include "store/postgres/ledger_i.h"

/* The share stays locked until the group ends, so that nobody claims it without this row. */
static const hk_pg_sql settle = {
    "ack",
    "INSERT INTO @deliveries AS r(consumer_id, share, seq, state, attempts, crashes, "
    "interruptions, due, first, partitionkey, error) SELECT h.consumer_id, h.share, $5::int8, 6, "
    "0, 0, 0, 0, 0, NULL, NULL FROM @shares h JOIN @consumers c ON c.id = h.consumer_id AND "
    "c.generation = $2::int8 WHERE h.consumer_id = $1::int8 AND h.share = $3::int8 AND h.token = "
    "$4::int8 FOR NO KEY UPDATE OF h ON CONFLICT (consumer_id, share, seq) DO UPDATE SET state = "
    "6, attempts = 0, crashes = 0, interruptions = 0, due = 0, first = 0, partitionkey = NULL, "
    "error = NULL WHERE r.state <> 6"};

hark_err hk_pg_ack(hark_store *s, uint64_t consumer, uint64_t generation, hark_store_owned of,
                   uint64_t seq, hark_errinfo *ei)
{
    hk_pg_args args;
    uint64_t changed = 0;
    hark_err err = hk_pg_enter(s, "ack", ei);
    if (!err)
        err = hk_pg_saves_flush(s, ei);
    if (err)
        return err;
    hk_pg_head(&args, consumer, generation);
    hk_pg_int(&args, of.share);
    hk_pg_int(&args, (int64_t)of.token);
    hk_pg_int(&args, (int64_t)seq);
    err = hk_pg_run_count(&s->w, &settle, &args, &changed, "settling a delivery", ei);
    if (!err && changed == 0)
        err = hk_fail(ei, HARK_ESTALE,
                      "consumer %llu was reset or removed while sequence %llu was being handled, "
                      "its share went to another process, or it has settled it; it is delivered "
                      "again if the consumer still wants it",
                      (unsigned long long)consumer, (unsigned long long)seq);
    if (!err)
        hk_pg_tx_wrote(s);
    return err;
}
