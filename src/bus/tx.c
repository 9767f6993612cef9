/* tx.c: transactions. A closure travels to the writer as a publish does, and keeps its turn among
 * publishes; the group runs it as a part of its own (group.c). What it publishes is made when it
 * asks for it and appended when it has returned; what it schedules is in tx_schedule.c. It may be run
 * again, so a run begins by dropping what the one before has left. */
#include "bus/party_i.h"
#include "bus/tx_i.h"
#include "bus/versions_i.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEADLINE_MS = 50, DEADLINE_MAX_MS = 10000, TX_BYTES = 512, KEY_MAX = 1024 };

/* ---- inside a closure ------------------------------------------------------------------------ */

hark_bus *hark_tx_bus(const hark_tx *tx)
{
    return tx->bus;
}

void *hark_tx_native(hark_tx *tx)
{
    return tx->bus->ops->tx_native(tx->bus->store);
}

int64_t hark_tx_changes(const hark_tx *tx)
{
    return tx->changes;
}

const char *hark_tx_error(const hark_tx *tx)
{
    return tx->ei.err ? tx->ei.text : "";
}

hark_err hark_tx_fail(hark_tx *tx, hark_err err, const char *fmt, ...)
{
    char text[sizeof tx->ei.text];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return hk_fail(&tx->ei, err, "%s", text);
}

void hark_tx_stamp(hark_tx *tx, const char *correlationid, const char *causationid)
{
    tx->correlationid = correlationid;
    tx->causationid = causationid;
}

void hark_tx_then(hark_tx *tx, hark_tx_then_fn fn, void *ud)
{
    tx->then = fn;
    tx->then_ud = ud;
}

hark_err hark_tx_exec(hark_tx *tx, const char *sql, const hark_value *args, size_t n)
{
    return tx->bus->ops->tx_run(tx->bus->store, sql, args, n, NULL, NULL, &tx->changes, &tx->ei);
}

hark_err hark_tx_query(hark_tx *tx, const char *sql, const hark_value *args, size_t n,
                       hark_row_fn fn, void *ud)
{
    return tx->bus->ops->tx_run(tx->bus->store, sql, args, n, fn, ud, &tx->changes, &tx->ei);
}

static bool room_for_one(hark_tx *tx)
{
    size_t n = tx->request.n;
    if (n < tx->cap)
        return true;
    size_t cap = tx->cap ? tx->cap * 2 : 4;
    hark_store_append *items = realloc(tx->request.items, cap * sizeof *items);
    if (items)
        tx->request.items = items;
    hark_receipt **receipts = items ? realloc(tx->receipts, cap * sizeof *receipts) : NULL;
    if (!receipts)
        return false;
    tx->receipts = receipts;
    tx->cap = cap;
    return true;
}

unsigned hk_tx_stamp(hark_tx *tx, hark_event_spec *s, char id[HK_UUID_TEXT + 1])
{
    if (tx->correlationid && !s->correlationid)
        s->correlationid = tx->correlationid;
    if (tx->causationid && !s->causationid)
        s->causationid = tx->causationid;
    return tx->delivery ? hk_delivery_stamp(tx->delivery, tx->ordinal, s, id) : 0;
}

hark_err hark_tx_publish(hark_tx *tx, const hark_event_spec *spec, hark_receipt *ret)
{
    hark_event_spec s;
    char id[HK_UUID_TEXT + 1];
    hark_err err = hk_opts_take(spec, &s, sizeof s, "hark_event_spec", &tx->ei);
    if (err)
        return err;
    if (tx->appended)
        return hk_fail(&tx->ei, HARK_EINVAL,
                       "hark_tx_publish after the closure has returned: its events are appended");
    if (tx->request.n == HK_BATCH_MAX)
        return hk_fail(&tx->ei, HARK_ETOOBIG, "a transaction publishes at most %d events",
                       HK_BATCH_MAX);
    if (!room_for_one(tx))
        return hk_fail(&tx->ei, HARK_ENOMEM, "no memory for the events of a transaction");
    unsigned flags = hk_tx_stamp(tx, &s, id);
    err = hk_publish_item(tx->bus, &s, flags, 1, &tx->request.items[tx->request.n], &tx->ei);
    if (err)
        return err;
    tx->receipts[tx->request.n++] = ret;
    if (flags & HK_PUB_FIRST_STANDS)
        tx->ordinal++;
    return HARK_OK;
}

hark_err hark_tx_publish_json(hark_tx *tx, const hark_event_spec *spec,
                              const hark_json_table *table, const void *from, hark_receipt *ret)
{
    hark_event_spec s;
    char *json = NULL;
    hark_err err = hk_spec_with_json(spec, table, from, &s, &json, &tx->ei);
    if (!err)
        err = hark_tx_publish(tx, &s, ret);
    free(json);
    return err;
}

static hark_err check_key(hark_tx *tx, const char *key)
{
    size_t len = key ? strlen(key) : 0;
    if (len > 0 && len <= KEY_MAX)
        return HARK_OK;
    return hk_fail(&tx->ei, HARK_EINVAL, "a key of a kept value has %zu bytes; 1 to %d", len,
                   KEY_MAX);
}

/* The wall clock as it was when the bus was opened, and the monotonic one from then on: whoever
 * sets the clock does not make all keys expire. On a shared store the server's clock, which all processes go by. */
static int64_t steady_wall(const hark_bus *bus)
{
    if (bus->info.shared)
        return hk_bus_now(bus).wall;
    return bus->opened_wall + (hk_mono_ns() - bus->opened_mono);
}

hark_err hark_tx_keep(hark_tx *tx, const char *key, const void *data, size_t len, int64_t keep_ms)
{
    int64_t now = steady_wall(tx->bus), time = hk_ms_to_ns(keep_ms);
    hark_err err = check_key(tx, key);
    if (!err && keep_ms <= 0)
        err = hk_fail(&tx->ei, HARK_EINVAL, "hark_tx_keep for %lld ms; give a positive time",
                      (long long)keep_ms);
    if (err)
        return err;
    int64_t until = time > INT64_MAX - now ? INT64_MAX : now + time;
    return tx->bus->ops->keep(tx->bus->store, key, data, len, until, now, &tx->ei);
}

hark_err hark_tx_kept(hark_tx *tx, const char *key, void **ret, size_t *ret_len)
{
    hark_err err = check_key(tx, key);
    return err ? err
               : tx->bus->ops->kept(tx->bus->store, key, steady_wall(tx->bus), ret, ret_len,
                                    &tx->ei);
}

/* ---- the writer's part ----------------------------------------------------------------------- */

static void drop_items(hark_tx *tx)
{
    while (tx->request.n)
        hark_event_unref(tx->request.items[--tx->request.n].event);
}

static void begin_run(hark_tx *tx)
{
    drop_items(tx);
    hk_tx_dues_drop(tx);
    tx->ei = (hark_errinfo){0};
    tx->changes = 0;
    tx->ordinal = tx->delivery ? tx->delivery->ordinal : 0;
    tx->correlationid = tx->causationid = NULL;
    tx->then = NULL;
    tx->appended = false;
    tx->request.made_ns = hk_wall_ns();
}

/* Calls the program: the closure, or with a receipt what it left to be done after appending. */
static hark_err call(hark_tx *tx, const hark_receipt *last)
{
    hk_role before = hk_role_set(HK_ROLE_CLOSURE);
    /* should it crash, then its delivery did, and not the one whose handler leads this group */
    hark_store_slot *in_hand = hk_guard_enter(tx->slot);
    hark_err err = last ? tx->then(tx, last, tx->then_ud) : tx->fn(tx, tx->ud);
    (void)hk_guard_enter(in_hand);
    (void)hk_role_set(before);
    if (err && tx->ei.err != err) /* a text of an earlier failure that it went on after */
        (void)hk_fail(&tx->ei, err, "the transaction was given up: %s", hark_err_text(err));
    return err;
}

/* The receipt of the i-th event; of none when there is none. */
static void receipt_of(const hark_tx *tx, size_t i, hark_receipt *ret)
{
    *ret = (hark_receipt){.durability = (int64_t)hk_mark_get(&tx->bus->durability)};
    if (i < tx->request.n)
        hk_publish_receipt(tx->bus, &tx->request.items[i],
                           hark_event_id(tx->request.items[i].event), ret);
}

static hark_err and_then(hark_tx *tx)
{
    hark_receipt last;
    tx->appended = true;
    if (!tx->then)
        return HARK_OK;
    receipt_of(tx, tx->request.n - 1, &last);
    return call(tx, &last);
}

static hark_err ack(hark_tx *tx)
{
    const hark_delivery *d = tx->delivery;
    if (!d || !d->sub->consumer)
        return HARK_OK;
    hark_err err = tx->bus->ops->ack(tx->bus->store, d->sub->consumer->id, d->generation, d->of,
                                     d->seq, &tx->ei);
    if (err == HARK_ESTALE && tx->bus->info.shared)
        hk_party_doubt(d->sub);
    return err;
}

/* Not the closure: its time may end in a call of ours, where the program has the connection. */
static bool store_failed(hark_err err)
{
    return err && err != HARK_EDEADLINE && hark_err_class(err) != HARK_CLASS_REFUSED;
}

/* It is run again for what is left of its deadline, all others having waited for it once. */
static void note_failed(hark_tx *tx, int64_t took)
{
    tx->failed_ns += took;
    tx->failed = tx->ei;
    tx->failed.err = tx->request.err;
    tx->request.spoilt = tx->failed_ns >= tx->deadline_ns;
}

/* That was not enough: what it failed for while it had the time tells more. */
static void give_up_as_before(hark_tx *tx)
{
    tx->ei = tx->failed;
    tx->request.err = tx->failed.err;
}

hark_err hk_tx_run(hark_tx *tx, bool undoable, hark_store_fate *ret)
{
    const hark_store_ops *ops = tx->bus->ops;
    hark_store *store = tx->bus->store;
    hk_request *r = &tx->request;
    int64_t began = hk_mono_ns();
    begin_run(tx);
    r->err = ops->tx_begin(store, began + tx->deadline_ns - tx->failed_ns, undoable, &tx->ei);
    if (r->err)
        return store_failed(r->err) ? r->err : HARK_OK;
    r->err = call(tx, NULL);
    hark_err broke = HARK_OK; /* of the store's own calls; what the closure met is the closure's */
    if (!r->err && r->n > 0)
        broke = r->err = ops->append(store, r->items, r->n, &tx->ei);
    if (!r->err)
        r->err = and_then(tx);
    if (!r->err)
        broke = r->err = ack(tx);
    hark_errinfo why = {0};
    hark_err end = ops->tx_end(store, !r->err, ret, &why);
    r->spoilt = *ret == HARK_STORE_SPOILT;
    if (end && (!r->err || r->spoilt)) {
        r->err = end;
        tx->ei = why;
    }
    if (*ret == HARK_STORE_AGAIN)
        note_failed(tx, hk_mono_ns() - began);
    else if (tx->failed_ns && r->err == HARK_EDEADLINE)
        give_up_as_before(tx);
    return store_failed(broke) && !r->spoilt ? broke : HARK_OK;
}

void hk_tx_free(hark_tx *tx)
{
    drop_items(tx);
    hk_tx_dues_drop(tx);
    free(tx->request.items);
    free(tx->receipts);
    free(tx->dues);
    free(tx);
}

/* Those that the closure asked for. */
static void give_receipts(hark_tx *tx)
{
    for (size_t i = 0; i < tx->request.n; i++)
        if (tx->receipts[i])
            receipt_of(tx, i, tx->receipts[i]);
}

/* Of the event that came too late, if it was one of the closure's. */
static void tell_version(hark_tx *tx, hark_receipt *ret)
{
    *ret = (hark_receipt){0};
    for (size_t i = 0; i < tx->request.n; i++) {
        int64_t version = tx->request.items[i].ret_subject_version;
        if (tx->receipts[i])
            *tx->receipts[i] = (hark_receipt){.subject_version = version};
        if (version)
            ret->subject_version = version;
    }
}

void hk_tx_done(hark_tx *tx, hark_err err)
{
    hark_receipt last;
    hk_request *r = &tx->request;
    receipt_of(tx, r->n - 1, &last);
    if (!err) {
        give_receipts(tx);
        hk_tx_dues_queue(tx);
    } else if (err == HARK_EVERSION) {
        tell_version(tx, &last);
    }
    if (err && tx->ei.err != err)
        (void)hk_fail(&tx->ei, err, "%s", hark_err_text(err));
    if (tx->later) {
        hk_tx_settle(tx, err);
        return;
    }
    if (tx->done) {
        if (!err)
            tx->ei = (hark_errinfo){0}; /* of a failure that the closure went on after */
        tx->done(err, err && err != HARK_EVERSION ? NULL : &last, &tx->ei, tx->ud);
        hk_tx_free(tx);
        return;
    }
    if ((!err || err == HARK_EVERSION) && r->receipts)
        *r->receipts = last;
    r->err = err;
    hk_gate_open(&r->done); /* the caller may be gone with it after this */
}

/* ---- the calls ------------------------------------------------------------------------------- */

static hark_err check_opts(hark_bus *bus, const hark_tx_opts *opts, hark_tx_opts *o,
                           hark_errinfo *ei)
{
    hark_err err = hk_opts_take(opts, o, sizeof *o, "hark_tx_opts", ei);
    if (err)
        return err;
    if (!bus->ops->tx_begin)
        return hk_fail(ei, HARK_ENOTSUP,
                       "%s: has no transactions; open the bus on sqlite:PATH or postgresql:",
                       bus->ops->scheme);
    if (!o->deadline_ms)
        o->deadline_ms = DEADLINE_MS;
    if (o->deadline_ms < 0 || o->deadline_ms > DEADLINE_MAX_MS)
        return hk_fail(ei, HARK_EINVAL, "hark_tx_opts.deadline_ms is %lld; 1 to %d, 0 = %d",
                       (long long)o->deadline_ms, DEADLINE_MAX_MS, DEADLINE_MS);
    if (o->min_durability > (int64_t)hk_mark_get(&bus->durability) || o->min_durability < 0)
        return hk_fail(ei, HARK_EDURABILITY, "the store gives class %s, not the %s asked for",
                       hark_durability_name((hark_durability)hk_mark_get(&bus->durability)),
                       hark_durability_name((hark_durability)o->min_durability));
    return HARK_OK;
}

hark_err hk_tx_new(hark_bus *bus, hark_tx_fn fn, void *ud, const hark_tx_opts *opts, unsigned flags,
                   bool may_wait, hark_tx **ret, hark_errinfo *ei)
{
    hark_tx_opts o;
    hark_err err = check_opts(bus, opts, &o, ei);
    if (!err && !fn)
        err = hk_fail(ei, HARK_EINVAL, "a transaction without a function");
    if (!err)
        err = hk_publish_enter(bus, flags, may_wait, ei);
    if (err)
        return err;
    hark_tx *tx = calloc(1, sizeof *tx);
    if (!tx)
        return hk_fail(ei, HARK_ENOMEM, "no memory for a transaction");
    err = hk_publish_room(bus, 1, TX_BYTES, may_wait, ei);
    if (err) {
        free(tx);
        return err;
    }
    tx->bus = bus;
    tx->fn = fn;
    tx->ud = ud;
    tx->deadline_ns = hk_ms_to_ns(o.deadline_ms);
    tx->request.work.kind = HK_PUBLISH;
    tx->request.tx = tx;
    tx->request.queued = 1;
    tx->request.bytes = TX_BYTES;
    tx->request.ei = &tx->ei;
    *ret = tx;
    return HARK_OK;
}

hark_err hk_tx_may_wait(const char *call, hark_errinfo *ei)
{
    if (hk_role_may_block())
        return HARK_OK;
    return hk_fail(ei, HARK_EWRONGTHREAD, "%s would block this thread; use %s_async", call, call);
}

/* Runs it and waits; then it is the caller's to free. */
hark_err hk_tx_wait(hark_tx *tx, hark_receipt *ret, hark_errinfo *ei)
{
    tx->request.receipts = ret;
    tx->slot = tx->delivery ? tx->delivery->slot : hk_guard_in_hand();
    hark_err err = hk_publish_wait(tx->bus, &tx->request);
    if (err && ei)
        *ei = tx->ei;
    return err;
}

hark_err hark_transact(hark_bus *bus, hark_tx_fn fn, void *ud, const hark_tx_opts *opts,
                       hark_receipt *ret, hark_errinfo *ei)
{
    hark_tx *tx;
    hark_err err = hk_tx_may_wait("hark_transact", ei);
    if (!err)
        err = hk_tx_new(bus, fn, ud, opts, 0, true, &tx, ei);
    if (err)
        return err;
    err = hk_tx_wait(tx, ret, ei);
    hk_tx_free(tx);
    return err;
}

hark_err hark_transact_async(hark_bus *bus, hark_tx_fn fn, hark_transacted_fn done, void *ud,
                             const hark_tx_opts *opts, hark_errinfo *ei)
{
    hark_tx *tx;
    if (!done)
        return hk_fail(ei, HARK_EINVAL, "hark_transact_async without a function to call when done");
    if (hk_role_get() == HK_ROLE_CLOSURE)
        return hk_fail(ei, HARK_EWRONGTHREAD,
                       "hark_transact_async inside a closure: it would happen with each run");
    hark_err err = hk_tx_new(bus, fn, ud, opts, 0, false, &tx, ei);
    if (err)
        return err;
    tx->done = done;
    hk_writer_push(bus, &tx->request.work);
    return HARK_OK;
}

/* ---- reading beside the log ------------------------------------------------------------------ */

hark_err hark_query(hark_bus *bus, const char *sql, const hark_value *args, size_t n,
                    hark_row_fn fn, void *ud, hark_errinfo *ei)
{
    if (!bus->ops->query)
        return hk_fail(
            ei, HARK_ENOTSUP,
            "%s: has no SQL; open the bus on sqlite:PATH or postgresql:", bus->ops->scheme);
    if (!hk_role_may_block())
        return hk_fail(ei, HARK_EWRONGTHREAD,
                       "hark_query would block this thread; in a closure use "
                       "hark_tx_query");
    hark_err err = hk_store_enter(bus, ei);
    if (err)
        return err;
    err = bus->ops->query(bus->store, sql, args, n, fn, ud, ei);
    hk_store_leave(bus);
    return err;
}
