/* json_encode.c: an event in the CloudEvents 1.0.2 JSON format. Attributes first, `data` last.
 *
 * Data goes out in one of three ways: JSON under a JSON media type as the very bytes; text under a
 * media type of text as a JSON string; all else as data_base64. json_decode.c undoes each of them.
 * Only white space around a JSON value does not come back: it belongs to the document there. */
#include "event/codec_i.h"
#include "json/json.h"

#include <string.h>

bool hk_data_is_json(const void *data, size_t len)
{
    return data && hk_json_check(data, len, NULL, NULL, NULL) == HARK_OK;
}

/* ---- attributes ------------------------------------------------------------------------------ */

static void add_name(hk_buf *b, const char *name)
{
    hk_buf_add(b, ",\"", 2);
    hk_buf_adds(b, name);
    hk_buf_add(b, "\":", 2);
}

static void add_string(hk_buf *b, const char *name, const char *value)
{
    if (!value)
        return;
    add_name(b, name);
    hk_buf_add_json_string(b, value, strlen(value));
}

static void add_attributes(hk_buf *b, const hark_event *e)
{
    char buf[HARK_TIME_TEXT];
    const char *time = hk_event_time_given(e); /* of any length, unlike hark_event_time_text */
    hk_buf_adds(b, "{\"specversion\":\"1.0\"");
    add_string(b, "id", hark_event_id(e));
    add_string(b, "source", hark_event_source(e));
    add_string(b, "type", hark_event_type(e));
    add_string(b, "subject", hark_event_subject(e));
    add_string(b, "time", time ? time : hark_event_time_text(e, buf));
    add_string(b, "datacontenttype", hark_event_datacontenttype(e));
    add_string(b, "dataschema", hark_event_dataschema(e));
    if (hark_event_dataversion(e) != 1)
        hk_buf_addf(b, ",\"dataversion\":%lld", (long long)hark_event_dataversion(e));
    add_string(b, "partitionkey", hark_event_partitionkey(e));
    add_string(b, "correlationid", hark_event_correlationid(e));
    add_string(b, "causationid", hark_event_causationid(e));
    add_string(b, "traceparent", hark_event_traceparent(e));
}

static void add_extensions(hk_buf *b, const hark_event *e)
{
    hark_ext x;
    for (size_t i = 0; hark_event_extension(e, i, &x); i++) {
        if (x.kind == HARK_EXT_STRING) {
            add_string(b, x.name, x.value);
        } else {
            add_name(b, x.name);
            hk_buf_adds(b, x.value);
        }
    }
}

/* ---- data ------------------------------------------------------------------------------------ */

static bool ends_in(const char *s, size_t len, const char *end)
{
    size_t n = strlen(end);
    return len >= n && strncasecmp(s + len - n, end, n) == 0;
}

/* A charset other than UTF-8 and its subset: a reader would take the characters for others. */
static bool other_charset(const char *type)
{
    const char *c = strcasestr(type, "charset=");
    if (!c)
        return false;
    c += strlen("charset=");
    c += *c == '"';
    size_t n = strcspn(c, "\"; ");
    return !(n == 5 && strncasecmp(c, "utf-8", n) == 0) &&
           !(n == 8 && strncasecmp(c, "us-ascii", n) == 0);
}

/* Is data of this media type characters, to be read in a JSON string? */
static bool is_text(const char *type)
{
    static const char *const ends[] = {
        "/xml",      "+xml",   "/yaml",    "+yaml", "/javascript", "/x-www-form-urlencoded",
        "/x-ndjson", "/jsonl", "/graphql", "/sql",  "/csv",        "/toml"};
    size_t len = strcspn(type, "; ");
    bool text = strncasecmp(type, "text/", 5) == 0;
    for (size_t i = 0; !text && i < HK_COUNTOF(ends); i++)
        text = ends_in(type, len, ends[i]);
    return text && !other_charset(type);
}

static void add_data(hk_buf *b, const hark_event *e)
{
    size_t len;
    const void *data = hark_event_data(e, &len);
    const char *type = hark_event_datacontenttype(e);
    if (!data)
        return;
    bool json = hark_media_is_json(type);
    if (json && hk_data_is_json(data, len)) {
        add_name(b, "data");
        hk_buf_add(b, data, len);
    } else if (!json && is_text(type) && hk_utf8_valid(data, len) == len) {
        add_name(b, "data");
        hk_buf_add_json_string(b, data, len);
    } else {
        add_name(b, "data_base64");
        hk_buf_addc(b, '"');
        hk_buf_add_base64(b, data, len);
        hk_buf_addc(b, '"');
    }
}

hark_err hark_event_to_json(const hark_event *e, char **ret, size_t *ret_len)
{
    hk_buf b = {0};
    size_t len;
    (void)hark_event_data(e, &len);
    (void)hk_buf_reserve(&b, len + 512);
    add_attributes(&b, e);
    add_extensions(&b, e);
    add_data(&b, e);
    hk_buf_addc(&b, '}');
    char *text = hk_buf_steal(&b, &len);
    if (!text)
        return HARK_ENOMEM;
    *ret = text;
    if (ret_len)
        *ret_len = len;
    return HARK_OK;
}
