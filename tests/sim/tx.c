/* tx.c: handlers that settle by a transaction, as hark_delivery_transact does it: the attempt is
 * sealed, the group that comes next commits effect and ack as one or neither, and some time after
 * that the handler's thread learns of it. Anything may happen in between. */
#include "sim.h"

/* True: it waits for its commit. False: it is told that its attempt is over. */
bool sim_transact(sim_world *w, sim_running *r)
{
    hark_err err = hk_cores_seal(w->cores, r->lease);
    sim_say(w, "%llu begins its transaction: %d", (unsigned long long)r->seq, (int)err);
    if (r->live != (err == HARK_OK) || (err && err != HARK_ESTALE))
        sim_fail(w, "%llu: a transaction %s its time gave %d", (unsigned long long)r->seq,
                 r->live ? "within" : "after", (int)err);
    if (err)
        return false;
    if (w->n_txs == TXS)
        sim_fail(w, "more than %d transactions are under way", TXS);
    r->sealed = true;
    r->ends = INT64_MAX;
    w->txs[w->n_txs++] =
        (sim_tx){.lease = r->lease, .seq = r->seq, .generation = w->disk.generation};
    return true;
}

/* One closure in the group: its effect and its ack. */
static void run(sim_world *w, sim_tx *tx)
{
    if (!w->calm && sim_chance(w, 5)) {
        tx->state = SIM_TX_FAILED;
        return;
    }
    hark_err err = disk_ack(&w->disk, tx->seq, tx->generation);
    sim_say(w, "%llu: its transaction commits: %d", (unsigned long long)tx->seq, (int)err);
    tx->state = err ? SIM_TX_FAILED : SIM_TX_COMMITTED;
    if (!err)
        audit_tx(w, tx);
}

void sim_run_txs(sim_world *w, bool ok)
{
    for (size_t i = 0; i < w->n_txs; i++) {
        sim_tx *tx = &w->txs[i];
        if (tx->state != SIM_TX_QUEUED || (!w->calm && sim_chance(w, 4)))
            continue;
        if (ok)
            run(w, tx);
        else if (sim_chance(w, 2)) /* else the group is begun anew */
            tx->state = SIM_TX_FAILED;
    }
}

/* Whoever holds the delivery may extend it meanwhile, and that may be over before the commit,
 * too. */
static void extend_some(sim_world *w)
{
    for (size_t i = 0; i < w->n_running; i++) {
        sim_running *r = &w->running[i];
        if (!r->sealed || r->beats || w->calm || !sim_chance(w, 4))
            continue;
        r->until = w->mono + (int64_t)sim_roll(w, 5) * MS;
        if (hk_cores_extend(w->cores, r->lease, r->until) != HARK_OK)
            sim_fail(w, "%llu: its sealed lease cannot be extended", (unsigned long long)r->seq);
    }
}

static sim_running *handler_of(sim_world *w, const sim_tx *tx)
{
    for (size_t i = 0; i < w->n_running; i++)
        if (w->running[i].sealed && w->running[i].lease.token == tx->lease.token)
            return &w->running[i];
    sim_fail(w, "%llu: the handler of its transaction is gone", (unsigned long long)tx->seq);
}

static void forget(sim_world *w, sim_running *r)
{
    *r = w->running[--w->n_running];
}

static void committed(sim_world *w, const sim_tx *tx)
{
    hark_err err = hk_cores_acked(w->cores, tx->lease);
    sim_say(w, "%llu: its ack is known: %d", (unsigned long long)tx->seq, (int)err);
    if (err)
        sim_fail(w, "%llu: what was committed is refused with %d", (unsigned long long)tx->seq,
                 (int)err);
    forget(w, handler_of(w, tx));
    audit_acked(w, tx->seq);
}

static void abandon(sim_world *w, sim_running *r)
{
    const hk_started s = {.seq = r->seq,
                          .replayed = w->disk.rerun.id[0] && r->seq <= w->disk.rerun.upto};
    sim_say(w, "%llu is abandoned", (unsigned long long)r->seq);
    hk_cores_unstart(w->cores, r->lease);
    audit_unstart(w, &s);
    forget(w, r);
}

/* It may go on, answer otherwise, or try once more. */
static void failed(sim_world *w, const sim_tx *tx)
{
    sim_running *r = handler_of(w, tx);
    if (sim_chance(w, 10)) {
        abandon(w, r);
        return;
    }
    sim_say(w, "%llu: its transaction failed", (unsigned long long)tx->seq);
    hk_cores_unseal(w->cores, r->lease);
    r->sealed = false;
    r->does = sim_chance(w, 3) ? SIM_ACK : sim_chance(w, 4) ? SIM_REJECT : SIM_RETRY;
    r->ends = w->mono + (int64_t)sim_roll(w, 6) * MS;
}

void sim_tell_txs(sim_world *w, bool all)
{
    extend_some(w);
    for (size_t i = 0; i < w->n_txs;) {
        sim_tx tx = w->txs[i];
        if (tx.state == SIM_TX_QUEUED || (!all && sim_chance(w, 3))) {
            i++;
            continue;
        }
        w->txs[i] = w->txs[--w->n_txs];
        bool reset = tx.generation != w->disk.generation; /* nobody waits for it any more */
        if (reset && hk_planted == 50)
            (void)hk_cores_acked(w->cores, tx.lease);
        else if (!reset && tx.state == SIM_TX_COMMITTED)
            committed(w, &tx);
        else if (!reset)
            failed(w, &tx);
    }
}
