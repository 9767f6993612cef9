/* event.c: references, accessors and the end of an event. How one is made is in make.c. */
#include "event/event_i.h"

#include <stdlib.h>
#include <string.h>

const char *const hk_attr_names[HK_AT_COUNT] = {"type",         "id",
                                                "source",       "subject",
                                                "partitionkey", "datacontenttype",
                                                "dataschema",   "correlationid",
                                                "causationid",  "traceparent",
                                                "time"};

hark_event *hark_event_ref(const hark_event *e)
{
    hark_event *mine =
        (hark_event *)(uintptr_t)e; /* the count is not part of the immutable event */
    if (mine)
        hk_ref_get(&mine->ref, 1);
    return mine;
}

void hk_event_ref_n(hark_event *e, unsigned n)
{
    hk_ref_get(&e->ref, n);
}

hark_event *hark_event_unref(const hark_event *e)
{
    hark_event *mine = (hark_event *)(uintptr_t)e;
    if (mine && hk_ref_put(&mine->ref)) {
        if (mine->data_len > HK_INLINE_DATA)
            free(mine->data);
        hk_slab_free(mine);
    }
    return NULL;
}

void hark_events_free(hark_event **events, size_t n)
{
    for (size_t i = 0; events && i < n; i++)
        hark_event_unref(events[i]);
    free(events);
}

void hark_event_stamp(hark_event *e, uint64_t sequence, int64_t recorded_ns)
{
    e->seq = sequence;
    e->recorded_ns = recorded_ns;
}

void hark_event_stamp_subject(hark_event *e, int64_t version)
{
    e->subject_version = version;
}

int64_t hark_event_subject_version(const hark_event *e)
{
    return e->subject_version;
}

static const char *at(const hark_event *e, size_t i)
{
    return e->at[i] ? (const char *)e + e->at[i] : NULL;
}

const char *hark_event_type(const hark_event *e)
{
    return at(e, HK_AT_TYPE);
}

const char *hark_event_id(const hark_event *e)
{
    return at(e, HK_AT_ID);
}

const char *hark_event_source(const hark_event *e)
{
    return at(e, HK_AT_SOURCE);
}

const char *hark_event_subject(const hark_event *e)
{
    return at(e, HK_AT_SUBJECT);
}

const char *hark_event_partitionkey(const hark_event *e)
{
    return at(e, HK_AT_KEY);
}

const char *hark_event_key(const hark_event *e)
{
    return e->at[HK_AT_KEY] ? at(e, HK_AT_KEY) : at(e, HK_AT_SUBJECT);
}

const char *hark_event_datacontenttype(const hark_event *e)
{
    return at(e, HK_AT_CONTENTTYPE);
}

const char *hark_event_dataschema(const hark_event *e)
{
    return at(e, HK_AT_SCHEMA);
}

const char *hark_event_correlationid(const hark_event *e)
{
    return at(e, HK_AT_CORRELATION);
}

const char *hark_event_causationid(const hark_event *e)
{
    return at(e, HK_AT_CAUSATION);
}

const char *hark_event_traceparent(const hark_event *e)
{
    return at(e, HK_AT_TRACE);
}

const char *hk_event_time_given(const hark_event *e)
{
    return at(e, HK_AT_TIME);
}

int64_t hark_event_dataversion(const hark_event *e)
{
    return e->dataversion;
}

const void *hark_event_data(const hark_event *e, size_t *ret_len)
{
    if (ret_len)
        *ret_len = e->data_len;
    return e->data;
}

int64_t hark_event_time_ns(const hark_event *e)
{
    return e->time_ns;
}

const char *hark_event_time_text(const hark_event *e, char buf[HARK_TIME_TEXT])
{
    const char *given = at(e, HK_AT_TIME);
    if (given && strlen(given) < HARK_TIME_TEXT)
        memcpy(buf, given, strlen(given) + 1);
    else
        hk_rfc3339_format(e->time_ns, 9, buf);
    return buf;
}

uint64_t hark_event_sequence(const hark_event *e)
{
    return e->seq;
}

int64_t hark_event_recorded_ns(const hark_event *e)
{
    return e->seq ? e->recorded_ns : 0;
}

size_t hark_event_extensions(const hark_event *e)
{
    return e->n_ext;
}

bool hark_event_extension(const hark_event *e, size_t i, hark_ext *ret)
{
    if (i >= e->n_ext)
        return false;
    const hk_ext_entry *x = (const hk_ext_entry *)(const void *)((const char *)e + e->ext_at) + i;
    *ret = (hark_ext){.name = (const char *)e + x->name,
                      .value = (const char *)e + x->value,
                      .kind = (hark_ext_kind)x->kind};
    return true;
}

const char *hark_event_attr(const hark_event *e, const char *name)
{
    for (size_t i = 0; i < HK_AT_TIME; i++)
        if (strcmp(name, hk_attr_names[i]) == 0)
            return at(e, i);
    hark_ext x;
    for (size_t i = 0; hark_event_extension(e, i, &x); i++)
        if (strcmp(name, x.name) == 0)
            return x.value;
    return NULL;
}

void hark_event_to_spec(const hark_event *e, hark_ext *extensions, char time_buf[HARK_TIME_TEXT],
                        hark_event_spec *ret)
{
    *ret = (hark_event_spec){.size = sizeof *ret,
                             .type = at(e, HK_AT_TYPE),
                             .id = at(e, HK_AT_ID),
                             .source = at(e, HK_AT_SOURCE),
                             .subject = at(e, HK_AT_SUBJECT),
                             .key = at(e, HK_AT_KEY),
                             .time = hark_event_time_text(e, time_buf),
                             .datacontenttype = at(e, HK_AT_CONTENTTYPE),
                             .dataschema = at(e, HK_AT_SCHEMA),
                             .correlationid = at(e, HK_AT_CORRELATION),
                             .causationid = at(e, HK_AT_CAUSATION),
                             .traceparent = at(e, HK_AT_TRACE),
                             .dataversion = e->dataversion,
                             .data = e->data,
                             .data_len = e->data_len,
                             .extensions = extensions,
                             .n_extensions = e->n_ext};
    for (size_t i = 0; i < e->n_ext; i++)
        (void)hark_event_extension(e, i, &extensions[i]);
}

void *hk_event_extra(hark_event *e)
{
    return e->extra_at ? (char *)e + e->extra_at : NULL;
}

int64_t hk_event_made_ns(const hark_event *e)
{
    return e->recorded_ns;
}

size_t hk_event_footprint(const hark_event *e)
{
    return e->footprint;
}

size_t hk_event_type_len(const hark_event *e)
{
    return e->type_len;
}
