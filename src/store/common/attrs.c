/* The attributes hardly any event has (dataschema, traceparent, further extensions, and
 * `time` where the publisher wrote it in a form of its own), as one flat JSON object in the column
 * `attrs`: a string, an integer or a boolean each, as CloudEvents writes them. Only what this file
 * wrote is read back; anything else is damage. */
#include "store/common/common.h"

#include "event/event.h"

#include <string.h>

static void put_name(hk_buf *b, const char *name)
{
    hk_buf_addc(b, b->len ? ',' : '{');
    hk_buf_add_json_string(b, name, strlen(name));
    hk_buf_addc(b, ':');
}

static void put_string(hk_buf *b, const char *name, const char *value)
{
    if (!value)
        return;
    put_name(b, name);
    hk_buf_add_json_string(b, value, strlen(value));
}

static void put_extension(hk_buf *b, const hark_ext *x)
{
    if (x->kind == HARK_EXT_STRING) {
        put_string(b, x->name, x->value);
        return;
    }
    put_name(b, x->name);
    hk_buf_adds(b, x->value);
}

/* The publisher's own text for `time`, when it is not what we would write. */
static const char *other_time_text(const hark_event *e)
{
    const char *given = hk_event_time_given(e);
    char ours[HK_RFC3339_MAX];
    if (!given)
        return NULL;
    size_t len = hk_rfc3339_format(hark_event_time_ns(e), 9, ours);
    return len == strlen(given) && memcmp(ours, given, len) == 0 ? NULL : given;
}

hark_err hk_row_attrs(const hark_event *e, hk_buf *b, hk_row *row, hark_errinfo *ei)
{
    const char *schema = hark_event_dataschema(e), *trace = hark_event_traceparent(e);
    const char *time = other_time_text(e);
    hark_ext x;
    if (!schema && !trace && !time && hark_event_extensions(e) == 0)
        return HARK_OK;
    hk_buf_clear(b);
    put_string(b, "time", time);
    put_string(b, "dataschema", schema);
    put_string(b, "traceparent", trace);
    for (size_t i = 0; hark_event_extension(e, i, &x); i++)
        put_extension(b, &x);
    hk_buf_addc(b, '}');
    if (b->failed) {
        hk_buf_free(b);
        return hk_fail(ei, HARK_ENOMEM, "no memory for an event's attributes");
    }
    row->text[HK_ROW_ATTRS].s = b->data;
    row->text[HK_ROW_ATTRS].len = b->len;
    return HARK_OK;
}

/* ---- reading back: strings go, unescaped and NUL-terminated, one after another into a buffer
 * that was made large enough at the start, so that pointers into it stay. */

typedef struct scan {
    const char *p, *end;
    hk_buf *out;
} scan;

static bool take(scan *s, char c)
{
    if (s->p == s->end || *s->p != c)
        return false;
    s->p++;
    return true;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* \u00XX: hk_buf_add_json_string writes other characters as they are. */
static bool take_hex(scan *s, char *ret)
{
    int v = 0;
    if (s->end - s->p < 4)
        return false;
    for (int i = 0; i < 4; i++) {
        int d = hex_digit(*s->p++);
        if (d < 0)
            return false;
        v = v * 16 + d;
    }
    *ret = (char)v;
    return v < 0x80;
}

static bool take_escape(scan *s, char *ret)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (s->p == s->end)
        return false;
    char c = *s->p++;
    if (c == 'u')
        return take_hex(s, ret);
    const char *at = strchr(from, c);
    if (!c || !at)
        return false;
    *ret = to[at - from];
    return true;
}

static char *take_string(scan *s)
{
    size_t start = s->out->len;
    if (!take(s, '"'))
        return NULL;
    while (s->p < s->end && *s->p != '"') {
        char c = *s->p++;
        if (c == '\\' && !take_escape(s, &c))
            return NULL;
        hk_buf_addc(s->out, c);
    }
    hk_buf_addc(s->out, '\0');
    return take(s, '"') ? s->out->data + start : NULL;
}

/* An integer or a boolean: as it is written, up to the comma. */
static char *take_bare(scan *s)
{
    size_t start = s->out->len;
    while (s->p < s->end && *s->p != ',' && *s->p != '}')
        hk_buf_addc(s->out, *s->p++);
    hk_buf_addc(s->out, '\0');
    return s->out->data + start;
}

static bool take_member(scan *s, hark_ext *ret)
{
    ret->name = take_string(s);
    if (!ret->name || !take(s, ':') || s->p == s->end)
        return false;
    ret->kind = *s->p == '"'                   ? HARK_EXT_STRING
                : *s->p == 't' || *s->p == 'f' ? HARK_EXT_BOOLEAN
                                               : HARK_EXT_INTEGER;
    ret->value = ret->kind == HARK_EXT_STRING ? take_string(s) : take_bare(s);
    ret->reserved = 0;
    return ret->value != NULL;
}

bool hk_attrs_parse(const char *text, size_t len, hk_buf *buf, hark_ext *ext, size_t *ret_n,
                    hark_event_spec *spec)
{
    scan s = {.p = text, .end = text + len, .out = buf};
    size_t n = 0;
    if (!hk_buf_reserve(buf, len + 1) || !take(&s, '{'))
        return false;
    do {
        hark_ext x;
        if (!take_member(&s, &x))
            return false;
        if (strcmp(x.name, "time") == 0)
            spec->time = x.value;
        else if (strcmp(x.name, "dataschema") == 0)
            spec->dataschema = x.value;
        else if (strcmp(x.name, "traceparent") == 0)
            spec->traceparent = x.value;
        else if (n == HARK_EXTENSIONS_MAX)
            return false;
        else
            ext[n++] = x;
    } while (take(&s, ','));
    *ret_n = n;
    return take(&s, '}') && s.p == s.end;
}
