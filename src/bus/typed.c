/* typed.c: events whose data is JSON of a field table: publishing structs, reading events into
 * them, and the check of what is published of a registered type. */
#include "bus/bus_i.h"
#include "bus/versions_i.h"

#include <hark/versions.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- reading --------------------------------------------------------------------------------- */

/* What is wrong, as far as there is room: "$.a is 0, expected …; $.b is missing; and 2 more". */
static void list_faults(const hark_json_errors *errors, char *ret, size_t size)
{
    size_t at = 0, i = 0;
    ret[0] = '\0';
    for (; i < errors->count; i++) {
        const hark_json_error *e = &errors->list[i];
        size_t need = strlen(e->path) + strlen(e->text) + sizeof " ; and 18446744073709551615 more";
        if (i > 0 && at + need >= size)
            break;
        at += (size_t)snprintf(ret + at, size - at, "%s%s %s", i ? "; " : "", e->path, e->text);
    }
    if (errors->count - i + errors->more && at < size)
        (void)snprintf(ret + at, size - at, "; and %zu more", errors->count - i + errors->more);
}

/* Decoding failed: once more, to say why. */
static hark_err tell_faults(const hark_event *e, const hark_json_table *table, void *ret_struct,
                            hark_errinfo *ei)
{
    hark_json_errors errors;
    char text[400];
    size_t len;
    const char *data = hark_event_data(e, &len);
    errors.count = errors.more = 0;
    hark_err err = hark_json_decode(table, data ? data : "", len, ret_struct, &errors);
    if (!err)
        return HARK_OK;
    list_faults(&errors, text, sizeof text);
    return hk_fail(ei, err, "%.100s version %lld: %s", hark_event_type(e),
                   (long long)hark_event_dataversion(e), text[0] ? text : hark_err_text(err));
}

static hark_err decode(const hark_event *e, const hark_json_table *table, void *ret_struct,
                       hark_errinfo *ei)
{
    size_t len;
    const char *data = hark_event_data(e, &len);
    hark_err err = hark_json_decode(table, data ? data : "", len, ret_struct, NULL);
    return err ? tell_faults(e, table, ret_struct, ei) : HARK_OK;
}

hark_err hark_event_bind(const hark_event *event, const hark_json_table *table, void *ret_struct,
                         hark_errinfo *ei)
{
    if (!event)
        return hk_fail(ei, HARK_EINVAL, "there is no event to read, as in the delivery of a gap");
    const char *media = hark_event_datacontenttype(event);
    if (!hark_media_is_json(media))
        return hk_fail(ei, HARK_EMEDIA, "%.200s version %lld: datacontenttype is '%.80s', not JSON",
                       hark_event_type(event), (long long)hark_event_dataversion(event), media);
    return decode(event, table, ret_struct, ei);
}

hark_err hark_delivery_bind(hark_delivery *d, const hark_json_table *table, void *ret_struct)
{
    hark_errinfo ei = {0};
    hark_err err = hark_event_bind(d->event, table, ret_struct, &ei);
    if (err)
        hark_delivery_explain(d, "%s", hk_err_says(err, &ei));
    return err;
}

/* ---- the check of registered types ----------------------------------------------------------- */

/* "1, 2, 3" */
static void list_versions(const hk_known *k, char *ret, size_t size)
{
    size_t at = 0;
    ret[0] = '\0';
    for (size_t i = 0; i < k->n_shapes && at + 24 < size; i++)
        at += (size_t)snprintf(ret + at, size - at, "%s%lld", i ? ", " : "",
                               (long long)k->shapes[i].version);
}

static hark_err not_registered(const hk_known *k, int64_t version, hark_errinfo *ei)
{
    char others[160];
    list_versions(k, others, sizeof others);
    return hk_fail(ei, HARK_ESCHEMA,
                   "%s version %lld is not registered, while of this type %s %s; register it with "
                   "hark_type_add, or set the spec's dataversion",
                   k->type, (long long)version, others, k->n_shapes == 1 ? "is" : "are");
}

static hark_err check_data(const hark_event *e, const hark_json_table *table, hark_errinfo *ei)
{
    void *scratch = calloc(1, table->struct_size ? table->struct_size : 1);
    if (!scratch)
        return hk_fail(ei, HARK_ENOMEM, "no memory to check an event of type %s",
                       hark_event_type(e));
    hark_err err = hark_event_bind(e, table, scratch, ei);
    if (!err)
        hark_json_free(table, scratch);
    free(scratch);
    return err && err != HARK_ENOMEM ? HARK_ESCHEMA : err;
}

hark_err hk_type_check(hark_bus *bus, const hark_event *e, hark_errinfo *ei)
{
    const hk_known *k = hk_upcast_known(bus, e);
    if (!k || !k->n_shapes)
        return HARK_OK;
    int64_t version = hark_event_dataversion(e);
    const hark_json_table *table = hk_known_table(k, version);
    if (!table)
        return not_registered(k, version, ei);
    hark_err err = check_data(e, table, ei);
    if (err && ei)
        ei->err = err;
    return err;
}

/* ---- publishing ------------------------------------------------------------------------------ */

hark_err hk_spec_with_json(const hark_event_spec *given, const hark_json_table *table,
                           const void *from, hark_event_spec *ret, char **ret_json,
                           hark_errinfo *ei)
{
    hark_err err = hk_opts_take(given, ret, sizeof *ret, "hark_event_spec", ei);
    if (err)
        return err;
    const char *type = ret->type ? ret->type : "an event without a type";
    if (ret->json || ret->data || ret->data_len)
        return hk_fail(ei, HARK_EINVAL,
                       "%.200s: the spec has data of its own; leave out .json and .data, the "
                       "struct is the data",
                       type);
    if (!hark_media_is_json(ret->datacontenttype))
        return hk_fail(ei, HARK_EINVAL,
                       "%.200s: datacontenttype is '%.80s', but what is published is JSON", type,
                       ret->datacontenttype);
    err = hark_json_encode(table, from, ret_json, &ret->data_len, ei);
    if (err)
        return hk_wrap(ei, err, "%.100s", type);
    ret->data = *ret_json;
    if (!ret->datacontenttype)
        ret->datacontenttype = "application/json";
    return HARK_OK;
}

hark_err hark_publish_json(hark_bus *bus, const hark_event_spec *spec, const hark_json_table *table,
                           const void *from, hark_receipt *ret, hark_errinfo *ei)
{
    hark_event_spec s;
    char *json = NULL;
    hark_err err = hk_spec_with_json(spec, table, from, &s, &json, ei);
    if (!err)
        err = hark_publish_ei(bus, &s, ret, ei);
    free(json);
    return err;
}

hark_err hark_delivery_publish_json(hark_delivery *d, const hark_event_spec *spec,
                                    const hark_json_table *table, const void *from,
                                    hark_receipt *ret, hark_errinfo *ei)
{
    hark_event_spec s;
    char *json = NULL;
    hark_err err = hk_spec_with_json(spec, table, from, &s, &json, ei);
    if (!err) {
        hark_errinfo local = {0};
        err = hk_delivery_publish(d, &s, ret, &local);
        if (err)
            (void)hk_fail(ei, err, "%s", hk_err_says(err, &local));
    }
    free(json);
    return err;
}
