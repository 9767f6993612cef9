/* json_decode.c: events from the CloudEvents 1.0.2 JSON format, one or a batch.
 *
 * The slicer checks the whole document; then the members of an event are sorted into what they are,
 * strings are unescaped into one block of scratch memory, and a spec that points there is made an
 * event. JSON data is never parsed again: its slice is the data. Every refusal says which
 * attribute, what is wrong with it and how to mend it.
 *
 * data_base64 without datacontenttype must not be taken as JSON (CloudEvents 1.0.3, clarified).
 * Bytes that are no JSON stay without a media type, since they will be written as data_base64
 * again; bytes that happen to be JSON get application/octet-stream. */
#include "event/codec_i.h"
#include "json/json.h"

#include <stdlib.h>
#include <string.h>

/* The string attributes, and where they go in a spec. */
static const struct {
    const char *name;
    size_t field;
} strings[] = {{"id", offsetof(hark_event_spec, id)},
               {"source", offsetof(hark_event_spec, source)},
               {"type", offsetof(hark_event_spec, type)},
               {"time", offsetof(hark_event_spec, time)},
               {"subject", offsetof(hark_event_spec, subject)},
               {"datacontenttype", offsetof(hark_event_spec, datacontenttype)},
               {"dataschema", offsetof(hark_event_spec, dataschema)},
               {"partitionkey", offsetof(hark_event_spec, key)},
               {"correlationid", offsetof(hark_event_spec, correlationid)},
               {"causationid", offsetof(hark_event_spec, causationid)},
               {"traceparent", offsetof(hark_event_spec, traceparent)}};

enum { STRINGS = HK_COUNTOF(strings), SCRATCH = 2048 };

typedef struct member {
    hk_json_slice name, value;
} member;

/* One event's members, sorted. A value of kind NONE is absent. */
typedef struct doc {
    hk_json_slice specversion, dataversion, data, data_base64;
    hk_json_slice text[STRINGS];
    member ext[HARK_EXTENSIONS_MAX];
    size_t n_ext;
    size_t room; /* scratch bytes that all values together can take */
    char *to;    /* where the next one goes */
} doc;

static const char *kind_name(hk_json_kind kind)
{
    static const char *const names[] = {"absent",   "null",     "a boolean", "a number",
                                        "a string", "an array", "an object"};
    return names[kind];
}

/* ---- sorting the members --------------------------------------------------------------------- */

static hk_json_slice *find_slot(doc *d, hk_json_slice name)
{
    for (size_t i = 0; i < STRINGS; i++)
        if (hk_json_equals(name, strings[i].name))
            return &d->text[i];
    if (hk_json_equals(name, "specversion"))
        return &d->specversion;
    if (hk_json_equals(name, "data"))
        return &d->data;
    if (hk_json_equals(name, "data_base64"))
        return &d->data_base64;
    return hk_json_equals(name, "dataversion") ? &d->dataversion : NULL;
}

/* A null attribute is unset; null data is data. */
static hark_err sort_member(doc *d, member m, hark_errinfo *ei)
{
    hk_json_slice *slot = find_slot(d, m.name);
    if (m.value.kind == HK_JSON_NULL && slot != &d->data)
        return HARK_OK;
    if (slot) {
        *slot = m.value;
    } else if (d->n_ext == HARK_EXTENSIONS_MAX) {
        return hk_fail(ei, HARK_ETOOBIG,
                       "attribute %.*s is one too many: an event has at most %d extension "
                       "attributes; put the rest into data",
                       m.name.len > 42 ? 40 : (int)m.name.len - 2, m.name.ptr + 1,
                       HARK_EXTENSIONS_MAX);
    } else {
        d->ext[d->n_ext++] = m;
        d->room += m.name.len;
    }
    if (slot != &d->data || m.value.escaped)
        d->room += m.value.len + 1;
    return HARK_OK;
}

static hark_err sort_members(doc *d, hk_json_slice object, hark_errinfo *ei)
{
    hk_json_iter it;
    member m;
    memset(d, 0, offsetof(doc, ext));
    d->n_ext = d->room = 0;
    for (hk_json_iter_init(&it, object); hk_json_iter_next(&it, &m.name, &m.value);) {
        hark_err err = sort_member(d, m, ei);
        if (err)
            return err;
    }
    return HARK_OK;
}

/* ---- values ---------------------------------------------------------------------------------- */

/* The unescaped text of a string, or the text of any other value, as a C string in the scratch. */
static const char *put_text(doc *d, hk_json_slice value, size_t *ret_len)
{
    char *s = d->to;
    size_t n = value.len;
    if (value.kind == HK_JSON_STRING)
        n = hk_json_unescape_to(value, s);
    else
        memcpy(s, value.ptr, n);
    s[n] = '\0';
    d->to += n + 1;
    *ret_len = n;
    return s;
}

static hark_err take_string(doc *d, const char *name, hk_json_slice value, const char **ret,
                            hark_errinfo *ei)
{
    if (value.kind != HK_JSON_STRING)
        return hk_fail(ei, HARK_ESCHEMA,
                       "attribute %.40s is %s; it must be a JSON string, in double quotes", name,
                       kind_name(value.kind));
    size_t len;
    const char *s = put_text(d, value, &len);
    if (strlen(s) != len)
        return hk_fail(ei, HARK_ESCHEMA,
                       "attribute %.40s holds U+0000 at byte %zu; control characters are not "
                       "allowed, remove it",
                       name, strlen(s));
    *ret = s;
    return HARK_OK;
}

static hark_err take_strings(doc *d, hark_event_spec *spec, hark_errinfo *ei)
{
    for (size_t i = 0; i < STRINGS; i++) {
        const char *s;
        if (!d->text[i].kind)
            continue;
        hark_err err = take_string(d, strings[i].name, d->text[i], &s, ei);
        if (err)
            return err;
        memcpy((char *)spec + strings[i].field, &s, sizeof s);
    }
    return HARK_OK;
}

static hark_err check_specversion(doc *d, hark_errinfo *ei)
{
    const char *s;
    if (!d->specversion.kind)
        return hk_fail(ei, HARK_ESCHEMA,
                       "attribute specversion is missing; add \"specversion\": \"1.0\"");
    hark_err err = take_string(d, "specversion", d->specversion, &s, ei);
    if (err)
        return err;
    if (strcmp(s, "1.0") != 0)
        return hk_fail(ei, HARK_ESCHEMA,
                       "attribute specversion is '%.20s'; only \"1.0\" is understood, convert the "
                       "event to CloudEvents 1.0",
                       s);
    return HARK_OK;
}

/* A number, or its digits in a string: HTTP headers and other bindings keep no types. */
static hark_err take_dataversion(doc *d, hark_event_spec *spec, hark_errinfo *ei)
{
    if (!d->dataversion.kind)
        return HARK_OK;
    size_t len;
    uint64_t n;
    const char *s = put_text(d, d->dataversion, &len);
    if (!hk_parse_u64(s, len, &n) || n < 1 || n > INT32_MAX)
        return hk_fail(ei, HARK_ESCHEMA,
                       "attribute dataversion is %.40s; it must be an integer from 1 to %d", s,
                       INT32_MAX);
    spec->dataversion = (int64_t)n;
    return HARK_OK;
}

/* ---- extensions ------------------------------------------------------------------------------ */

static bool is_integer(const char *s)
{
    s += *s == '-';
    return s[strspn(s, "0123456789")] == '\0';
}

static hark_err take_value(doc *d, hk_json_slice value, hark_ext *x, hark_errinfo *ei)
{
    size_t len;
    switch (value.kind) {
    case HK_JSON_STRING:
        x->kind = HARK_EXT_STRING;
        return take_string(d, x->name, value, &x->value, ei);
    case HK_JSON_BOOL:
        x->kind = HARK_EXT_BOOLEAN;
        x->value = put_text(d, value, &len);
        return HARK_OK;
    case HK_JSON_NUMBER:
        x->kind = HARK_EXT_INTEGER;
        x->value = put_text(d, value, &len);
        if (is_integer(x->value))
            return HARK_OK;
        return hk_fail(ei, HARK_ESCHEMA,
                       "attribute %.40s is %.40s; a number must be an Integer without fraction and "
                       "exponent, send it as a string",
                       x->name, x->value);
    default:
        return hk_fail(ei, HARK_ESCHEMA,
                       "attribute %.40s is %s; an extension is a string, an Integer or a boolean, "
                       "put anything larger into data",
                       x->name, kind_name(value.kind));
    }
}

static hark_err take_name(doc *d, hk_json_slice name, const char **ret, hark_errinfo *ei)
{
    size_t len;
    const char *s = put_text(d, name, &len);
    if (strlen(s) != len)
        return hk_fail(
            ei, HARK_ESCHEMA,
            "attribute %.40s: its name goes on with U+0000; a name has lower-case letters "
            "a-z and digits only",
            s);
    *ret = s;
    return hk_ext_name_check(s, ei);
}

static hark_err take_extensions(doc *d, hark_ext *ret, hark_errinfo *ei)
{
    for (size_t i = 0; i < d->n_ext; i++) {
        ret[i] = (hark_ext){0};
        hark_err err = take_name(d, d->ext[i].name, &ret[i].name, ei);
        if (!err)
            err = take_value(d, d->ext[i].value, &ret[i], ei);
        if (err)
            return err;
    }
    return HARK_OK;
}

/* ---- data ------------------------------------------------------------------------------------ */

static hark_err take_base64(doc *d, hark_event_spec *spec, hark_errinfo *ei)
{
    if (d->data_base64.kind != HK_JSON_STRING)
        return hk_fail(ei, HARK_ESCHEMA, "data_base64 is %s; it must be a JSON string of base64",
                       kind_name(d->data_base64.kind));
    char *s = d->to;
    size_t len;
    (void)put_text(d, d->data_base64, &len);
    size_t fault = hk_base64_decode(s, len, s, &spec->data_len);
    if (fault != len)
        return hk_fail(ei, HARK_ESCHEMA,
                       "data_base64 is not base64 at character %zu of %zu; it must follow RFC 4648 "
                       "section 4, with padding and without line breaks",
                       fault, len);
    spec->data = s;
    if (!spec->datacontenttype && hk_data_is_json(s, spec->data_len))
        spec->datacontenttype = "application/octet-stream";
    return HARK_OK;
}

static hark_err take_data(doc *d, hark_event_spec *spec, hark_errinfo *ei)
{
    if (d->data.kind && d->data_base64.kind)
        return hk_fail(ei, HARK_ESCHEMA,
                       "data and data_base64 are both given; keep the one that holds the content");
    if (d->data_base64.kind)
        return take_base64(d, spec, ei);
    if (!d->data.kind)
        return HARK_OK;
    spec->data = d->data.ptr;
    spec->data_len = d->data.len;
    if (hark_media_is_json(spec->datacontenttype))
        return HARK_OK;
    if (d->data.kind != HK_JSON_STRING)
        return hk_fail(ei, HARK_ESCHEMA,
                       "data is %s but datacontenttype is '%.60s'; send the content as a JSON "
                       "string, or as data_base64, or name a JSON type",
                       kind_name(d->data.kind), spec->datacontenttype);
    spec->data = d->data.ptr + 1;
    spec->data_len -= 2;
    if (d->data.escaped)
        spec->data = put_text(d, d->data, &spec->data_len);
    return HARK_OK;
}

/* ---- events ---------------------------------------------------------------------------------- */

static hark_err check_required(const hark_event_spec *spec, hark_errinfo *ei)
{
    const char *missing = !spec->id ? "id" : !spec->source ? "source" : !spec->type ? "type" : NULL;
    if (!missing)
        return HARK_OK;
    return hk_fail(ei, HARK_ESCHEMA, "attribute %s is missing; add \"%s\" with a non-empty string",
                   missing, missing);
}

/* The members, whose scratch is at hand, to an event. */
static hark_err build(doc *d, const hark_event_spec *defaults, hark_event **ret, hark_errinfo *ei)
{
    hark_ext ext[HARK_EXTENSIONS_MAX];
    hark_event_spec spec = {.size = sizeof spec,
                            .id = defaults->id,
                            .source = defaults->source,
                            .time = defaults->time,
                            .extensions = ext,
                            .n_extensions = d->n_ext};
    hark_err err = check_specversion(d, ei);
    if (!err)
        err = take_strings(d, &spec, ei);
    if (!err)
        err = check_required(&spec, ei);
    if (!err)
        err = take_dataversion(d, &spec, ei);
    if (!err)
        err = take_extensions(d, ext, ei);
    if (!err)
        err = take_data(d, &spec, ei);
    if (!err)
        err = hk_event_make(&spec, NULL, hk_wall_ns(), 1, 0, 0, ret, ei);
    if (err != HARK_EINVAL)
        return err;
    if (ei)
        ei->err = HARK_ESCHEMA; /* it is the document that is wrong, not the call */
    return HARK_ESCHEMA;
}

static hark_err read_event(hk_json_slice value, const hark_event_spec *defaults, hark_event **ret,
                           hark_errinfo *ei)
{
    doc d;
    char scratch[SCRATCH];
    if (value.kind != HK_JSON_OBJECT)
        return hk_fail(ei, HARK_ESCHEMA, "an event is a JSON object, but this is %s%s",
                       kind_name(value.kind),
                       value.kind == HK_JSON_ARRAY ? "; send an array as a batch" : "");
    hark_err err = sort_members(&d, value, ei);
    if (err)
        return err;
    char *large = d.room > sizeof scratch ? malloc(d.room) : NULL;
    if (d.room > sizeof scratch && !large)
        return hk_fail(ei, HARK_ENOMEM, "no memory for an event of %zu bytes", d.room);
    d.to = large ? large : scratch;
    err = build(&d, defaults, ret, ei);
    free(large);
    return err;
}

/* A name that stands twice is said by name, since it may well be an attribute. */
static hark_err refuse_twin(const char *text, const hk_json_error *e, hark_errinfo *ei)
{
    const char *name = text + e->offset;
    int n = 1; /* the string was scanned, so it ends */
    while (name[n] != '"' && n < 60)
        n += name[n] == '\\' ? 2 : 1;
    return hk_fail(ei, HARK_ESYNTAX,
                   "line %zu, column %zu (byte %zu): %.*s is given twice in one object; keep one",
                   e->line, e->column, e->offset, n + 1, name);
}

/* `levels` of nesting are the envelope's own: data may be as deep as a document of its own. */
static hark_err check(const char *text, size_t len, unsigned levels, hk_json_slice *ret,
                      hark_errinfo *ei)
{
    hk_json_limits limits = {.max_depth = HK_JSON_DEPTH_DEFAULT + levels};
    hk_json_error e;
    hark_err err = hk_json_check(text, len, &limits, ret, &e);
    if (!err)
        return HARK_OK;
    return e.fault == HK_JSON_FAULT_DUPLICATE ? refuse_twin(text, &e, ei)
                                              : hk_json_fail(ei, err, &e);
}

hark_err hark_event_from_json(const char *text, size_t len, const hark_event_spec *defaults,
                              hark_event **ret, hark_errinfo *ei)
{
    hark_event_spec given;
    hk_json_slice root;
    hark_err err = hk_opts_take(defaults, &given, sizeof given, "hark_event_spec", ei);
    if (!err)
        err = check(text, len, 1, &root, ei);
    return err ? err : read_event(root, &given, ret, ei);
}

static hark_err read_batch(hk_json_slice root, const hark_event_spec *defaults, hark_event **events,
                           size_t *n, hark_errinfo *ei)
{
    hk_json_iter it;
    hk_json_slice value;
    for (hk_json_iter_init(&it, root); hk_json_iter_next(&it, NULL, &value); ++*n) {
        hark_err err = read_event(value, defaults, &events[*n], ei);
        if (err)
            return hk_wrap(ei, err, "$[%zu]", *n);
    }
    return HARK_OK;
}

hark_err hark_events_from_json(const char *text, size_t len, const hark_event_spec *defaults,
                               hark_event ***ret, size_t *ret_n, hark_errinfo *ei)
{
    hark_event_spec given;
    hk_json_slice root;
    hark_err err = hk_opts_take(defaults, &given, sizeof given, "hark_event_spec", ei);
    if (!err)
        err = check(text, len, 2, &root, ei);
    if (err)
        return err;
    if (root.kind != HK_JSON_ARRAY)
        return hk_fail(ei, HARK_ESCHEMA, "a batch is a JSON array of events, but this is %s",
                       kind_name(root.kind));
    size_t count = hk_json_count(root), n = 0;
    hark_event **events = calloc(count + 1, sizeof *events); /* never of size 0 */
    if (!events)
        return hk_fail(ei, HARK_ENOMEM, "no memory for a batch of %zu events", count);
    err = read_batch(root, &given, events, &n, ei);
    if (err) {
        hark_events_free(events, n);
        return err;
    }
    *ret = events;
    *ret_n = n;
    return HARK_OK;
}
