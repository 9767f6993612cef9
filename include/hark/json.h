/* hark/json.h: field tables, which map JSON to C structs and back.
 *
 * A table is declared once for a struct and says for each member its JSON name, type and rules:
 *
 *     HARK_JSON_TABLE(item_json, struct item,
 *         HARK_JSON_STR(struct item, sku, .required = true, .max_len = 40),
 *         HARK_JSON_INT(struct item, quantity, HARK_JSON_RANGE(1, 1000)));
 *     HARK_JSON_TABLE(order_json, struct order,
 *         HARK_JSON_STR(struct order, user_id, .as = "userId", .required = true),
 *         HARK_JSON_ARRAY(struct order, items, n_items, &item_json, .min_len = 1),
 *         HARK_JSON_DOUBLE(struct order, weight, HARK_JSON_HAS(struct order, has_weight)));
 *
 * Decoding reports every fault of a document at once, each with its JSON path. What encoding
 * writes, decoding with the same table accepts. A member of the wrong C type does not compile.
 */
#ifndef HARK_JSON_H
#define HARK_JSON_H

#include <hark/error.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- tables -------------------------------------------------------------------------------- */

#define HARK_JSON_MAX_DEPTH  64          /* nesting of a document, read or written */
#define HARK_JSON_MAX_FIELDS 256         /* fields of one table */
#define HARK_JSON_MAX_TABLES 64          /* tables that one table reaches through nested structs */
#define HARK_JSON_MAX_MEMORY (64u << 20) /* bytes that one decode may allocate */

typedef enum hark_json_type {
    HARK_JSON_T_BOOL = 1,
    HARK_JSON_T_INT = 2,  /* int8_t to int64_t, by the size of the member */
    HARK_JSON_T_UINT = 3, /* uint8_t to uint64_t */
    HARK_JSON_T_DOUBLE = 4,
    HARK_JSON_T_STR = 5,     /* char *, owned */
    HARK_JSON_T_CHARS = 6,   /* char [N] */
    HARK_JSON_T_ENUM = 7,    /* int or enum, through a table of names */
    HARK_JSON_T_RAW = 8,     /* char * and size_t, owned: any JSON value, byte for byte */
    HARK_JSON_T_OBJECT = 9,  /* a nested struct */
    HARK_JSON_T_LIST = 10,   /* an array: owned pointer (or fixed array) and size_t */
    HARK_JSON_T_TIME = 11,   /* int64_t, nanoseconds since 1970 */
    HARK_JSON_T_BYTES = 12,  /* unsigned char * or void *, and size_t, owned */
    HARK_JSON_T_DECIMAL = 13 /* int64_t, in units of 10^-digits */
} hark_json_type;

typedef struct hark_json_table hark_json_table;

/* Names of an enum, ended by {NULL, 0}. The first name of a value is the one written. */
typedef struct hark_json_name {
    const char *name;
    int value;
} hark_json_name;

/* One member of a struct. Made by the macros below only, so that it may grow at the end (field_size
 * of the table tells how far the caller's goes); of its parts only the options are meant to be
 * written by hand. */
typedef struct hark_json_field {
    const char *member;
    hark_json_type type;
    hark_json_type elem; /* of a list: type of its elements */
    size_t owner_size;   /* of the struct that the member is in */
    size_t offset;
    size_t size;
    size_t elem_size;    /* of a list: bytes of one element */
    size_t count_offset; /* of a list, bytes or raw value: the size_t with its count or length */
    size_t count_size;
    size_t has_offset; /* of the bool that says whether the member is there; see HARK_JSON_HAS */
    size_t has_size;
    const hark_json_table *table; /* of nested structs */
    const hark_json_name *names;  /* of enums */
    int64_t min_int, max_int;     /* see HARK_JSON_RANGE */
    double min_real, max_real;
    bool has_min, has_max;
    bool in_place; /* a list in a fixed array */
    /* Options. */
    bool required;   /* must be in the JSON, and not null */
    uint32_t unused; /* 0 */
    const char *as;  /* name in JSON; default: the member's */
    const char *doc; /* one line for people, for generated schemas */
    size_t min_len;  /* fewest characters of a string (code points), elements of a list, bytes */
    size_t max_len;  /* most of them; 0 = no bound but memory and, in a fixed array, its size */
    /* Since decimals. */
    int32_t digits;   /* of a decimal: its digits after the point */
    bool as_text;     /* option of a decimal: a JSON string, "12.34", instead of a number */
    uint8_t spare[3]; /* 0 */
} hark_json_field;

#define HARK_JSON_REFUSE_UNKNOWN                                                                   \
    1u /* table flag: a member that is not in the table is an error                                \
        */

struct hark_json_table {
    size_t size; /* of this struct */
    const char *name;
    size_t struct_size; /* of the C struct */
    const hark_json_field *fields;
    size_t n_fields;
    size_t field_size; /* of hark_json_field as the caller was compiled */
    uint64_t flags;
};

/* A table for struct T, visible in this file; at file scope only. Unknown members are ignored by
 * the first macro and refused by the second. A table may name itself (trees through
 * HARK_JSON_ARRAY). */
#define HARK_JSON_TABLE(table, T, ...) HARK_JSON_TABLE_FLAGS(table, T, 0, __VA_ARGS__)
#define HARK_JSON_TABLE_STRICT(table, T, ...)                                                      \
    HARK_JSON_TABLE_FLAGS(table, T, HARK_JSON_REFUSE_UNKNOWN, __VA_ARGS__)
#define HARK_JSON_TABLE_FLAGS(table, T, bits, ...)                                                 \
    static const hark_json_table table;                                                            \
    static const hark_json_field table##_fields_[] = {__VA_ARGS__};                                \
    static const hark_json_table table = {sizeof(hark_json_table),                                 \
                                          #table,                                                  \
                                          sizeof(T),                                               \
                                          table##_fields_,                                         \
                                          sizeof(table##_fields_) / sizeof(table##_fields_[0]),    \
                                          sizeof(hark_json_field),                                 \
                                          (bits)}

/* ---- fields: (struct type, member, …, options) ----------------------------------------------- */

/* (T, bool member, options) */
#define HARK_JSON_BOOL(...) HARK_JSON_BOOL_(__VA_ARGS__, .unused = 0)
/* (T, member of any signed or unsigned integer type, options). A number is taken if its value is
 * an integer that fits, however it is written: 5, 5.0 and 50e-1 are 5; 5.5 and 1e40 are errors. */
#define HARK_JSON_INT(...) HARK_JSON_INT_(__VA_ARGS__, .unused = 0)
/* (T, double member, options). 1e400 is an error; 1e-400 is 0. */
#define HARK_JSON_DOUBLE(...) HARK_JSON_DOUBLE_(__VA_ARGS__, .unused = 0)
/* (T, char *member, options): owned, UTF-8, NUL-terminated; NULL = not there. */
#define HARK_JSON_STR(...) HARK_JSON_STR_(__VA_ARGS__, .unused = 0)
/* (T, char member[N], options): at most N - 1 bytes. */
#define HARK_JSON_CHARS(...) HARK_JSON_CHARS_(__VA_ARGS__, .unused = 0)
/* (T, int or enum member, names, options) */
#define HARK_JSON_ENUM(...) HARK_JSON_ENUM_(__VA_ARGS__, .unused = 0)
/* (T, char *member, size_t length member, options): any value, null too, byte for byte; owned and
 * NUL-terminated; NULL = not there. */
#define HARK_JSON_RAW(...) HARK_JSON_RAW_(__VA_ARGS__, .unused = 0)
/* (T, int64_t member, options): nanoseconds since 1970-01-01T00:00:00Z, in JSON a string with a
 * time of RFC 3339. Any offset is taken, "T" and "Z" in either case, and up to nine digits of a
 * second; more are refused, as is what 64 bits do not hold (it ends at
 * 1677-09-21T00:12:43.145224192Z and 2262-04-11T23:47:16.854775807Z). The leap second 23:59:60 UTC
 * is taken on any day as the first second of the next one, because a count of seconds since 1970
 * has no place for it; a second 60 anywhere else is refused. Written in UTC with "Z" and the
 * fewest digits (0, 3, 6 or 9) that are exact. Without a `has` flag, 0 is a time like others.
 * HARK_JSON_RANGE is in nanoseconds. */
#define HARK_JSON_TIME(...) HARK_JSON_TIME_(__VA_ARGS__, .unused = 0)
/* (T, unsigned char * or void * member, size_t count member, options): any bytes, in JSON a string
 * of base64 (RFC 4648 section 4: with padding; white space, the URL alphabet and padding bits that
 * are not 0 are refused). Owned; NULL = not there, no bytes = a pointer that is not NULL and a
 * count of 0. .min_len and .max_len count bytes. */
#define HARK_JSON_BYTES(...) HARK_JSON_BYTES_(__VA_ARGS__, .unused = 0)
/* (T, int64_t member, digits, options): an exact decimal such as money. The member counts units of
 * 10^-digits (digits 0 to 18): with 2, 12.30 is 1230. A number is taken if it is a whole count of
 * them that fits, however it is written: 12.3, 12.300 and 1.23e1 are 1230; 12.345 and 1e40 are
 * errors; it never becomes a double. Written with all its digits: 12.30. With .as_text = true it
 * is a JSON string with such a number, for readers who know doubles only. HARK_JSON_RANGE is in
 * units of the member: up to 99.99 is HARK_JSON_MAX(9999). */
#define HARK_JSON_DECIMAL(...) HARK_JSON_DECIMAL_(__VA_ARGS__, .unused = 0)
/* (T, struct member, its table, options) */
#define HARK_JSON_OBJECT(...) HARK_JSON_OBJECT_(__VA_ARGS__, .unused = 0)
/* (T, struct pointer member, size_t count member, table of the struct, options): owned. */
#define HARK_JSON_ARRAY(...) HARK_JSON_ARRAY_(__VA_ARGS__, .unused = 0)
/* (T, pointer member, size_t count member, options): owned; elements bool, any integer, double or
 * owned char *. HARK_JSON_RANGE bounds the elements, .min_len and .max_len the count. */
#define HARK_JSON_LIST(...) HARK_JSON_LIST_(__VA_ARGS__, .unused = 0)
/* (T, pointer to int or enum, size_t count member, names, options): owned. */
#define HARK_JSON_ENUM_LIST(...) HARK_JSON_ENUM_LIST_(__VA_ARGS__, .unused = 0)
/* The same in a fixed array inside the struct; its size bounds the count. */
#define HARK_JSON_FIXED_ARRAY(...) HARK_JSON_FIXED_ARRAY_(__VA_ARGS__, .unused = 0)
#define HARK_JSON_FIXED_LIST(...)  HARK_JSON_FIXED_LIST_(__VA_ARGS__, .unused = 0)

/* Options besides .required, .as, .doc, .min_len and .max_len: bounds of a number, both included
 * and constants of the member's type, and the bool member that says whether the field is there. */
#define HARK_JSON_MIN(v)                                                                           \
    .has_min = true, .min_int = (int64_t)HARK_JSON_WHOLE_(v), .min_real = (double)(v)
#define HARK_JSON_MAX(v)                                                                           \
    .has_max = true, .max_int = (int64_t)HARK_JSON_WHOLE_(v), .max_real = (double)(v)
#define HARK_JSON_RANGE(lo, hi) HARK_JSON_MIN(lo), HARK_JSON_MAX(hi)
#define HARK_JSON_HAS(T, m)                                                                        \
    .has_offset = offsetof(T, m), .has_size = _Generic(HARK_JSON_OF_(T, m), bool : sizeof(bool))

/* ---- errors ---------------------------------------------------------------------------------- */

#define HARK_JSON_MAX_ERRORS 32

/* One fault of a document. `text` says what is there and what is expected, and reads on after the
 * path: "is 0, expected an integer from 1 to 1000". */
typedef struct hark_json_error {
    char path[120]; /* "$.items[2].quantity" */
    char text[192];
    char rule[16];   /* syntax, type, required, range, format, length, enum, unknown, nul, memory,
                      table */
    uint64_t offset; /* byte in the text */
    uint64_t line;   /* from 1 */
    uint64_t column; /* from 1, in characters */
} hark_json_error;

/* The faults of a document, in its order: the first HARK_JSON_MAX_ERRORS, and how many more. */
typedef struct hark_json_errors {
    size_t count;
    size_t more;
    hark_json_error list[HARK_JSON_MAX_ERRORS];
} hark_json_errors;

/* Writes the faults as text, one a line, "and N more" at the end; always NUL-terminated. Returns
 * the bytes that the whole text has, as snprintf does.
 * Ownership: none.
 * Threads: any.
 * Blocks: no.
 * Errors: none. */
HARK_API size_t hark_json_errors_format(const hark_json_errors *errors, char *buf, size_t size);

/* ---- functions ------------------------------------------------------------------------------- */

/* Checks a table and those it reaches against their structs. Decode and encode do it, too.
 * Ownership: none.
 * Threads: any.
 * Blocks: no.
 * Errors: HARK_EINVAL with table, member and reason in `ei` (may be NULL). */
HARK_API HARK_MUST hark_err hark_json_table_check(const hark_json_table *table, hark_errinfo *ei);

/* Reads a JSON document (RFC 8259, UTF-8, no duplicate member names) into the struct at
 * `ret_struct`, which must be initialised, to zeros as a rule: a member that the document leaves
 * out keeps what the struct had, so defaults are set beforehand, and decoding twice merges. null
 * for a member that is not required is as if left out, but clears its `has` flag, string, bytes or
 * list. On failure the struct is as it was, nothing stays allocated, and `errors` (may be NULL) has
 * all that is wrong; on success it is empty.
 * Ownership: strings, bytes, raw values and lists in the struct are the caller's, made by malloc,
 * to be given back with hark_json_free. What is replaced is freed, so it must be NULL or from
 * malloc.
 * Threads: any; one struct in one thread at a time.
 * Blocks: no.
 * Errors: HARK_ESYNTAX (malformed, nested deeper than HARK_JSON_MAX_DEPTH, invalid UTF-8,
 * duplicate names), HARK_ESCHEMA (breaks the table's rules), HARK_ETOOBIG (would take more than
 * HARK_JSON_MAX_MEMORY), HARK_EINVAL (table or arguments), HARK_ENOMEM. */
HARK_API HARK_MUST hark_err hark_json_decode(const hark_json_table *table, const char *text,
                                             size_t len, void *ret_struct,
                                             hark_json_errors *errors);

/* Writes a struct as JSON, compact, in the order of the table. Members whose `has` flag is false
 * and NULL strings, bytes and raw values are left out; so is the zero of an optional member without
 * a `has` flag if its rules do not allow it (an empty list with .min_len = 1). Numbers that are
 * doubles are written with the fewest digits that read back the same, in every locale. `ret_len`
 * may be NULL.
 * Ownership: *ret is the caller's, NUL-terminated, to be freed with free.
 * Threads: any, as long as nobody writes the struct.
 * Blocks: no.
 * Errors: HARK_ESCHEMA (a value that breaks the table's rules: out of range, no finite number, no
 * UTF-8, unnamed enum value, a required member that is not there, raw text that is no JSON, too
 * deep), HARK_EINVAL (table or arguments), HARK_ENOMEM; `ei` (may be NULL) says where. */
HARK_API HARK_MUST hark_err hark_json_encode(const hark_json_table *table, const void *from,
                                             char **ret, size_t *ret_len, hark_errinfo *ei);

/* Frees what the struct owns by its table and sets those members to NULL and their counts and
 * `has` flags to 0; the struct itself stays. Safe to call twice, and on a zeroed struct.
 * Ownership: gives back the strings, bytes, raw values and lists.
 * Threads: any; one struct in one thread at a time.
 * Blocks: no.
 * Errors: none; a table that does not fit frees nothing. */
HARK_API void hark_json_free(const hark_json_table *table, void *from);

/* Describes a table as a JSON Schema (draft 2020-12), compact: its fields with their .doc, rules
 * and null where decoding takes it, nested tables once each under "$defs" (a second one of the
 * same name gets a number), the table itself as "#". What decoding accepts, the schema accepts. It
 * accepts more where JSON Schema has no words or validators do not agree on them: duplicate names,
 * depth and memory; U+0000 in strings; the bytes of a char array (it says characters); doubles
 * beyond their range; the length of a month, the place of a leap second and the bounds of a time;
 * a number of bytes between two multiples of three; the bounds of decimals as text, and their
 * digits when there is an exponent; the digits of decimals as numbers (validators that divide
 * doubles hold that 4.35 is no multiple of 0.01). Where one looks at bounds more closely than a
 * double, it may refuse more.
 * Ownership: *ret is the caller's, NUL-terminated, to be freed with free.
 * Threads: any.
 * Blocks: no.
 * Errors: HARK_EINVAL with table, member and reason in `ei` (may be NULL), HARK_ENOMEM. */
HARK_API HARK_MUST hark_err hark_json_schema(const hark_json_table *table, char **ret,
                                             hark_errinfo *ei);

/* ---- how the macros are made (not part of the interface) --------------------------------------
 */

/* A _Generic without a default is a check: a member of another type does not compile. */
/* clang-format off */
#define HARK_JSON_OF_(T, m) (((T *)0)->m)
#define HARK_JSON_BASE_(T, m, kind) \
    .member = #m, .type = (kind), .owner_size = sizeof(T), .offset = offsetof(T, m)
#define HARK_JSON_SIZE_IF_(T, m, type) .size = _Generic(&HARK_JSON_OF_(T, m), type : sizeof(HARK_JSON_OF_(T, m)))
#define HARK_JSON_COUNT_(T, n) \
    .count_offset = offsetof(T, n), \
    .count_size = _Generic(HARK_JSON_OF_(T, n), size_t : sizeof(size_t))
#define HARK_JSON_INTS_ \
    signed char : HARK_JSON_T_INT, short : HARK_JSON_T_INT, int : HARK_JSON_T_INT, \
    long : HARK_JSON_T_INT, long long : HARK_JSON_T_INT, \
    unsigned char : HARK_JSON_T_UINT, unsigned short : HARK_JSON_T_UINT, \
    unsigned int : HARK_JSON_T_UINT, unsigned long : HARK_JSON_T_UINT, \
    unsigned long long : HARK_JSON_T_UINT
#define HARK_JSON_SCALAR_(v) \
    _Generic((v), bool : HARK_JSON_T_BOOL, double : HARK_JSON_T_DOUBLE, \
             char * : HARK_JSON_T_STR, HARK_JSON_INTS_)
#define HARK_JSON_ENUM_IF_(v) _Generic((v), int : HARK_JSON_T_ENUM, unsigned int : HARK_JSON_T_ENUM)
#define HARK_JSON_WHOLE_(v) _Generic((v), float : 0, double : 0, default : (v))

#define HARK_JSON_BOOL_(T, m, ...) \
    {HARK_JSON_BASE_(T, m, HARK_JSON_T_BOOL), HARK_JSON_SIZE_IF_(T, m, bool *), __VA_ARGS__}
#define HARK_JSON_INT_(T, m, ...) \
    {HARK_JSON_BASE_(T, m, _Generic(HARK_JSON_OF_(T, m), HARK_JSON_INTS_)), \
     .size = sizeof(HARK_JSON_OF_(T, m)), __VA_ARGS__}
#define HARK_JSON_DOUBLE_(T, m, ...) \
    {HARK_JSON_BASE_(T, m, HARK_JSON_T_DOUBLE), HARK_JSON_SIZE_IF_(T, m, double *), __VA_ARGS__}
#define HARK_JSON_STR_(T, m, ...) \
    {HARK_JSON_BASE_(T, m, HARK_JSON_T_STR), HARK_JSON_SIZE_IF_(T, m, char **), __VA_ARGS__}
#define HARK_JSON_CHARS_(T, m, ...) \
    {HARK_JSON_BASE_(T, m, HARK_JSON_T_CHARS), \
     HARK_JSON_SIZE_IF_(T, m, char(*)[sizeof(HARK_JSON_OF_(T, m))]), __VA_ARGS__}
#define HARK_JSON_ENUM_(T, m, values, ...) \
    {HARK_JSON_BASE_(T, m, HARK_JSON_ENUM_IF_(HARK_JSON_OF_(T, m))), \
     .size = sizeof(HARK_JSON_OF_(T, m)), .names = (values), __VA_ARGS__}
#define HARK_JSON_RAW_(T, m, n, ...) \
    {HARK_JSON_BASE_(T, m, HARK_JSON_T_RAW), HARK_JSON_SIZE_IF_(T, m, char **), \
     HARK_JSON_COUNT_(T, n), __VA_ARGS__}
#define HARK_JSON_TIME_(T, m, ...) \
    {HARK_JSON_BASE_(T, m, HARK_JSON_T_TIME), HARK_JSON_SIZE_IF_(T, m, int64_t *), __VA_ARGS__}
#define HARK_JSON_BYTES_(T, m, n, ...) \
    {HARK_JSON_BASE_(T, m, HARK_JSON_T_BYTES), \
     .size = _Generic(&HARK_JSON_OF_(T, m), unsigned char ** : sizeof(void *), \
                      void ** : sizeof(void *)), \
     HARK_JSON_COUNT_(T, n), __VA_ARGS__}
#define HARK_JSON_DECIMAL_(T, m, places, ...) \
    {HARK_JSON_BASE_(T, m, HARK_JSON_T_DECIMAL), HARK_JSON_SIZE_IF_(T, m, int64_t *), \
     .digits = (places), __VA_ARGS__}
#define HARK_JSON_OBJECT_(T, m, of, ...) \
    {HARK_JSON_BASE_(T, m, HARK_JSON_T_OBJECT), .size = sizeof(HARK_JSON_OF_(T, m)), \
     .table = (of), __VA_ARGS__}

#define HARK_JSON_OWNED_(T, m, n) \
    HARK_JSON_BASE_(T, m, HARK_JSON_T_LIST), \
    HARK_JSON_SIZE_IF_(T, m, __typeof__(&HARK_JSON_OF_(T, m)[0]) *), \
    .elem_size = sizeof(HARK_JSON_OF_(T, m)[0]), HARK_JSON_COUNT_(T, n)
#define HARK_JSON_FIXED_(T, m, n) \
    HARK_JSON_BASE_(T, m, HARK_JSON_T_LIST), .in_place = true, \
    HARK_JSON_SIZE_IF_(T, m, __typeof__(HARK_JSON_OF_(T, m)[0])(*)[sizeof(HARK_JSON_OF_(T, m)) / \
                                                                   sizeof(HARK_JSON_OF_(T, m)[0])]), \
    .elem_size = sizeof(HARK_JSON_OF_(T, m)[0]), HARK_JSON_COUNT_(T, n)
#define HARK_JSON_ARRAY_(T, m, n, of, ...) \
    {HARK_JSON_OWNED_(T, m, n), .elem = HARK_JSON_T_OBJECT, .table = (of), __VA_ARGS__}
#define HARK_JSON_LIST_(T, m, n, ...) \
    {HARK_JSON_OWNED_(T, m, n), .elem = HARK_JSON_SCALAR_(HARK_JSON_OF_(T, m)[0]), __VA_ARGS__}
#define HARK_JSON_ENUM_LIST_(T, m, n, values, ...) \
    {HARK_JSON_OWNED_(T, m, n), .elem = HARK_JSON_ENUM_IF_(HARK_JSON_OF_(T, m)[0]), \
     .names = (values), __VA_ARGS__}
#define HARK_JSON_FIXED_ARRAY_(T, m, n, of, ...) \
    {HARK_JSON_FIXED_(T, m, n), .elem = HARK_JSON_T_OBJECT, .table = (of), __VA_ARGS__}
#define HARK_JSON_FIXED_LIST_(T, m, n, ...) \
    {HARK_JSON_FIXED_(T, m, n), .elem = HARK_JSON_SCALAR_(HARK_JSON_OF_(T, m)[0]), __VA_ARGS__}
/* clang-format on */

#ifdef __cplusplus
}
#endif
#endif
