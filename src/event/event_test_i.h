/* event_test_i.h: what the tests of the event object share: a spec in which every field is set. */
#ifndef HK_EVENT_TEST_I_H
#define HK_EVENT_TEST_I_H

#include "event/event.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#define UNUSED __attribute__((unused))

static const hark_ext some_extensions[] = {
    {.name = "zebra", .value = "last"},
    {.name = "count", .value = "-2147483648", .kind = HARK_EXT_INTEGER},
    {.name = "apple", .value = "true", .kind = HARK_EXT_BOOLEAN},
    {.name = "gone", .value = NULL},
    {.name = "empty", .value = ""},
};

static inline hark_event_spec full_spec(void)
{
    return (hark_event_spec){.size = sizeof(hark_event_spec),
                             .type = "order:created",
                             .id = "id-1",
                             .source = "/shop",
                             .subject = "order-7",
                             .key = "customer-3",
                             .time = "2026-01-31T12:00:00.120+01:00",
                             .datacontenttype = "application/json",
                             .dataschema = "https://example.com/order.json",
                             .correlationid = "c-1",
                             .causationid = "c-0",
                             .traceparent =
                                 "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                             .dataversion = 3,
                             .data = "{\"total\": 1.0}",
                             .data_len = 14,
                             .extensions = some_extensions,
                             .n_extensions = HK_COUNTOF(some_extensions)};
}

static inline hark_event *make(const hark_event_spec *spec)
{
    hark_event *e = NULL;
    hark_errinfo ei = {0};
    if (hark_event_new(spec, &e, &ei))
        fail_msg("refused: %s", ei.text);
    return e;
}

static inline int no_event_is_left(void **state UNUSED)
{
    return hk_slab_live() == 0 ? 0 : -1;
}

static inline void set(hark_event_spec *spec, size_t field, const char *value)
{
    memcpy((char *)spec + field, &value, sizeof value);
}

static const struct {
    const char *name;
    size_t field;
} fields[] = {{"type", offsetof(hark_event_spec, type)},
              {"id", offsetof(hark_event_spec, id)},
              {"source", offsetof(hark_event_spec, source)},
              {"subject", offsetof(hark_event_spec, subject)},
              {"partitionkey", offsetof(hark_event_spec, key)},
              {"datacontenttype", offsetof(hark_event_spec, datacontenttype)},
              {"dataschema", offsetof(hark_event_spec, dataschema)},
              {"correlationid", offsetof(hark_event_spec, correlationid)},
              {"causationid", offsetof(hark_event_spec, causationid)},
              {"traceparent", offsetof(hark_event_spec, traceparent)},
              {"time", offsetof(hark_event_spec, time)}};

#endif
