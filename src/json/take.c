/* Takes single JSON values into C members: numbers, strings, enums, raw values. What does not fit
 * is refused with a sentence, never wrapped, cut or rounded to fit. Called by decode.c. */
#include "json/decode_i.h"

#include <stdlib.h>
#include <string.h>

/* ---- refusing -------------------------------------------------------------------------------- */

#define EXCERPT 48 /* bytes of a value that are quoted */

static void note(hk_json_decoder *d, const hk_json_path *at, hk_json_slice value, const char *rule,
                 const char *what)
{
    hk_json_report(d->errors, at, rule, d->text, d->len, (size_t)(value.ptr - d->text), what);
    if (d->err == HARK_OK)
        d->err = HARK_ESCHEMA;
}

void hk_json_decoder_refuse(hk_json_decoder *d, const hk_json_path *at, hk_json_slice value,
                            const hark_json_field *field, const char *rule, const char *fmt, ...)
{
    char text[sizeof(d->errors->list[0].text)];
    hk_json_line line;
    va_list ap;
    if (d->errors == NULL || d->errors->count == HARK_JSON_MAX_ERRORS) {
        note(d, at, value, rule, ""); /* no words that nobody reads */
        return;
    }
    hk_json_line_init(&line, text, sizeof(text));
    va_start(ap, fmt);
    hk_json_line_addv(&line, fmt, ap);
    va_end(ap);
    if (field != NULL) {
        hk_json_line_add(&line, ", expected ");
        hk_json_expected(field, &line);
    }
    hk_json_line_end(&line);
    note(d, at, value, rule, text);
}

void hk_json_decoder_refuse_value(hk_json_decoder *d, const hk_json_path *at, hk_json_slice value,
                                  const hark_json_field *field, const char *rule)
{
    if (value.kind == HK_JSON_OBJECT || value.kind == HK_JSON_ARRAY) {
        hk_json_decoder_refuse(d, at, value, field, rule, "is %s",
                               value.kind == HK_JSON_OBJECT ? "an object" : "an array");
        return;
    }
    size_t len = value.len <= EXCERPT ? value.len : hk_utf8_valid(value.ptr, EXCERPT);
    hk_json_decoder_refuse(d, at, value, field, rule, "is %.*s%s", (int)len, value.ptr,
                           len < value.len ? "..." : "");
}

void *hk_json_decoder_alloc(hk_json_decoder *d, const hk_json_path *at, size_t count, size_t size)
{
    hk_json_slice here = {.ptr = d->text};
    if (size != 0 && count > d->memory / size) {
        note(d, at, here, "memory", "would take more memory than one document may");
        d->err = d->err == HARK_ENOMEM ? HARK_ENOMEM : HARK_ETOOBIG;
        return NULL;
    }
    void *block = calloc(count, size);
    if (block == NULL) {
        note(d, at, here, "memory", "out of memory");
        d->err = HARK_ENOMEM;
        return NULL;
    }
    d->memory -= count * size;
    return block;
}

/* ---- numbers --------------------------------------------------------------------------------- */

static void store_int(char *member, size_t size, uint64_t bits)
{
    switch (size) {
    case 1:
        *(uint8_t *)member = (uint8_t)bits;
        break;
    case 2:
        *(uint16_t *)(void *)member = (uint16_t)bits;
        break;
    case 4:
        *(uint32_t *)(void *)member = (uint32_t)bits;
        break;
    default:
        *(uint64_t *)(void *)member = bits;
    }
}

static void take_int(hk_json_decoder *d, const hk_json_path *at, const hark_json_field *f,
                     hk_json_slice v, char *member)
{
    int64_t value, lo, hi;
    hk_json_int_bounds(f, &lo, &hi);
    if (hk_json_int64(v, &value) != HARK_OK || value < lo || value > hi)
        hk_json_decoder_refuse_value(d, at, v, f, "range");
    else
        store_int(member, f->size, (uint64_t)value);
}

static void take_uint(hk_json_decoder *d, const hk_json_path *at, const hark_json_field *f,
                      hk_json_slice v, char *member)
{
    uint64_t value, lo, hi;
    hk_json_uint_bounds(f, &lo, &hi);
    if (hk_json_uint64(v, &value) != HARK_OK || value < lo || value > hi)
        hk_json_decoder_refuse_value(d, at, v, f, "range");
    else
        store_int(member, f->size, value);
}

static void take_double(hk_json_decoder *d, const hk_json_path *at, const hark_json_field *f,
                        hk_json_slice v, char *member)
{
    double value;
    if (hk_json_double(v, &value) != HARK_OK || !hk_json_real_fits(f, value))
        hk_json_decoder_refuse_value(d, at, v, f, "range");
    else
        memcpy(member, &value, sizeof(value));
}

static void take_bool(hk_json_decoder *d, const hk_json_path *at, const hark_json_field *f,
                      hk_json_slice v, char *member)
{
    (void)d, (void)at, (void)f;
    *(bool *)member = v.ptr[0] == 't';
}

/* ---- strings --------------------------------------------------------------------------------- */

/* Whether a string may go where it is meant to go; fills in its lengths. */
static bool string_fits(hk_json_decoder *d, const hk_json_path *at, const hark_json_field *f,
                        hk_json_slice v, hk_json_measure *ret)
{
    *ret = hk_json_string_measure(v);
    if (ret->has_nul)
        hk_json_decoder_refuse(d, at, v, f, "nul",
                               "contains \\u0000, which a C string cannot hold");
    else if (!hk_json_length_fits(f, ret->chars))
        hk_json_decoder_refuse(d, at, v, f, "length", "has %zu characters", ret->chars);
    else if (f->type == HARK_JSON_T_CHARS && ret->bytes >= f->size)
        hk_json_decoder_refuse(d, at, v, f, "length", "has %zu bytes", ret->bytes);
    else
        return true;
    return false;
}

static void take_str(hk_json_decoder *d, const hk_json_path *at, const hark_json_field *f,
                     hk_json_slice v, char *member)
{
    hk_json_measure m;
    if (!string_fits(d, at, f, v, &m))
        return;
    char *text = hk_json_decoder_alloc(d, at, m.bytes + 1, 1);
    if (text == NULL)
        return;
    hk_json_unescape_to(v, text);
    *(char **)(void *)member = text;
}

static void take_chars(hk_json_decoder *d, const hk_json_path *at, const hark_json_field *f,
                       hk_json_slice v, char *member)
{
    hk_json_measure m;
    if (!string_fits(d, at, f, v, &m))
        return;
    size_t len = hk_json_unescape_to(v, member);
    memset(member + len, 0, f->size - len); /* nothing of what was there stays */
}

static void take_enum(hk_json_decoder *d, const hk_json_path *at, const hark_json_field *f,
                      hk_json_slice v, char *member)
{
    for (const hark_json_name *n = f->names; n->name != NULL; n++) {
        if (hk_json_equals(v, n->name)) {
            memcpy(member, &n->value, sizeof(n->value));
            return;
        }
    }
    hk_json_decoder_refuse_value(d, at, v, f, "enum");
}

static void take_raw(hk_json_decoder *d, const hk_json_path *at, const hark_json_field *f,
                     hk_json_slice v, char *base)
{
    char *copy = hk_json_decoder_alloc(d, at, v.len + 1, 1);
    if (copy == NULL)
        return;
    memcpy(copy, v.ptr, v.len);
    *hk_json_pointer(f, base) = copy;
    *hk_json_counter(f, base) = v.len;
}

/* ---- all of them ----------------------------------------------------------------------------- */

typedef void take_fn(hk_json_decoder *d, const hk_json_path *at, const hark_json_field *f,
                     hk_json_slice v, char *member);

void hk_json_take(hk_json_decoder *d, const hk_json_path *at, const hark_json_field *f,
                  hk_json_slice v, char *base)
{
    static const struct {
        take_fn *take;
        hk_json_kind kind;
    } takers[] = {
        [HARK_JSON_T_BOOL] = {take_bool, HK_JSON_BOOL},
        [HARK_JSON_T_INT] = {take_int, HK_JSON_NUMBER},
        [HARK_JSON_T_UINT] = {take_uint, HK_JSON_NUMBER},
        [HARK_JSON_T_DOUBLE] = {take_double, HK_JSON_NUMBER},
        [HARK_JSON_T_STR] = {take_str, HK_JSON_STRING},
        [HARK_JSON_T_CHARS] = {take_chars, HK_JSON_STRING},
        [HARK_JSON_T_ENUM] = {take_enum, HK_JSON_STRING},
        [HARK_JSON_T_TIME] = {hk_json_take_time, HK_JSON_STRING},
        [HARK_JSON_T_BYTES] = {NULL, HK_JSON_STRING}, /* is more than one member */
        [HARK_JSON_T_DECIMAL] = {hk_json_take_decimal, HK_JSON_NUMBER},
    };
    hk_json_kind kind = takers[f->type].kind;
    if (f->type == HARK_JSON_T_DECIMAL && f->as_text)
        kind = HK_JSON_STRING;
    if (f->type == HARK_JSON_T_RAW)
        take_raw(d, at, f, v, base);
    else if (v.kind != kind)
        hk_json_decoder_refuse_value(d, at, v, f, "type");
    else if (f->type == HARK_JSON_T_BYTES)
        hk_json_take_bytes(d, at, f, v, base);
    else
        takers[f->type].take(d, at, f, v, base + f->offset);
}
