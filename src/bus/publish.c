/* publish.c: from a spec to a receipt. On a direct store the caller appends itself; on all others a
 * request goes to the writer. The request of a single event lies in the event's own block, so
 * publishing allocates once. */
#include "bus/bus_i.h"
#include "bus/versions_i.h"

#include <stdlib.h>
#include <string.h>

/* May this caller publish now? */
static hark_err check_gate(hark_bus *bus, unsigned flags, hark_errinfo *ei)
{
    uint64_t gate = hk_mark_get(&bus->gate);
    if (HK_LIKELY(gate == HK_OPEN))
        return HARK_OK;
    if (gate == HK_DRAINING && (flags & HK_PUB_INSIDE || hk_role_get() == HK_ROLE_HANDLER))
        return HARK_OK;
    return hk_fail(ei, HARK_ECLOSED, "the bus is %s", gate == HK_CLOSED ? "closed" : "draining");
}

/* Waiting subscribers make publishers wait as they enter; never handlers, loops and the like. */
static hark_err wait_for_subscribers(hark_bus *bus, unsigned flags, bool may_wait, hark_errinfo *ei)
{
    for (;;) {
        unsigned seen = hk_gate_look(&bus->room);
        hark_err err = check_gate(bus, flags, ei);
        if (err || hk_count_get(&bus->full_subs) == 0)
            return err;
        hk_role role = hk_role_get();
        if (!may_wait || (role != HK_ROLE_USER && role != HK_ROLE_WORKER))
            return hk_fail(ei, HARK_EAGAIN, "a subscription with HARK_OVERFLOW_WAIT is full");
        (void)hk_gate_wait(&bus->room, seen, -1);
    }
}

hark_err hk_publish_enter(hark_bus *bus, unsigned flags, bool may_wait, hark_errinfo *ei)
{
    if (HK_UNLIKELY((flags & HK_PUB_PAST_ALL) != 0))
        return HARK_OK;
    hark_err err = check_gate(bus, flags, ei);
    if (!err && HK_UNLIKELY(hk_count_get(&bus->full_subs) != 0))
        err = wait_for_subscribers(bus, flags, may_wait && !(flags & HK_PUB_INSIDE), ei);
    if (!err && HK_UNLIKELY(hk_mark_get(&bus->read_only) != 0))
        err = hk_fail(ei, HARK_EREADONLY, "the log took a fatal error and is read-only; reopen it");
    return err;
}

static hark_err check_expected(const hark_bus *bus, const hark_event_spec *spec, hark_errinfo *ei)
{
    if (bus->info.direct || bus->info.live_only)
        return hk_fail(ei, HARK_ENOTSUP,
                       "this store keeps no versions of subjects: no "
                       "expected_version; use sqlite:, postgresql:// or redis://");
    if (spec->expected_version < HARK_EXPECT_NONE)
        return hk_fail(ei, HARK_EINVAL, "expected_version is %lld; at least %d (none)",
                       (long long)spec->expected_version, HARK_EXPECT_NONE);
    if (!spec->subject)
        return hk_fail(ei, HARK_EINVAL,
                       "expected_version needs a subject: it is the version of one");
    return HARK_OK;
}

hark_err hk_publish_event(hark_bus *bus, const hark_event_spec *spec, unsigned refs, size_t extra,
                          hark_event **ret, hark_errinfo *ei)
{
    if (HK_UNLIKELY(spec->min_durability > (int64_t)hk_mark_get(&bus->durability) ||
                    spec->min_durability < 0))
        return hk_fail(ei, HARK_EDURABILITY, "the store gives class %s, not the %s asked for",
                       hark_durability_name((hark_durability)hk_mark_get(&bus->durability)),
                       hark_durability_name((hark_durability)spec->min_durability));
    size_t len = spec->json ? strlen(spec->json) : spec->data_len;
    if (HK_UNLIKELY(len > bus->opts.max_event_bytes))
        return hk_fail(ei, HARK_ETOOBIG, "data has %zu bytes; max_event_bytes is %zu", len,
                       bus->opts.max_event_bytes);
    if (HK_UNLIKELY(spec->expected_version != 0)) {
        hark_err err = check_expected(bus, spec, ei);
        if (err)
            return err;
    }
    return hk_event_make(spec, bus->source, hk_wall_ns(), refs, extra, 0, ret, ei);
}

hark_err hk_publish_make(hark_bus *bus, const hark_event_spec *spec, unsigned refs, size_t extra,
                         hark_event **ret, hark_errinfo *ei)
{
    hark_event *e;
    hark_err err = hk_publish_event(bus, spec, refs, extra, &e, ei);
    if (!err && HK_UNLIKELY(hk_mark_get(&bus->versions) != 0) &&
        (err = hk_type_check(bus, e, ei)) != HARK_OK)
        while (refs--)
            hark_event_unref(e);
    if (!err)
        *ret = e;
    return err;
}

/* A spec of this library's size is used as it is, another one copied. */
static hark_err take_spec(const hark_event_spec **spec, hark_event_spec *room, hark_errinfo *ei)
{
    if (HK_LIKELY(*spec && (*spec)->size == sizeof **spec))
        return HARK_OK;
    hark_err err = hk_opts_take(*spec, room, sizeof *room, "hark_event_spec", ei);
    *spec = room;
    return err;
}

void hk_publish_receipt(hark_bus *bus, const hark_store_append *a, const char *id,
                        hark_receipt *ret)
{
    *ret = (hark_receipt){.sequence = a->ret_sequence,
                          .durability = (int64_t)hk_mark_get(&bus->durability),
                          .duplicate = a->ret_duplicate,
                          .subject_version = a->ret_subject_version};
    size_t len = strlen(id);
    if (len < sizeof ret->id)
        memcpy(ret->id, id, len);
}

/* ---- direct stores --------------------------------------------------------------------------- */

/* While there are waiting subscribers publishers append one by one, so that each sees whether the
 * one before filled a ring: whoever appends without that may be far ahead of dispatch. */
static hark_err append_in_turn(hark_bus *bus, hark_store_append *items, size_t n, unsigned flags,
                               bool may_wait, hark_errinfo *ei)
{
    if (HK_LIKELY(hk_count_get(&bus->wait_subs) == 0))
        return bus->ops->append(bus->store, items, n, ei);
    for (;;) {
        pthread_mutex_lock(&bus->turn);
        bool full = hk_count_get(&bus->full_subs) != 0 && !(flags & HK_PUB_PAST_ALL);
        hark_err err = full ? HARK_OK : bus->ops->append(bus->store, items, n, ei);
        pthread_mutex_unlock(&bus->turn);
        if (full)
            err = wait_for_subscribers(bus, flags, may_wait && !(flags & HK_PUB_INSIDE), ei);
        if (!full || err)
            return err;
    }
}

static hark_err append_direct(hark_bus *bus, const hark_event_spec *spec, unsigned flags,
                              bool may_wait, hark_receipt *ret, hark_errinfo *ei)
{
    hark_event *e;
    hark_err err = flags & HK_PUB_PAST_ALL ? hk_publish_event(bus, spec, 2, 0, &e, ei)
                                           : hk_publish_make(bus, spec, 2, 0, &e, ei);
    if (err)
        return err;
    hark_store_append a = {
        .event = e, .fresh_id = !spec->id, .first_stands = (flags & HK_PUB_FIRST_STANDS) != 0};
    hark_receipt r; /* the event may be gone as soon as it is appended: its id is copied now */
    if (ret)
        hk_publish_receipt(bus, &a, hark_event_id(e), &r);
    err = append_in_turn(bus, &a, 1, flags, may_wait, ei);
    if (err || a.ret_duplicate) {
        hark_event_unref(e);
        hark_event_unref(e);
    }
    if (!err && ret) {
        r.sequence = a.ret_sequence;
        r.duplicate = a.ret_duplicate;
        *ret = r;
    }
    return err;
}

/* ---- through the writer ---------------------------------------------------------------------- */

hark_err hk_publish_room(hark_bus *bus, size_t n, size_t bytes, bool may_wait, hark_errinfo *ei)
{
    hk_writer *w = &bus->writer;
    for (;;) {
        unsigned seen = hk_gate_look(&w->room);
        uint64_t events = hk_count_add(&w->queued_events, n);
        uint64_t size = hk_count_add(&w->queued_bytes, bytes);
        bool alone = events == n; /* whatever its size, one that is alone may pass */
        if (alone || (events <= bus->opts.queue_events && size <= bus->opts.queue_bytes))
            return HARK_OK;
        (void)hk_count_sub(&w->queued_events, n);
        (void)hk_count_sub(&w->queued_bytes, bytes);
        if (!may_wait) {
            hk_gate_open(&w->room); /* somebody may have found it full only because of this try */
            return hk_fail(ei, HARK_EAGAIN, "%llu events wait for the writer; queue_events is %zu",
                           (unsigned long long)(events - n), bus->opts.queue_events);
        }
        if (hk_mark_get(&bus->gate) == HK_CLOSED)
            return hk_fail(ei, HARK_ECLOSED, "the bus was closed meanwhile");
        (void)hk_gate_wait(&w->room, seen, -1);
    }
}

static void fill_item(hark_bus *bus, hark_store_append *a, hark_event *e,
                      const hark_event_spec *spec, unsigned flags)
{
    *a = (hark_store_append){.event = e,
                             .fresh_id = !spec->id,
                             .first_stands = (flags & HK_PUB_FIRST_STANDS) != 0,
                             .expected = spec->expected_version};
    hk_event_digest(e, bus->info.log_id, a->digest);
}

hark_err hk_publish_item(hark_bus *bus, const hark_event_spec *spec, unsigned flags, unsigned refs,
                         hark_store_append *ret, hark_errinfo *ei)
{
    hark_event_spec room;
    hark_event *e;
    hark_err err = take_spec(&spec, &room, ei);
    if (!err)
        err = hk_publish_make(bus, spec, refs, 0, &e, ei);
    if (!err)
        fill_item(bus, ret, e, spec, flags);
    return err;
}

/* Makes the event with its request. */
static hark_err request_make(hark_bus *bus, const hark_event_spec *spec, unsigned flags,
                             hk_request **ret, hark_errinfo *ei)
{
    hark_event *e;
    hark_err err = flags & HK_PUB_PAST_ALL
                       ? hk_publish_event(bus, spec, 1, sizeof(hk_request), &e, ei)
                       : hk_publish_make(bus, spec, 1, sizeof(hk_request), &e, ei);
    if (err)
        return err;
    hk_request *r = hk_event_extra(e);
    r->work.kind = HK_PUBLISH;
    r->n = r->queued = 1;
    r->bytes = hk_event_footprint(e);
    r->made_ns = hk_event_made_ns(e);
    r->items = &r->one;
    fill_item(bus, &r->one, e, spec, flags);
    *ret = r;
    return HARK_OK;
}

/* And finds room for it in the queue. */
static hark_err request_one(hark_bus *bus, const hark_event_spec *spec, unsigned flags,
                            bool may_wait, hk_request **ret, hark_errinfo *ei)
{
    hk_request *r;
    hark_err err = request_make(bus, spec, flags, &r, ei);
    if (err)
        return err;
    err = hk_publish_room(bus, 1, r->bytes, may_wait, ei);
    if (err)
        hark_event_unref(r->one.event);
    else
        *ret = r;
    return err;
}

hark_err hk_request_inside(hark_bus *bus, const hark_event_spec *spec, hark_published_fn fn,
                           void *ud, hk_request **ret, hark_errinfo *ei)
{
    hk_request *r;
    hark_err err = request_make(bus, spec, HK_PUB_PAST_ALL, &r, ei);
    if (err)
        return err;
    (void)hk_count_add(&bus->writer.queued_events, 1);
    (void)hk_count_add(&bus->writer.queued_bytes, r->bytes);
    r->fn = fn;
    r->ud = ud;
    *ret = r;
    return HARK_OK;
}

/* What a publisher is told of its event. False: nothing. */
static bool tell(hark_bus *bus, const hark_store_append *a, hark_err err, hark_receipt *ret)
{
    if (!err)
        hk_publish_receipt(bus, a, hark_event_id(a->event), ret);
    else if (err == HARK_EVERSION)
        *ret = (hark_receipt){.subject_version = a->ret_subject_version};
    return !err || err == HARK_EVERSION;
}

/* Called by the writer, or by whoever finds it gone. */
void hk_request_done(hark_bus *bus, hk_request *r, hark_err err)
{
    if (r->tx) {
        hk_tx_done(r->tx, err);
        return;
    }
    if (r->fn) {
        hark_receipt receipt;
        hark_event *e = r->one.event; /* holds the request itself */
        bool told = tell(bus, &r->one, err, &receipt);
        r->fn(err, told ? &receipt : NULL, r->ud);
        hark_event_unref(e);
        return;
    }
    for (size_t i = 0; r->receipts && i < r->n; i++)
        (void)tell(bus, &r->items[i], err, &r->receipts[i]);
    r->err = err;
    hk_gate_open(&r->done); /* the caller may be gone with the request after this */
}

hark_err hk_publish_wait(hark_bus *bus, hk_request *r)
{
    hk_gate_init(&r->done);
    if (!hk_writer_lead(bus, &r->work))
        hk_writer_push(bus, &r->work);
    while (hk_gate_look(&r->done) == 0)
        (void)hk_gate_wait(&r->done, 0, -1);
    return r->err;
}

static hark_err append_by_writer(hark_bus *bus, const hark_event_spec *spec, unsigned flags,
                                 hark_receipt *ret, hark_errinfo *ei)
{
    hk_request *r;
    hark_err err = request_one(bus, spec, flags, true, &r, ei);
    if (err)
        return err;
    hark_event *e = r->one.event;
    r->receipts = ret;
    r->ei = ei;
    err = hk_publish_wait(bus, r);
    hark_event_unref(e);
    return err;
}

/* ---- the calls ------------------------------------------------------------------------------- */

hark_err hk_publish(hark_bus *bus, const hark_event_spec *spec, unsigned flags, hark_receipt *ret,
                    hark_errinfo *ei)
{
    hark_event_spec room;
    hark_err err = take_spec(&spec, &room, ei);
    if (!err)
        err = hk_publish_enter(bus, flags, true, ei);
    if (err)
        return err;
    if (bus->info.direct)
        return append_direct(bus, spec, flags, true, ret, ei);
    if (!hk_role_may_block())
        return hk_fail(ei, HARK_EWRONGTHREAD,
                       "hark_publish would block this thread; use hark_publish_async");
    return append_by_writer(bus, spec, flags, ret, ei);
}

hark_err hark_publish(hark_bus *bus, const hark_event_spec *spec, hark_receipt *ret)
{
    return hk_publish(bus, spec, 0, ret, NULL);
}

hark_err hark_publish_ei(hark_bus *bus, const hark_event_spec *spec, hark_receipt *ret,
                         hark_errinfo *ei)
{
    hark_errinfo local = {0};
    hark_err err = hk_publish(bus, spec, 0, ret, &local);
    if (err && ei) {
        *ei = local;
        if (!local.err) /* the store had nothing to add */
            (void)hk_fail(ei, err, "%s", hark_err_text(err));
    }
    return err;
}

hark_err hark_publish_async(hark_bus *bus, const hark_event_spec *spec, hark_published_fn fn,
                            void *ud)
{
    hark_event_spec room;
    hark_err err = take_spec(&spec, &room, NULL);
    if (!err)
        err = hk_publish_enter(bus, 0, false, NULL);
    if (err)
        return err;
    if (bus->info.direct) {
        hark_receipt receipt;
        err = append_direct(bus, spec, 0, false, &receipt, NULL);
        if (err == HARK_EINVAL || err == HARK_ETOOBIG || err == HARK_EDURABILITY ||
            err == HARK_EAGAIN || err == HARK_ECLOSED || err == HARK_ESCHEMA || err == HARK_ENOTSUP)
            return err;
        if (fn)
            fn(err, err ? NULL : &receipt, ud);
        return HARK_OK;
    }
    if (hk_role_get() == HK_ROLE_CLOSURE) /* it would happen again with each run */
        return HARK_EWRONGTHREAD;
    hk_request *r;
    err = request_one(bus, spec, 0, false, &r, NULL);
    if (err)
        return err;
    r->fn = fn ? fn : hk_request_ignore;
    r->ud = ud;
    hk_writer_push(bus, &r->work);
    return HARK_OK;
}

void hk_request_ignore(hark_err err, const hark_receipt *receipt, void *ud)
{
    (void)err, (void)receipt, (void)ud;
}

/* ---- batches --------------------------------------------------------------------------------- */

static void batch_free(hk_request *r, unsigned refs)
{
    for (size_t i = 0; i < r->n; i++)
        for (unsigned k = 0; k < refs; k++)
            hark_event_unref(r->items[i].event);
    free(r);
}

static hark_err batch_make(hark_bus *bus, const hark_event_spec *const *specs, size_t n,
                           unsigned refs, hk_request **ret, hark_errinfo *ei)
{
    hk_request *r = calloc(1, sizeof *r + n * sizeof(hark_store_append));
    if (!r)
        return hk_fail(ei, HARK_ENOMEM, "no memory for a batch of %zu events", n);
    r->work.kind = HK_PUBLISH;
    r->items = (hark_store_append *)(r + 1);
    for (size_t i = 0; i < n; i++) {
        hark_err err = hk_publish_item(bus, specs[i], 0, refs, &r->items[i], ei);
        if (err) {
            batch_free(r, refs);
            return hk_wrap(ei, err, "event %zu of the batch", i);
        }
        r->made_ns = hk_event_made_ns(r->items[i].event);
        r->bytes += hk_event_footprint(r->items[i].event);
        r->n++;
    }
    r->queued = n;
    *ret = r;
    return HARK_OK;
}

static hark_err batch_direct(hark_bus *bus, hk_request *r, hark_receipt *ret, hark_errinfo *ei)
{
    for (size_t i = 0; i < r->n; i++) /* one more each, so that the ids can be read afterwards */
        hk_event_ref_n(r->items[i].event, 1);
    hark_err err = append_in_turn(bus, r->items, r->n, 0, true, ei);
    for (size_t i = 0; i < r->n; i++) {
        if (!err && ret)
            hk_publish_receipt(bus, &r->items[i], hark_event_id(r->items[i].event), &ret[i]);
        if (err || r->items[i].ret_duplicate) {
            hark_event_unref(r->items[i].event);
            hark_event_unref(r->items[i].event);
        }
    }
    batch_free(r, 1);
    return err;
}

hark_err hark_publish_batch(hark_bus *bus, const hark_event_spec *const *specs, size_t n,
                            hark_receipt *ret, hark_errinfo *ei)
{
    if (n == 0)
        return HARK_OK;
    if (n > HK_BATCH_MAX)
        return hk_fail(ei, HARK_ETOOBIG, "the batch has %zu events; at most %d", n, HK_BATCH_MAX);
    hark_err err = hk_publish_enter(bus, 0, true, ei);
    if (!err && !bus->info.direct && !hk_role_may_block())
        err = hk_fail(ei, HARK_EWRONGTHREAD, "hark_publish_batch would block this thread");
    hk_request *r = NULL;
    if (!err)
        err = batch_make(bus, specs, n, bus->info.direct ? 2 : 1, &r, ei);
    if (err)
        return err;
    if (bus->info.direct)
        return batch_direct(bus, r, ret, ei);
    err = hk_publish_room(bus, n, r->bytes, true, ei);
    if (!err) {
        r->receipts = ret;
        r->ei = ei;
        err = hk_publish_wait(bus, r);
    }
    batch_free(r, 1);
    return err;
}
