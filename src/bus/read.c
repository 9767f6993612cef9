/* read.c: reading the log: near its head from memory, farther back from the store. */
#include "bus/bus_i.h"
#include "bus/versions_i.h"

#include <stdlib.h>

enum { PAGE_DEFAULT = 1000, PAGE_MAX = 10000 };

struct hark_page {
    size_t n;
    uint64_t next, gap_from, gap_to;
    hark_event *events[];
};

uint64_t hk_bus_visible(hark_bus *bus)
{
    if (!bus->info.direct)
        return hk_mark_get(&bus->tail.visible);
    hark_store_info now = {.size = sizeof now};
    bus->ops->info(bus->store, &now);
    return now.last_sequence;
}

hark_err hk_bus_newest(hark_bus *bus, uint64_t *ret, hark_errinfo *ei)
{
    const hark_store_query q = {.size = sizeof q, .limit = 1, .descending = 1};
    hark_event *e = NULL;
    hark_store_page page = {.events = &e};
    *ret = hk_bus_visible(bus);
    hark_err err = bus->info.shared ? hk_bus_read(bus, &q, &page, ei) : HARK_OK;
    if (err || page.n == 0)
        return err;
    uint64_t seq = hark_event_sequence(e);
    *ret = seq > *ret ? seq : *ret;
    hark_event_unref(e);
    return HARK_OK;
}

void hk_page_drop(hark_store_page *page)
{
    while (page->n)
        hark_event_unref(page->events[--page->n]);
}

/* The tail has it as far as the log goes. On a shared store the log goes on behind what is shown here: whoever waits for dispatch
 * comes to that in time, whoever asks for a place farther on (`before`) is answered by the store. */
static bool tail_may_have(hark_bus *bus, const hark_store_query *q)
{
    if (bus->info.direct || q->descending || q->after + 1 < hk_mark_get(&bus->tail.oldest))
        return false;
    return !bus->info.shared || q->before <= hk_mark_get(&bus->tail.visible) + 1;
}

/* A page that the tail has whole. `newest`: it is not to end where what is shown here ends, but the log. */
static bool from_tail(hark_bus *bus, const hark_store_query *q, bool newest, hark_store_page *ret)
{
    if (!tail_may_have(bus, q))
        return false;
    hk_tail_read(&bus->tail, q, ret);
    bool short_of = newest && bus->info.shared && ret->end && !q->before;
    if (!ret->gap && !short_of)
        return true;
    hk_page_drop(ret); /* a gap: evicted while it was read */
    ret->gap = 0;
    return false;
}

static hark_err read_page(hark_bus *bus, const hark_store_query *q, bool newest,
                          hark_store_page *ret, hark_errinfo *ei)
{
    ret->n = 0;
    ret->gap = 0;
    if (bus->info.live_only)
        return hk_no_log(bus, "reading", ei);
    if (from_tail(bus, q, newest, ret))
        return HARK_OK;
    hark_err err = hk_store_enter(bus, ei);
    if (err)
        return err;
    err = bus->ops->read(bus->store, q, ret, ei);
    hk_store_leave(bus);
    return err;
}

hark_err hk_bus_read(hark_bus *bus, const hark_store_query *q, hark_store_page *ret,
                     hark_errinfo *ei)
{
    return read_page(bus, q, false, ret, ei);
}

hark_err hk_bus_read_one(hark_bus *bus, uint64_t seq, hark_event **ret, hark_errinfo *ei)
{
    const hark_store_query q = {.size = sizeof q, .after = seq - 1, .before = seq + 1, .limit = 1};
    hark_store_page page = {.events = ret};
    hark_err err = hk_bus_read(bus, &q, &page, ei);
    if (err || page.n == 0)
        *ret = NULL;
    return err;
}

hark_err hk_bus_first(hark_bus *bus, const char *pattern, uint64_t after, hark_event **ret,
                      hark_errinfo *ei)
{
    hark_store_query q = {.size = sizeof q, .pattern = pattern, .after = after, .limit = 1};
    hark_store_page page = {.events = ret};
    uint64_t visible = hk_bus_visible(bus);
    *ret = NULL;
    while (q.after < visible) {
        hark_err err = hk_bus_read(bus, &q, &page, ei);
        if (err || page.n == 0)
            *ret = NULL; /* what a page was dropped with is still there */
        if (err || page.n > 0 || page.end || page.covered <= q.after)
            return err;
        q.after = page.covered;
    }
    return HARK_OK;
}

hark_err hk_bus_count(hark_bus *bus, const hark_store_query *q, uint64_t *ret, hark_errinfo *ei)
{
    *ret = 0;
    if (q->before && q->before <= q->after + 1)
        return HARK_OK;
    hark_err err = hk_store_enter(bus, ei);
    if (err)
        return err;
    err = bus->ops->count(bus->store, q, ret, ei);
    hk_store_leave(bus);
    return err;
}

static hark_err check(const hark_read_opts *opts, hark_read_opts *o, hark_errinfo *ei)
{
    hark_err err = hk_opts_take(opts, o, sizeof *o, "hark_read_opts", ei);
    if (!err && o->type)
        err = hark_pattern_check(o->type, ei);
    if (!err && o->limit > PAGE_MAX)
        err =
            hk_fail(ei, HARK_EINVAL, "hark_read_opts.limit is %zu; at most %d", o->limit, PAGE_MAX);
    if (!err)
        err = hk_upcast_opt_check("hark_read_opts", o->dataversion, ei);
    if (o->after > HARK_SEQ_MAX)
        o->after = HARK_SEQ_MAX; /* so that one more is no overflow */
    if (!o->type)
        o->type = "**";
    if (!o->limit)
        o->limit = PAGE_DEFAULT;
    return err;
}

static uint64_t next_of(const hark_store_query *q, const hark_store_page *page)
{
    if (page->end || (q->descending && page->covered <= q->after + 1))
        return 0;
    return page->covered;
}

/* Brings its events to the version wanted; those that are newer stay as they are. */
static hark_err fit(hark_bus *bus, hark_store_page *page, int64_t wanted, hark_errinfo *ei)
{
    hark_errinfo why = {0};
    for (size_t i = 0; hk_upcast_matters(bus, wanted) && i < page->n; i++)
        if (hk_upcast_event(bus, &page->events[i], wanted, &why) == HK_FIT_NONE)
            return hk_fail(ei, why.err, "sequence %llu: %.460s",
                           (unsigned long long)hark_event_sequence(page->events[i]), why.text);
    return HARK_OK;
}

hark_err hark_read(hark_bus *bus, const hark_read_opts *opts, hark_page **ret, hark_errinfo *ei)
{
    hark_read_opts o;
    hark_err err = check(opts, &o, ei);
    if (err)
        return err;
    if (!hk_role_may_block())
        return hk_fail(ei, HARK_EWRONGTHREAD, "hark_read may block this thread");
    if (hk_mark_get(&bus->gate) == HK_CLOSED)
        return hk_fail(ei, HARK_ECLOSED, "the bus is closed");
    if (bus->info.live_only)
        return hk_no_log(bus, "hark_read", ei);
    hark_page *page = calloc(1, sizeof *page + o.limit * sizeof(hark_event *));
    if (!page)
        return hk_fail(ei, HARK_ENOMEM, "no memory for a page of %zu events", o.limit);
    const hark_store_query q = {.size = sizeof q,
                                .pattern = o.type,
                                .subject = o.subject,
                                .after = o.after,
                                .before = o.before,
                                .from_ns = o.from_ns,
                                .to_ns = o.to_ns,
                                .limit = o.limit,
                                .limit_bytes = o.limit_bytes,
                                .descending = o.descending};
    hark_store_page got = {.events = page->events};
    err = read_page(bus, &q, true, &got, ei);
    if (err) {
        free(page);
        return err;
    }
    page->n = got.n;
    err = fit(bus, &got, o.dataversion, ei);
    if (err) {
        hark_page_free(page);
        return err;
    }
    page->next = next_of(&q, &got);
    if (got.gap > o.after) {
        page->gap_from = o.after + 1;
        page->gap_to = got.gap;
    }
    *ret = page;
    return HARK_OK;
}

size_t hark_page_count(const hark_page *page)
{
    return page->n;
}

const hark_event *hark_page_event(const hark_page *page, size_t i)
{
    return i < page->n ? page->events[i] : NULL;
}

uint64_t hark_page_next(const hark_page *page)
{
    return page->next;
}

bool hark_page_gap(const hark_page *page, uint64_t *ret_from, uint64_t *ret_to)
{
    if (!page->gap_to)
        return false;
    *ret_from = page->gap_from;
    *ret_to = page->gap_to;
    return true;
}

void hark_page_free(hark_page *page)
{
    for (size_t i = 0; page && i < page->n; i++)
        hark_event_unref(page->events[i]);
    free(page);
}
