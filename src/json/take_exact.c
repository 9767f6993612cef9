/* Takes the values that JSON has no type for and that must stay exact: times, bytes and decimals.
 * Part of take.c, which has looked at the kind of the value; the way back is in encode.c. */
#include "json/decode_i.h"

#include <stdlib.h>
#include <string.h>

/* What a string says: a part of the document, or of *ret_scratch (to be freed) if it has escapes.
 * NULL, and the fault is noted, when there is no memory. */
static const char *text_of(hk_json_decoder *d, const hk_json_path *at, hk_json_slice v,
                           char **ret_scratch, size_t *ret_len)
{
    *ret_scratch = NULL;
    *ret_len = v.len - 2;
    if (!v.escaped)
        return v.ptr + 1;
    *ret_scratch = hk_json_decoder_alloc(d, at, v.len, 1);
    if (*ret_scratch != NULL)
        *ret_len = hk_json_unescape_to(v, *ret_scratch);
    return *ret_scratch;
}

static void store(hk_json_decoder *d, const hk_json_path *at, const hark_json_field *f,
                  hk_json_slice v, int64_t value, char *member)
{
    int64_t lo, hi;
    hk_json_int_bounds(f, &lo, &hi);
    if (value < lo || value > hi)
        hk_json_decoder_refuse_value(d, at, v, f, "range");
    else
        memcpy(member, &value, sizeof(value));
}

void hk_json_take_time(hk_json_decoder *d, const hk_json_path *at, const hark_json_field *f,
                       hk_json_slice v, char *member)
{
    char *scratch;
    size_t len;
    int64_t ns;
    const char *text = text_of(d, at, v, &scratch, &len);
    if (text == NULL)
        return;
    switch (hk_rfc3339_parse_exact(text, len, &ns)) {
    case HK_TIME_OK:
        store(d, at, f, v, ns, member);
        break;
    case HK_TIME_SYNTAX:
        hk_json_decoder_refuse_value(d, at, v, f, "format");
        break;
    case HK_TIME_FINE:
        hk_json_decoder_refuse(d, at, v, f, "format", "has more than 9 digits of a second");
        break;
    case HK_TIME_RANGE:
        hk_json_decoder_refuse(d, at, v, f, "range",
                               "is beyond the years 1677 to 2262 that can be kept");
        break;
    }
    free(scratch);
}

static void take_base64(hk_json_decoder *d, const hk_json_path *at, const hark_json_field *f,
                        hk_json_slice v, const char *text, size_t len, char *base)
{
    size_t n;
    char *bytes = hk_json_decoder_alloc(d, at, len / 4 * 3 + 3, 1);
    if (bytes == NULL)
        return;
    size_t fault = hk_base64_decode(text, len, bytes, &n);
    if (fault == len && hk_json_length_fits(f, n)) {
        *hk_json_pointer(f, base) = bytes;
        *hk_json_counter(f, base) = n;
        return;
    }
    free(bytes);
    if (fault != len)
        hk_json_decoder_refuse(d, at, v, f, "format", "is not base64 at character %zu", fault);
    else
        hk_json_decoder_refuse(d, at, v, f, "length", "has %zu bytes", n);
}

void hk_json_take_bytes(hk_json_decoder *d, const hk_json_path *at, const hark_json_field *f,
                        hk_json_slice v, char *base)
{
    char *scratch;
    size_t len;
    const char *text = text_of(d, at, v, &scratch, &len);
    if (text != NULL)
        take_base64(d, at, f, v, text, len, base);
    free(scratch);
}

static void take_number(hk_json_decoder *d, const hk_json_path *at, const hark_json_field *f,
                        hk_json_slice v, hk_json_slice number, char *member)
{
    int64_t units;
    if (hk_json_decimal(number, f->digits, &units) != HARK_OK)
        hk_json_decoder_refuse_value(d, at, v, f, "range");
    else
        store(d, at, f, v, units, member);
}

void hk_json_take_decimal(hk_json_decoder *d, const hk_json_path *at, const hark_json_field *f,
                          hk_json_slice v, char *member)
{
    char *scratch;
    size_t len;
    hk_json_slice number;
    if (!f->as_text) {
        take_number(d, at, f, v, v, member);
        return;
    }
    const char *text = text_of(d, at, v, &scratch, &len);
    if (text == NULL)
        return;
    if (hk_json_check(text, len, NULL, &number, NULL) != HARK_OK || number.kind != HK_JSON_NUMBER ||
        number.len != len)
        hk_json_decoder_refuse_value(d, at, v, f, "format");
    else
        take_number(d, at, f, v, number, member);
    free(scratch);
}
