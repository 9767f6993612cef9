/* What the makers and readers of structs share: fields, paths, rules and the list of faults. */
#ifndef HK_JSON_TABLE_I_H
#define HK_JSON_TABLE_I_H

#include "json/json.h"

/* ---- fields (table.c) ------------------------------------------------------------------------ */

/* What the first version of hark_json_field had; what comes after it may be read of decimals only,
 * because the table check lets no decimal pass in a table with shorter fields. */
#define HK_JSON_FIELD_FIRST offsetof(hark_json_field, digits)

/* Tables that one reaches, itself first; each once, so that a table may name itself. */
typedef struct hk_json_tables {
    const hark_json_table *list[HARK_JSON_MAX_TABLES];
    size_t count;
} hk_json_tables;

/* Checks a table and those it reaches, and lists them. */
hark_err hk_json_tables_find(const hark_json_table *table, hk_json_tables *ret,
                             hark_errinfo *ei) HARK_MUST;

/* The i-th field; strides by the size that the caller was compiled with. */
const hark_json_field *hk_json_field_at(const hark_json_table *table, size_t i);
/* Its name in JSON. */
const char *hk_json_field_name(const hark_json_field *field);
/* The field that a list's elements are described by: offset 0, bounds of numbers kept. */
hark_json_field hk_json_elem_field(const hark_json_field *list);

/* Members that a field speaks of, in a struct. */
static inline bool *hk_json_has(const hark_json_field *field, char *base)
{
    return field->has_size != 0 ? (bool *)(void *)(base + field->has_offset) : NULL;
}
static inline size_t *hk_json_counter(const hark_json_field *field, char *base)
{
    return (size_t *)(void *)(base + field->count_offset);
}
static inline char **hk_json_pointer(const hark_json_field *field, char *base)
{
    return (char **)(void *)(base + field->offset);
}

/* Frees what `victim` owns by its table and `keeper` (may be NULL) does not. */
void hk_json_release(const hark_json_table *table, char *victim, char *keeper);

/* ---- paths (report.c) ------------------------------------------------------------------------ */

/* A step on the way from the root to a value; steps live on the stack of the walk. */
typedef struct hk_json_path {
    const struct hk_json_path *up; /* NULL = this is the root */
    const char *name;              /* NULL = an element, by its index */
    size_t name_len;
    size_t index;
    unsigned depth;
} hk_json_path;

hk_json_path hk_json_path_name(const hk_json_path *up, const char *name, size_t len);
hk_json_path hk_json_path_index(const hk_json_path *up, size_t index);
/* "$.items[2].quantity"; ends in "..." when it does not fit. */
void hk_json_path_print(const hk_json_path *path, char *ret, size_t size);

/* Text into a fixed buffer: what does not fit is cut at a character and ends in "...". */
typedef struct hk_json_line {
    char *text;
    size_t size;
    size_t len;
    bool cut;
} hk_json_line;

void hk_json_line_init(hk_json_line *line, char *text, size_t size);
void hk_json_line_add(hk_json_line *line, const char *fmt, ...) HARK_PRINTF(2, 3);
void hk_json_line_addv(hk_json_line *line, const char *fmt, va_list ap);
void hk_json_line_end(hk_json_line *line);

/* Adds a fault at byte `offset` of the text. `errors` may be NULL. */
void hk_json_report(hark_json_errors *errors, const hk_json_path *path, const char *rule,
                    const char *text, size_t len, size_t offset, const char *what);

/* ---- rules (rules.c), the same for both directions ------------------------------------------- */

/* What a field takes: "an integer from 1 to 1000". */
void hk_json_expected(const hark_json_field *field, hk_json_line *line);

/* The bounds of an integer field, a time or a decimal: those of its C type and of its table. */
void hk_json_int_bounds(const hark_json_field *field, int64_t *ret_lo, int64_t *ret_hi);
void hk_json_uint_bounds(const hark_json_field *field, uint64_t *ret_lo, uint64_t *ret_hi);
/* A time as it is written: in UTC, with the fewest of 0, 3, 6 or 9 digits that are exact. */
size_t hk_json_time_text(int64_t wall_ns, char ret[HK_RFC3339_MAX]);
bool hk_json_real_fits(const hark_json_field *field, double value);
bool hk_json_length_fits(const hark_json_field *field, size_t length);
/* Most elements of a list by its table and its place. */
size_t hk_json_list_room(const hark_json_field *list);

#endif
