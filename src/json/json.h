/* json: reading JSON without losing its bytes, and the field tables of <hark/json.h>.
 *
 * The slicer checks a whole document and then hands out slices of it: a value is a pointer and a
 * length into the text, so that a nested value can be kept byte for byte. It builds no tree, does
 * not recurse, and allocates only to compare the names of an object with more than a few dozen
 * members. The order of use:
 *
 *     hk_json_slice root;
 *     err = hk_json_check(text, len, NULL, &root, &fault);
 *     hk_json_iter it;
 *     for (hk_json_iter_init(&it, root); hk_json_iter_next(&it, &name, &value);)
 *         if (hk_json_equals(name, "data"))
 *             ...value.ptr, value.len...
 *
 * Everything besides hk_json_check expects text that it has accepted. On other text the results
 * mean nothing, but nothing outside the slice is read. Slices borrow the text. All functions may
 * be called from any thread and never block.
 */
#ifndef HK_JSON_H
#define HK_JSON_H

#include "base/base.h"

#include <hark/json.h>

/* ---- checking ------------------------------------------------------------------------------ */

#define HK_JSON_DEPTH_DEFAULT HARK_JSON_MAX_DEPTH
#define HK_JSON_DEPTH_MOST    1024

typedef enum hk_json_kind {
    HK_JSON_NONE = 0, /* no value */
    HK_JSON_NULL,
    HK_JSON_BOOL,
    HK_JSON_NUMBER,
    HK_JSON_STRING,
    HK_JSON_ARRAY,
    HK_JSON_OBJECT
} hk_json_kind;

/* A value as it stands in the text; a string with its quotes. Member names are strings. */
typedef struct hk_json_slice {
    const char *ptr;
    size_t len;
    hk_json_kind kind;
    bool escaped; /* a string with a backslash in it */
} hk_json_slice;

typedef struct hk_json_limits {
    unsigned max_depth;    /* 0 = HK_JSON_DEPTH_DEFAULT; at most HK_JSON_DEPTH_MOST */
    bool allow_duplicates; /* RFC 8259 allows an object to have a name twice, I-JSON does not */
} hk_json_limits;

/* X(name, reason) */
#define HK_JSON_FAULT_MAP(X)                                                                       \
    X(NONE, "no fault")                                                                            \
    X(EMPTY, "the text is empty")                                                                  \
    X(END, "the text ends too early")                                                              \
    X(VALUE, "expected a value")                                                                   \
    X(NAME, "expected a member name in double quotes")                                             \
    X(COLON, "expected ':' after the member name")                                                 \
    X(OBJECT, "expected ',' or '}' after the member")                                              \
    X(ARRAY, "expected ',' or ']' after the element")                                              \
    X(TRAILING, "unexpected text after the document")                                              \
    X(LITERAL, "unknown word; expected true, false or null")                                       \
    X(NUMBER, "malformed number")                                                                  \
    X(CONTROL, "control character inside a string; write it as an escape")                         \
    X(ESCAPE, "malformed escape in a string")                                                      \
    X(SURROGATE, "lone surrogate in a string")                                                     \
    X(UTF8, "invalid UTF-8")                                                                       \
    X(BOM, "a byte order mark is not allowed")                                                     \
    X(DEPTH, "nested too deeply")                                                                  \
    X(DUPLICATE, "the object already has a member of this name")                                   \
    X(MEMORY, "out of memory")                                                                     \
    X(LIMITS, "invalid limits")

typedef enum hk_json_fault {
#define HK_JSON_FAULT_ENUM(name, reason) HK_JSON_FAULT_##name,
    HK_JSON_FAULT_MAP(HK_JSON_FAULT_ENUM)
#undef HK_JSON_FAULT_ENUM
} hk_json_fault;

typedef struct hk_json_error {
    hk_json_fault fault;
    const char *reason; /* static, one line */
    size_t offset;      /* byte of the fault; the length of the text when it ends too early */
    size_t line;        /* from 1 */
    size_t column;      /* from 1, in characters */
} hk_json_error;

/* Checks a document: RFC 8259, strict UTF-8, no lone surrogates, no duplicate names (compared
 * unescaped) unless allowed, bounded depth; noncharacters and \u0000 are allowed. A scalar counts
 * as a document. `limits` NULL means the defaults; `ret_root` and `ret_error` may be NULL, the
 * latter is written on failure only. Time is linear in the text, n log n in the members of one
 * object. Errors: HARK_ESYNTAX, HARK_ENOMEM, HARK_EINVAL (limits). */
hark_err hk_json_check(const char *text, size_t len, const hk_json_limits *limits,
                       hk_json_slice *ret_root, hk_json_error *ret_error) HARK_MUST;

/* Puts "line 2, column 5 (byte 17): expected a value" into `ei` and returns `err`. */
hark_err hk_json_fail(hark_errinfo *ei, hark_err err, const hk_json_error *error);

/* Line and column of a byte of a text, both from 1. */
void hk_json_place(const char *text, size_t len, size_t offset, size_t *ret_line,
                   size_t *ret_column);

/* ---- walking ------------------------------------------------------------------------------- */

/* The value of a checked document without the white space around it; kind NONE if there is none. */
hk_json_slice hk_json_root(const char *text, size_t len);

typedef struct hk_json_iter {
    const char *p;
    const char *end;
    bool object;
} hk_json_iter;

/* Starts at the first member or element of a container; of any other value there are none. */
void hk_json_iter_init(hk_json_iter *it, hk_json_slice container);

/* Next member or element; false after the last one. `ret_name` may be NULL; for an array it is
 * set to kind NONE. */
bool hk_json_iter_next(hk_json_iter *it, hk_json_slice *ret_name, hk_json_slice *ret_value);

/* Members or elements of a container; 0 for any other value. */
size_t hk_json_count(hk_json_slice container);

/* Finds the first member of that name; false if there is none. For a few look-ups only: each one
 * walks the object. */
bool hk_json_find(hk_json_slice object, const char *name, hk_json_slice *ret_value);

/* ---- strings ------------------------------------------------------------------------------- */

typedef struct hk_json_measure {
    size_t bytes; /* of the unescaped text */
    size_t chars; /* code points */
    bool has_nul; /* contains \u0000 */
} hk_json_measure;

/* All of these take a STRING slice; of another kind they make nothing. */
hk_json_measure hk_json_string_measure(hk_json_slice string);
/* Writes the unescaped text (no NUL) to `ret`, which has room for string.len - 2 bytes or for what
 * hk_json_string_measure said; returns its length. */
size_t hk_json_unescape_to(hk_json_slice string, char *ret);
/* Appends the unescaped text; look at buf->failed afterwards. */
void hk_json_unescape(hk_json_slice string, hk_buf *buf);
/* Whether the unescaped text is this one. */
bool hk_json_equals(hk_json_slice string, const char *text);

/* ---- numbers ------------------------------------------------------------------------------- */

/* Exact conversions of a NUMBER slice. An integer may be written in any way (5, 5.0, 50e-1, -0);
 * a fraction, or a value that does not fit, is HARK_ESCHEMA and never wrapped or rounded. */
hark_err hk_json_int64(hk_json_slice number, int64_t *ret) HARK_MUST;
hark_err hk_json_uint64(hk_json_slice number, uint64_t *ret) HARK_MUST;
/* The same in units of 10^-digits (0 to 18): with 2 digits 12.3 is 1230; 12.345 does not fit. */
hark_err hk_json_decimal(hk_json_slice number, int digits, int64_t *ret) HARK_MUST;
/* Appends it with all its digits: 12.30; an integer when there are none. */
void hk_json_add_decimal(hk_buf *buf, int64_t units, int digits);
/* The nearest double, in every locale. Beyond the range (1e400) HARK_ESCHEMA; 1e-400 is 0. */
hark_err hk_json_double(hk_json_slice number, double *ret) HARK_MUST;
/* Appends a double with the fewest digits (up to 17) that read back the same; layout as
 * ECMAScript's, so 1e+21, 0.000001, 5; -0 stays -0. False, and nothing appended, for NaN and
 * infinity. */
bool hk_json_add_double(hk_buf *buf, double value);

#endif
