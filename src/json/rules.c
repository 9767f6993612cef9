/* The rules of a field, the same for reading and writing: bounds of numbers, lengths, and the
 * sentence that says what is expected. Called by decode.c and encode.c. */
#include "json/table_i.h"

void hk_json_int_bounds(const hark_json_field *f, int64_t *ret_lo, int64_t *ret_hi)
{
    unsigned spare = 64 - 8 * (unsigned)f->size;
    int64_t hi = INT64_MAX >> spare, lo = -hi - 1;
    *ret_lo = f->has_min && f->min_int > lo ? f->min_int : lo;
    *ret_hi = f->has_max && f->max_int < hi ? f->max_int : hi;
}

void hk_json_uint_bounds(const hark_json_field *f, uint64_t *ret_lo, uint64_t *ret_hi)
{
    uint64_t hi = UINT64_MAX >> (64 - 8 * (unsigned)f->size);
    *ret_lo = f->has_min ? (uint64_t)f->min_int : 0;
    *ret_hi = f->has_max && (uint64_t)f->max_int < hi ? (uint64_t)f->max_int : hi;
}

size_t hk_json_time_text(int64_t wall_ns, char ret[HK_RFC3339_MAX])
{
    int digits = 9;
    if (wall_ns % 1000000000 == 0)
        digits = 0;
    else if (wall_ns % 1000000 == 0)
        digits = 3;
    else if (wall_ns % 1000 == 0)
        digits = 6;
    return hk_rfc3339_format(wall_ns, digits, ret);
}

bool hk_json_real_fits(const hark_json_field *f, double value)
{
    return !(f->has_min && value < f->min_real) && !(f->has_max && value > f->max_real);
}

size_t hk_json_list_room(const hark_json_field *f)
{
    size_t room = f->max_len != 0 ? f->max_len : SIZE_MAX;
    if (f->in_place && f->size / f->elem_size < room)
        room = f->size / f->elem_size;
    return room;
}

bool hk_json_length_fits(const hark_json_field *f, size_t length)
{
    size_t room = f->max_len != 0 ? f->max_len : SIZE_MAX;
    if (f->type == HARK_JSON_T_LIST)
        room = hk_json_list_room(f);
    return length >= f->min_len && length <= room;
}

/* ---- what is expected ------------------------------------------------------------------------ */

static void add_real_bounds(const hark_json_field *f, hk_json_line *line)
{
    hk_buf lo = {0}, hi = {0};
    if (f->has_min)
        hk_json_add_double(&lo, f->min_real);
    if (f->has_max)
        hk_json_add_double(&hi, f->max_real);
    if (f->has_min && f->has_max)
        hk_json_line_add(line, " from %s to %s", lo.data, hi.data);
    else if (f->has_min)
        hk_json_line_add(line, " of at least %s", lo.data);
    else if (f->has_max)
        hk_json_line_add(line, " of at most %s", hi.data);
    hk_buf_free(&lo);
    hk_buf_free(&hi);
}

static void add_lengths(const hark_json_field *f, size_t room, const char *unit, hk_json_line *line)
{
    if (room != SIZE_MAX && f->min_len == room)
        hk_json_line_add(line, " of %zu %s", room, unit);
    else if (room != SIZE_MAX && f->min_len > 0)
        hk_json_line_add(line, " of %zu to %zu %s", f->min_len, room, unit);
    else if (room != SIZE_MAX)
        hk_json_line_add(line, " of at most %zu %s", room, unit);
    else if (f->min_len > 0)
        hk_json_line_add(line, " of at least %zu %s", f->min_len, unit);
}

static void add_string(const hark_json_field *f, hk_json_line *line)
{
    hk_json_line_add(line, "a string");
    add_lengths(f, f->max_len != 0 ? f->max_len : SIZE_MAX, "characters", line);
    if (f->type == HARK_JSON_T_CHARS)
        hk_json_line_add(line, "%s at most %zu bytes", f->max_len + f->min_len > 0 ? " and" : " of",
                         f->size - 1);
}

static void add_names(const hark_json_field *f, hk_json_line *line)
{
    for (const hark_json_name *n = f->names; n->name != NULL; n++)
        hk_json_line_add(line, "%s\"%s\"", n == f->names ? "one of " : ", ", n->name);
}

static void add_integer(const hark_json_field *f, hk_json_line *line)
{
    int64_t lo, hi;
    uint64_t ulo, uhi;
    if (f->type == HARK_JSON_T_INT) {
        hk_json_int_bounds(f, &lo, &hi);
        hk_json_line_add(line, "an integer from %lld to %lld", (long long)lo, (long long)hi);
    } else {
        hk_json_uint_bounds(f, &ulo, &uhi);
        hk_json_line_add(line, "an integer from %llu to %llu", (unsigned long long)ulo,
                         (unsigned long long)uhi);
    }
}

static void add_time(const hark_json_field *f, hk_json_line *line)
{
    char text[HK_RFC3339_MAX];
    hk_json_line_add(line, "a time of RFC 3339 like 2026-01-31T12:00:00Z");
    if (f->has_min) {
        hk_json_time_text(f->min_int, text);
        hk_json_line_add(line, " from %s", text);
    }
    if (f->has_max) {
        hk_json_time_text(f->max_int, text);
        hk_json_line_add(line, " to %s", text);
    }
}

static void add_decimal(const hark_json_field *f, hk_json_line *line)
{
    int64_t lo, hi;
    hk_buf low = {0}, high = {0};
    hk_json_int_bounds(f, &lo, &hi);
    hk_json_add_decimal(&low, lo, f->digits);
    hk_json_add_decimal(&high, hi, f->digits);
    if (f->as_text)
        hk_json_line_add(line, "a string with ");
    if (f->digits == 0)
        hk_json_line_add(line, "an integer");
    else
        hk_json_line_add(line, "a number with at most %d decimal%s", (int)f->digits,
                         f->digits == 1 ? "" : "s");
    if (!low.failed && !high.failed)
        hk_json_line_add(line, " from %s to %s", low.data, high.data);
    hk_buf_free(&low);
    hk_buf_free(&high);
}

void hk_json_expected(const hark_json_field *f, hk_json_line *line)
{
    switch (f->type) {
    case HARK_JSON_T_BOOL:
        hk_json_line_add(line, "true or false");
        break;
    case HARK_JSON_T_INT:
    case HARK_JSON_T_UINT:
        add_integer(f, line);
        break;
    case HARK_JSON_T_DOUBLE:
        hk_json_line_add(line, "a number");
        add_real_bounds(f, line);
        break;
    case HARK_JSON_T_STR:
    case HARK_JSON_T_CHARS:
        add_string(f, line);
        break;
    case HARK_JSON_T_ENUM:
        add_names(f, line);
        break;
    case HARK_JSON_T_TIME:
        add_time(f, line);
        break;
    case HARK_JSON_T_BYTES:
        hk_json_line_add(line, "a string of base64 with padding");
        add_lengths(f, f->max_len != 0 ? f->max_len : SIZE_MAX, "bytes", line);
        break;
    case HARK_JSON_T_DECIMAL:
        add_decimal(f, line);
        break;
    case HARK_JSON_T_RAW:
        hk_json_line_add(line, "a value");
        break;
    case HARK_JSON_T_OBJECT:
        hk_json_line_add(line, "an object");
        break;
    case HARK_JSON_T_LIST:
        hk_json_line_add(line, "an array");
        add_lengths(f, hk_json_list_room(f), "elements", line);
        break;
    }
}
