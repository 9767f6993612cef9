/* Writes a struct as JSON by its table, under the same rules as it is read, so that what is
 * written can be read back. Stops at the first fault. It descends by calling itself, at most
 * HARK_JSON_MAX_DEPTH deep. */
#include "json/table_i.h"

#include <stdlib.h>
#include <string.h>

typedef struct encoder {
    hk_buf out;
    hark_errinfo *ei;
    hark_err err;
} encoder;

static void encode_value(encoder *e, const hk_json_path *at, const hark_json_field *f, char *base);

/* ---- refusing -------------------------------------------------------------------------------- */

static void refuse(encoder *e, const hk_json_path *at, const hark_json_field *f, const char *fmt,
                   ...) HARK_PRINTF(4, 5);

static void refuse(encoder *e, const hk_json_path *at, const hark_json_field *f, const char *fmt,
                   ...)
{
    char path[sizeof(((hark_json_error *)0)->path)], text[sizeof(((hark_json_error *)0)->text)];
    hk_json_line line;
    va_list ap;
    hk_json_path_print(at, path, sizeof(path));
    hk_json_line_init(&line, text, sizeof(text));
    va_start(ap, fmt);
    hk_json_line_addv(&line, fmt, ap);
    va_end(ap);
    if (f != NULL) {
        hk_json_line_add(&line, ", expected ");
        hk_json_expected(f, &line);
    }
    hk_json_line_end(&line);
    e->err = hk_fail(e->ei, HARK_ESCHEMA, "%s %s", path, text);
}

/* ---- scalars --------------------------------------------------------------------------------- */

static int64_t load_int(const char *member, size_t size)
{
    switch (size) {
    case 1:
        return *(const int8_t *)member;
    case 2:
        return *(const int16_t *)(const void *)member;
    case 4:
        return *(const int32_t *)(const void *)member;
    default:
        return *(const int64_t *)(const void *)member;
    }
}

static void encode_int(encoder *e, const hk_json_path *at, const hark_json_field *f,
                       const char *member)
{
    int64_t lo, hi, value = load_int(member, f->size);
    hk_json_int_bounds(f, &lo, &hi);
    if (value < lo || value > hi)
        refuse(e, at, f, "is %lld", (long long)value);
    else
        hk_buf_addf(&e->out, "%lld", (long long)value);
}

static void encode_uint(encoder *e, const hk_json_path *at, const hark_json_field *f,
                        const char *member)
{
    uint64_t lo, hi;
    uint64_t value = (uint64_t)load_int(member, f->size) & (UINT64_MAX >> (64 - 8 * f->size));
    hk_json_uint_bounds(f, &lo, &hi);
    if (value < lo || value > hi)
        refuse(e, at, f, "is %llu", (unsigned long long)value);
    else
        hk_buf_addf(&e->out, "%llu", (unsigned long long)value);
}

static void encode_double(encoder *e, const hk_json_path *at, const hark_json_field *f,
                          const char *member)
{
    double value = *(const double *)(const void *)member;
    size_t start = e->out.len;
    if (!hk_json_add_double(&e->out, value))
        refuse(e, at, f, "is not finite");
    else if (!hk_json_real_fits(f, value) && !e->out.failed)
        refuse(e, at, f, "is %s", e->out.data + start);
}

static void encode_bool(encoder *e, const char *member)
{
    hk_buf_adds(&e->out, *(const bool *)member ? "true" : "false");
}

static void encode_enum(encoder *e, const hk_json_path *at, const hark_json_field *f,
                        const char *member)
{
    int value = *(const int *)(const void *)member;
    for (const hark_json_name *n = f->names; n->name != NULL; n++) {
        if (n->value == value) {
            hk_buf_add_json_string(&e->out, n->name, strlen(n->name));
            return;
        }
    }
    refuse(e, at, f, "is %d", value);
}

static void encode_time(encoder *e, const hk_json_path *at, const hark_json_field *f,
                        const char *member)
{
    int64_t lo, hi, value = load_int(member, f->size);
    char text[HK_RFC3339_MAX];
    size_t len = hk_json_time_text(value, text);
    hk_json_int_bounds(f, &lo, &hi);
    if (value < lo || value > hi)
        refuse(e, at, f, "is %s", text);
    else
        hk_buf_add_json_string(&e->out, text, len);
}

static void encode_decimal(encoder *e, const hk_json_path *at, const hark_json_field *f,
                           const char *member)
{
    int64_t lo, hi, value = load_int(member, f->size);
    size_t start = e->out.len;
    hk_json_int_bounds(f, &lo, &hi);
    if (f->as_text)
        hk_buf_addc(&e->out, '"');
    hk_json_add_decimal(&e->out, value, f->digits);
    if (f->as_text)
        hk_buf_addc(&e->out, '"');
    if ((value < lo || value > hi) && !e->out.failed)
        refuse(e, at, f, "is %s", e->out.data + start);
}

/* ---- strings and raw values ------------------------------------------------------------------ */

static size_t count_chars(const char *s, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++)
        n += ((unsigned char)s[i] & 0xc0) != 0x80;
    return n;
}

static void encode_text(encoder *e, const hk_json_path *at, const hark_json_field *f, const char *s,
                        size_t len)
{
    size_t chars = count_chars(s, len);
    if (hk_utf8_valid(s, len) != len)
        refuse(e, at, f, "is not UTF-8 at byte %zu", hk_utf8_valid(s, len));
    else if (!hk_json_length_fits(f, chars))
        refuse(e, at, f, "has %zu characters", chars);
    else
        hk_buf_add_json_string(&e->out, s, len);
}

static void encode_str(encoder *e, const hk_json_path *at, const hark_json_field *f,
                       const char *text)
{
    if (text == NULL)
        refuse(e, at, f, "is NULL");
    else
        encode_text(e, at, f, text, strlen(text));
}

static void encode_chars(encoder *e, const hk_json_path *at, const hark_json_field *f,
                         const char *member)
{
    const char *end = memchr(member, '\0', f->size);
    if (end == NULL)
        refuse(e, at, f, "has no end");
    else
        encode_text(e, at, f, member, (size_t)(end - member));
}

static void encode_bytes(encoder *e, const hk_json_path *at, const hark_json_field *f, char *base)
{
    const char *bytes = *hk_json_pointer(f, base);
    size_t len = *hk_json_counter(f, base);
    if (bytes == NULL) {
        refuse(e, at, f, "is NULL and has %zu bytes", len);
        return;
    }
    if (!hk_json_length_fits(f, len)) {
        refuse(e, at, f, "has %zu bytes", len);
        return;
    }
    hk_buf_addc(&e->out, '"');
    hk_buf_add_base64(&e->out, bytes, len);
    hk_buf_addc(&e->out, '"');
}

/* Raw text is checked, so that nothing that is not JSON leaves, and counts in the depth. */
static void encode_raw(encoder *e, const hk_json_path *at, const hark_json_field *f, char *base)
{
    const char *raw = *hk_json_pointer(f, base); /* not NULL, see is_there */
    size_t len = *hk_json_counter(f, base);
    unsigned left = HARK_JSON_MAX_DEPTH - at->depth;
    hk_json_limits limits = {.max_depth = left > 0 ? left : 1};
    hk_json_slice root;
    hk_json_error fault;
    hark_err err = hk_json_check(raw, len, &limits, &root, &fault);
    if (err == HARK_ENOMEM)
        e->err = hk_fail(e->ei, err, "out of memory");
    else if (err != HARK_OK)
        refuse(e, at, NULL, "is not JSON at byte %zu: %s", fault.offset, fault.reason);
    else if (left == 0 && (root.kind == HK_JSON_OBJECT || root.kind == HK_JSON_ARRAY))
        refuse(e, at, NULL, "is nested deeper than %d", HARK_JSON_MAX_DEPTH);
    else
        hk_buf_add(&e->out, root.ptr, root.len);
}

/* ---- lists and objects ----------------------------------------------------------------------- */

static void encode_list(encoder *e, const hk_json_path *at, const hark_json_field *f, char *base)
{
    size_t n = *hk_json_counter(f, base);
    char *place = f->in_place ? base + f->offset : *hk_json_pointer(f, base);
    if (!hk_json_length_fits(f, n)) {
        refuse(e, at, f, "has %zu elements", n);
        return;
    }
    if (place == NULL && n > 0) {
        refuse(e, at, f, "is NULL and has %zu elements", n);
        return;
    }
    hark_json_field elem = hk_json_elem_field(f);
    hk_buf_addc(&e->out, '[');
    for (size_t i = 0; i < n && e->err == HARK_OK; i++) {
        hk_json_path step = hk_json_path_index(at, i);
        if (i > 0)
            hk_buf_addc(&e->out, ',');
        encode_value(e, &step, &elem, place + i * f->elem_size);
    }
    hk_buf_addc(&e->out, ']');
}

static bool enum_is_named(const hark_json_field *f, int value)
{
    for (const hark_json_name *n = f->names; n->name != NULL; n++)
        if (n->value == value)
            return true;
    return false;
}

/* Whether a member holds the zero of its type although its rules do not allow that. */
static bool is_forbidden_zero(const hark_json_field *f, char *base)
{
    char *member = base + f->offset;
    double real;
    switch (f->type) {
    case HARK_JSON_T_INT:
    case HARK_JSON_T_UINT:
    case HARK_JSON_T_TIME:
    case HARK_JSON_T_DECIMAL:
        if (load_int(member, f->size) != 0)
            return false;
        return (f->has_min && f->min_real > 0) || (f->has_max && f->max_real < 0);
    case HARK_JSON_T_DOUBLE:
        memcpy(&real, member, sizeof(real));
        return real == 0 && !hk_json_real_fits(f, 0);
    case HARK_JSON_T_ENUM:
        return load_int(member, f->size) == 0 && !enum_is_named(f, 0);
    case HARK_JSON_T_CHARS:
        return member[0] == '\0' && f->min_len > 0;
    case HARK_JSON_T_LIST:
        return *hk_json_counter(f, base) == 0 && f->min_len > 0;
    default:
        return false;
    }
}

/* A `has` flag decides; where there is none, a zero that could not be read back, or NULL, means
 * that the member is not there. */
static bool is_there(const hark_json_field *f, char *base)
{
    const bool *has = hk_json_has(f, base);
    bool pointer = f->type == HARK_JSON_T_STR || f->type == HARK_JSON_T_RAW;
    if (has != NULL && !*has)
        return false;
    if (pointer)
        return *hk_json_pointer(f, base) != NULL;
    if (f->type == HARK_JSON_T_BYTES) /* some that are nowhere are a mistake, see encode_bytes */
        return *hk_json_pointer(f, base) != NULL || *hk_json_counter(f, base) > 0;
    return has != NULL || f->required || !is_forbidden_zero(f, base);
}

static void encode_object(encoder *e, const hk_json_path *at, const hark_json_table *t, char *base)
{
    char mark = '{';
    for (size_t i = 0; i < t->n_fields && e->err == HARK_OK; i++) {
        const hark_json_field *f = hk_json_field_at(t, i);
        const char *name = hk_json_field_name(f);
        hk_json_path step = hk_json_path_name(at, name, strlen(name));
        if (!is_there(f, base)) {
            if (f->required)
                refuse(e, &step, f, "is missing");
            continue;
        }
        hk_buf_addc(&e->out, mark);
        mark = ',';
        hk_buf_add_json_string(&e->out, name, strlen(name));
        hk_buf_addc(&e->out, ':');
        encode_value(e, &step, f, base);
    }
    hk_buf_adds(&e->out, mark == '{' ? "{}" : "}");
}

static void encode_value(encoder *e, const hk_json_path *at, const hark_json_field *f, char *base)
{
    char *member = base + f->offset;
    switch (f->type) {
    case HARK_JSON_T_BOOL:
        encode_bool(e, member);
        break;
    case HARK_JSON_T_INT:
        encode_int(e, at, f, member);
        break;
    case HARK_JSON_T_UINT:
        encode_uint(e, at, f, member);
        break;
    case HARK_JSON_T_DOUBLE:
        encode_double(e, at, f, member);
        break;
    case HARK_JSON_T_STR:
        encode_str(e, at, f, *hk_json_pointer(f, base));
        break;
    case HARK_JSON_T_CHARS:
        encode_chars(e, at, f, member);
        break;
    case HARK_JSON_T_ENUM:
        encode_enum(e, at, f, member);
        break;
    case HARK_JSON_T_TIME:
        encode_time(e, at, f, member);
        break;
    case HARK_JSON_T_BYTES:
        encode_bytes(e, at, f, base);
        break;
    case HARK_JSON_T_DECIMAL:
        encode_decimal(e, at, f, member);
        break;
    case HARK_JSON_T_RAW:
        encode_raw(e, at, f, base);
        break;
    case HARK_JSON_T_OBJECT:
        if (at->depth >= HARK_JSON_MAX_DEPTH)
            refuse(e, at, NULL, "is nested deeper than %d", HARK_JSON_MAX_DEPTH);
        else
            encode_object(e, at, f->table, member);
        break;
    case HARK_JSON_T_LIST:
        if (at->depth >= HARK_JSON_MAX_DEPTH)
            refuse(e, at, NULL, "is nested deeper than %d", HARK_JSON_MAX_DEPTH);
        else
            encode_list(e, at, f, base);
        break;
    }
}

/* ---- the whole ------------------------------------------------------------------------------- */

hark_err hark_json_encode(const hark_json_table *table, const void *from, char **ret,
                          size_t *ret_len, hark_errinfo *ei)
{
    hark_err err = hark_json_table_check(table, ei);
    if (err != HARK_OK)
        return err;
    if (from == NULL || ret == NULL)
        return hk_fail(ei, HARK_EINVAL, "no struct, or no place for the text");
    encoder e = {.ei = ei};
    hk_json_path root = {0};
    hark_json_field whole = {.type = HARK_JSON_T_OBJECT, .table = table};
    encode_value(&e, &root, &whole, (char *)(uintptr_t)from); /* is only read */
    if (e.err == HARK_OK && e.out.failed)
        e.err = hk_fail(ei, HARK_ENOMEM, "out of memory");
    if (e.err != HARK_OK) {
        hk_buf_free(&e.out);
        return e.err;
    }
    *ret = hk_buf_steal(&e.out, ret_len);
    return HARK_OK;
}
