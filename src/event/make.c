/* make.c: making an event from a spec: what is given is planned first, then checked (check.c), then
 * written into one block. */
#include "event/event_i.h"

#include <stdlib.h>
#include <string.h>

/* The spec's strings in HK_AT_ order, with lengths: what will be copied. */
typedef struct plan {
    const char *s[HK_AT_COUNT];
    size_t len[HK_AT_COUNT]; /* of those that are given */
    uint8_t given[HK_AT_COUNT];
    size_t n_given;
    hark_ext ext[HARK_EXTENSIONS_MAX]; /* those that are not in s */
    size_t n_ext;
    size_t bytes; /* of all of them in the block */
    int64_t version;
    const void *data;
    size_t data_len;
    const char *standard_source; /* checked when it was set */
    char fresh_id[HK_UUID_TEXT + 1];
} plan;

/* An extension that has a field of its own goes there. */
static hark_err plan_extension(plan *p, const hark_ext *x, hark_errinfo *ei)
{
    static const int own[] = {HK_AT_KEY, HK_AT_CORRELATION, HK_AT_CAUSATION, HK_AT_TRACE};
    for (size_t i = 0; i < HK_COUNTOF(own); i++) {
        if (strcmp(x->name, hk_attr_names[own[i]]) != 0)
            continue;
        if (p->s[own[i]])
            return hk_fail(ei, HARK_EINVAL, "attribute %s is given twice", x->name);
        p->s[own[i]] = x->value;
        return HARK_OK;
    }
    if (strcmp(x->name, "dataversion") == 0) {
        uint64_t v;
        if (p->version)
            return hk_fail(ei, HARK_EINVAL, "attribute dataversion is given twice");
        if (!x->value || !hk_parse_u64(x->value, strlen(x->value), &v) || v < 1 || v > INT32_MAX)
            return hk_fail(ei, HARK_EINVAL, "attribute dataversion must be an integer from 1 to %d",
                           INT32_MAX);
        p->version = (int64_t)v;
        return HARK_OK;
    }
    size_t i = p->n_ext; /* insertion keeps them in order of name */
    while (i > 0 && strcmp(p->ext[i - 1].name, x->name) > 0) {
        p->ext[i] = p->ext[i - 1];
        i--;
    }
    if (i > 0 && strcmp(p->ext[i - 1].name, x->name) == 0)
        return hk_fail(ei, HARK_EINVAL, "attribute %s is given twice", x->name);
    p->ext[i] = *x;
    p->n_ext++;
    return HARK_OK;
}

static hark_err plan_extensions(plan *p, const hark_event_spec *spec, unsigned flags,
                                hark_errinfo *ei)
{
    if (spec->n_extensions > HARK_EXTENSIONS_MAX)
        return hk_fail(ei, HARK_ETOOBIG, "%zu extension attributes; at most %d are kept",
                       spec->n_extensions, HARK_EXTENSIONS_MAX);
    for (size_t i = 0; i < spec->n_extensions; i++) {
        const hark_ext *x = &spec->extensions[i];
        if (!(flags & HK_EVENT_TRUSTED)) {
            hark_err err = hk_ext_name_check(x->name, ei);
            if (err)
                return err;
        }
        if (!x->value)
            continue; /* unset */
        hark_err err = plan_extension(p, x, ei);
        if (err)
            return err;
    }
    return HARK_OK;
}

static hark_err plan_data(plan *p, const hark_event_spec *spec, hark_errinfo *ei)
{
    if (spec->json && spec->data)
        return hk_fail(ei, HARK_EINVAL, "data is given twice: as .json and as .data");
    if (!spec->data && spec->data_len)
        return hk_fail(ei, HARK_EINVAL, ".data_len is %zu but .data is NULL", spec->data_len);
    p->data = spec->json ? spec->json : spec->data;
    p->data_len = spec->json ? strlen(spec->json) : spec->data_len;
    if (p->data_len > UINT32_MAX / 2)
        return hk_fail(ei, HARK_ETOOBIG, "data has %zu bytes", p->data_len);
    return HARK_OK;
}

/* Has the spec nothing but a type and data? */
static bool plain(const hark_event_spec *spec)
{
    return spec->type && !spec->id && !spec->source && !spec->datacontenttype &&
           !spec->dataversion && !spec->subject && !spec->key && !spec->dataschema &&
           !spec->correlationid && !spec->causationid && !spec->traceparent && !spec->time &&
           !spec->n_extensions;
}

static hark_err check_plan(const plan *p, hark_errinfo *ei)
{
    for (size_t k = 0; k < p->n_given; k++) {
        size_t i = p->given[k];
        if (p->s[i] == p->fresh_id || p->s[i] == p->standard_source)
            continue;
        hark_err err = hk_attr_check(hk_attr_names[i], p->s[i], p->len[i],
                                     i == HK_AT_TYPE ? HARK_TYPE_MAX : HARK_ATTR_MAX, ei);
        if (err)
            return err;
    }
    for (size_t i = 0; i < p->n_ext; i++) {
        hark_err err = hk_ext_check(&p->ext[i], ei);
        if (err)
            return err;
    }
    return HARK_OK;
}

static size_t give(plan *p, size_t i, const char *s, size_t len)
{
    p->s[i] = s;
    p->len[i] = len;
    p->given[p->n_given++] = (uint8_t)i;
    return len + 1;
}

/* Which attributes there are, and how long: the loops over them all start from here. */
static size_t list_given(plan *p)
{
    size_t bytes = 0;
    p->n_given = 0;
    for (size_t i = 0; i < HK_AT_COUNT; i++)
        if (p->s[i])
            bytes += give(p, i, p->s[i],
                          p->s[i] == p->fresh_id ? (size_t)HK_UUID_TEXT : strlen(p->s[i]));
    for (size_t i = 0; i < p->n_ext; i++)
        bytes += strlen(p->ext[i].name) + strlen(p->ext[i].value) + 2 + sizeof(hk_ext_entry);
    return bytes;
}

/* The short way for what is published most: a type, data, and everything else made here. */
static hark_err plan_plain(plan *p, const hark_event_spec *spec, const char *source, int64_t now_ns,
                           hark_errinfo *ei)
{
    size_t type_len = strlen(spec->type);
    hark_err err = hk_attr_check("type", spec->type, type_len, HARK_TYPE_MAX, ei);
    if (err)
        return err;
    hk_uuid7(now_ns, p->fresh_id);
    p->s[HK_AT_TIME] = NULL;
    p->n_given = p->n_ext = 0;
    p->version = 1;
    p->bytes = give(p, HK_AT_TYPE, spec->type, type_len) +
               give(p, HK_AT_ID, p->fresh_id, HK_UUID_TEXT) +
               give(p, HK_AT_SOURCE, source, strlen(source));
    if (spec->json)
        p->bytes += give(p, HK_AT_CONTENTTYPE, "application/json", strlen("application/json"));
    return HARK_OK;
}

static hark_err make_plan(plan *p, const hark_event_spec *spec, const char *source, int64_t now_ns,
                          unsigned flags, hark_errinfo *ei)
{
    hark_err err = plan_data(p, spec, ei);
    if (err)
        return err;
    if (HK_LIKELY(source && plain(spec)))
        return plan_plain(p, spec, source, now_ns, ei);
    memset(p->s, 0, sizeof p->s);
    p->n_ext = 0;
    p->version = spec->dataversion;
    p->s[HK_AT_TYPE] = spec->type;
    p->s[HK_AT_ID] = spec->id ? spec->id : p->fresh_id;
    p->s[HK_AT_SOURCE] = spec->source ? spec->source : source;
    p->standard_source = source;
    p->s[HK_AT_CONTENTTYPE] = spec->datacontenttype ? spec->datacontenttype
                              : spec->json          ? "application/json"
                                                    : NULL;
    p->s[HK_AT_SUBJECT] = spec->subject;
    p->s[HK_AT_KEY] = spec->key;
    p->s[HK_AT_SCHEMA] = spec->dataschema;
    p->s[HK_AT_CORRELATION] = spec->correlationid;
    p->s[HK_AT_CAUSATION] = spec->causationid;
    p->s[HK_AT_TRACE] = spec->traceparent;
    p->s[HK_AT_TIME] = spec->time;
    err = plan_extensions(p, spec, flags, ei);
    if (err)
        return err;
    if (!spec->type)
        return hk_fail(ei, HARK_EINVAL, "attribute type is missing");
    if (!p->s[HK_AT_SOURCE])
        return hk_fail(ei, HARK_EINVAL, "attribute source is missing");
    if (!p->version)
        p->version = 1;
    if (p->version < 1 || p->version > INT32_MAX)
        return hk_fail(ei, HARK_EINVAL, "attribute dataversion must be an integer from 1 to %d",
                       INT32_MAX);
    if (!spec->id)
        hk_uuid7(now_ns, p->fresh_id);
    p->bytes = list_given(p);
    return flags & HK_EVENT_TRUSTED ? HARK_OK : check_plan(p, ei);
}

static char *put_string(hark_event *e, char *to, const char *s, size_t len, uint16_t *ret_at)
{
    *ret_at = (uint16_t)(to - (char *)e);
    memcpy(to, s, len + 1);
    return to + len + 1;
}

static char *put_extensions(hark_event *e, char *to, const plan *p)
{
    e->n_ext = (uint16_t)p->n_ext;
    e->ext_at = 0;
    if (!p->n_ext)
        return to;
    to += (size_t)(-(intptr_t)to & 7);
    e->ext_at = (uint16_t)(to - (char *)e);
    hk_ext_entry *table = (hk_ext_entry *)(void *)to;
    to += p->n_ext * sizeof *table;
    for (size_t i = 0; i < p->n_ext; i++) {
        const hark_ext *x = &p->ext[i];
        table[i].kind = (uint16_t)x->kind;
        to = put_string(e, to, x->name, strlen(x->name), &table[i].name);
        to = put_string(e, to, x->value, strlen(x->value), &table[i].value);
    }
    return to;
}

hark_err hk_event_make(const hark_event_spec *spec, const char *source, int64_t now_ns,
                       unsigned refs, size_t extra, unsigned flags, hark_event **ret,
                       hark_errinfo *ei)
{
    plan p;
    hark_err err = make_plan(&p, spec, source, now_ns, flags, ei);
    if (err)
        return err;
    int64_t time_ns = now_ns;
    if (p.s[HK_AT_TIME] && !hk_rfc3339_parse(p.s[HK_AT_TIME], p.len[HK_AT_TIME], &time_ns))
        return hk_fail(ei, HARK_EINVAL,
                       "attribute time is '%.40s'; it must be RFC 3339, like 2026-01-31T12:00:00Z",
                       p.s[HK_AT_TIME]);
    bool inside = p.data_len <= HK_INLINE_DATA;
    size_t need = sizeof(hark_event) + p.bytes + 32 + extra;
    if (need + (inside ? p.data_len : 0) > UINT16_MAX)
        return hk_fail(ei, HARK_ETOOBIG, "the attributes have %zu bytes; at most 56 KiB together",
                       need);
    hark_event *e = hk_slab_alloc(need + (inside ? p.data_len : 0));
    char *outside = e && !inside ? malloc(p.data_len + 1) : NULL;
    if (!e || (!inside && !outside)) {
        hk_slab_free(e);
        return hk_fail(ei, HARK_ENOMEM, "no memory for an event of %zu bytes", need + p.data_len);
    }
    e->dataversion = (int32_t)p.version;
    e->seq = 0;
    e->subject_version = 0;
    e->recorded_ns = now_ns;
    e->time_ns = time_ns;
    e->data_len = p.data_len;
    e->footprint = (uint32_t)(need + p.data_len);
    e->type_len = (uint16_t)p.len[HK_AT_TYPE];
    char *to = (char *)(e + 1);
    memset(e->at, 0, sizeof e->at);
    for (size_t k = 0; k < p.n_given; k++) {
        size_t i = p.given[k];
        to = put_string(e, to, p.s[i], p.len[i], &e->at[i]);
    }
    to = put_extensions(e, to, &p);
    e->data = !p.data ? NULL : inside ? to : outside;
    if (p.data) {
        memcpy(e->data, p.data, p.data_len);
        e->data[p.data_len] = '\0';
        to += inside ? p.data_len + 1 : 0;
    }
    to += (size_t)(-(intptr_t)to & 7);
    e->extra_at = extra ? (uint16_t)(to - (char *)e) : 0;
    if (extra)
        memset(to, 0, extra);
    hk_ref_init(&e->ref, refs); /* last: from here on stale readers may try it */
    *ret = e;
    return HARK_OK;
}

hark_err hark_event_new(const hark_event_spec *spec, hark_event **ret, hark_errinfo *ei)
{
    hark_event_spec s;
    hark_err err = hk_opts_take(spec, &s, sizeof s, "hark_event_spec", ei);
    return err ? err : hk_event_make(&s, NULL, hk_wall_ns(), 1, 0, 0, ret, ei);
}
