/* What feeds ask of a bus, for the tests with the fake one: it has no subscriptions, no patterns and
 * no log, so that feeds with a pattern cannot be made on it. */
#include "base/base.h"

#include <hark/bus.h>

#include <stdlib.h>

hark_err hark_pattern_check(const char *pattern, hark_errinfo *ei)
{
    (void)pattern;
    return hk_fail(ei, HARK_ENOTSUP, "this bus has no patterns");
}

hark_err hark_subscribe(hark_bus *bus, const char *pattern, hark_handler_fn fn, void *ud,
                        const hark_sub_opts *opts, hark_sub **ret, hark_errinfo *ei)
{
    (void)bus, (void)pattern, (void)fn, (void)ud, (void)opts, (void)ret;
    return hk_fail(ei, HARK_ENOTSUP, "this bus has no subscriptions");
}

hark_sub *hark_sub_unref(hark_sub *s)
{
    (void)s;
    return NULL;
}

hark_event *hark_event_ref(const hark_event *e)
{
    if (e)
        abort();
    return NULL;
}

hark_event *hark_event_unref(const hark_event *e)
{
    return hark_event_ref(e);
}

/* ---- what is never called ---- */

bool hark_pattern_match(const char *pattern, const char *type)
{
    (void)pattern, (void)type;
    abort();
}

void hark_sub_close(hark_sub *s)
{
    (void)s;
    abort();
}

hark_err hark_sub_join(hark_sub *s, int64_t timeout_ms)
{
    (void)s, (void)timeout_ms;
    abort();
}

bool hark_delivery_gap(const hark_delivery *d, uint64_t *ret_from, uint64_t *ret_to)
{
    (void)d, (void)ret_from, (void)ret_to;
    abort();
}

const hark_event *hark_delivery_event(const hark_delivery *d)
{
    (void)d;
    abort();
}

uint64_t hark_event_sequence(const hark_event *e)
{
    (void)e;
    abort();
}

const char *hark_event_type(const hark_event *e)
{
    (void)e;
    abort();
}

const void *hark_event_data(const hark_event *e, size_t *ret_len)
{
    (void)e, (void)ret_len;
    abort();
}

bool hark_event_extension(const hark_event *e, size_t i, hark_ext *ret)
{
    (void)e, (void)i, (void)ret;
    abort();
}

hark_err hark_event_to_json(const hark_event *e, char **ret, size_t *ret_len)
{
    (void)e, (void)ret, (void)ret_len;
    abort();
}

hark_err hark_read(hark_bus *bus, const hark_read_opts *opts, hark_page **ret, hark_errinfo *ei)
{
    (void)bus, (void)opts, (void)ret, (void)ei;
    abort();
}

size_t hark_page_count(const hark_page *page)
{
    (void)page;
    abort();
}

const hark_event *hark_page_event(const hark_page *page, size_t i)
{
    (void)page, (void)i;
    abort();
}

uint64_t hark_page_next(const hark_page *page)
{
    (void)page;
    abort();
}

bool hark_page_gap(const hark_page *page, uint64_t *ret_from, uint64_t *ret_to)
{
    (void)page, (void)ret_from, (void)ret_to;
    abort();
}

void hark_page_free(hark_page *page)
{
    (void)page;
}
