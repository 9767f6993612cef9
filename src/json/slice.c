/* The slicer's check: one pass over a document, a state machine with a stack of bits, no
 * recursion. It decides whether the text is JSON and where not; it keeps nothing of it. Walking
 * is in iter.c, names are compared in keys.c, strings and numbers are converted in string.c and
 * number.c. Called by the CloudEvents codec, the HTTP layer and the field tables. */
#include "json/json.h"

#include "json/keys_i.h"
#include "json/scan_i.h"

#include <string.h>

typedef enum state {
    WANT_VALUE,
    WANT_FIRST_VALUE, /* or the end of the array */
    WANT_NAME,
    WANT_FIRST_NAME, /* or the end of the object */
    WANT_REST,       /* ',', the container's end, or the end of the text */
    DONE,
    FAILED
} state;

typedef struct scan {
    const char *p;
    const char *start;
    const char *end;
    unsigned depth;
    unsigned max_depth;
    bool unique;
    hk_json_fault fault;
    const char *where; /* of the fault */
    hk_json_keys keys;
    uint64_t is_object[HK_JSON_DEPTH_MOST / 64]; /* a bit for each open container */
    size_t base[HK_JSON_DEPTH_MOST + 1];         /* where its names begin in `keys` */
} scan;

static state fail_at(scan *s, hk_json_fault fault, const char *where)
{
    s->fault = where == s->end && fault != HK_JSON_FAULT_EMPTY ? HK_JSON_FAULT_END : fault;
    s->where = where;
    return FAILED;
}

/* ---- containers ------------------------------------------------------------------------------ */

static bool in_object(const scan *s)
{
    unsigned top = s->depth - 1;
    return (s->is_object[top / 64] >> (top % 64)) & 1;
}

static state open_container(scan *s, bool object)
{
    if (s->depth == s->max_depth)
        return fail_at(s, HK_JSON_FAULT_DEPTH, s->p);
    uint64_t bit = UINT64_C(1) << (s->depth % 64);
    if (object)
        s->is_object[s->depth / 64] |= bit;
    else
        s->is_object[s->depth / 64] &= ~bit;
    s->base[++s->depth] = s->keys.count;
    s->p++;
    return object ? WANT_FIRST_NAME : WANT_FIRST_VALUE;
}

static state close_container(scan *s)
{
    if (in_object(s)) {
        const char *twin = hk_json_keys_close(&s->keys, s->base[s->depth]);
        if (twin != NULL)
            return fail_at(s, HK_JSON_FAULT_DUPLICATE, twin);
    }
    s->depth--;
    s->p++;
    return WANT_REST;
}

/* ---- strings --------------------------------------------------------------------------------- */

/* The escape at p (a backslash); returns what follows it, NULL on a fault. */
static const char *scan_escape(scan *s, const char *p)
{
    if (s->end - p < 2)
        return fail_at(s, HK_JSON_FAULT_END, s->end), NULL;
    if (p[1] != 'u') {
        if (memchr("\"\\/bfnrt", p[1], 8) == NULL)
            return fail_at(s, HK_JSON_FAULT_ESCAPE, p), NULL;
        return p + 2;
    }
    int unit = hk_json_hex4(p + 2, s->end);
    if (unit < 0)
        return fail_at(s, HK_JSON_FAULT_ESCAPE, p), NULL;
    if (unit < 0xd800 || unit > 0xdfff)
        return p + 6;
    int low = -1;
    if (unit < 0xdc00 && s->end - p >= 12 && p[6] == '\\' && p[7] == 'u')
        low = hk_json_hex4(p + 8, s->end);
    if (low < 0xdc00 || low > 0xdfff)
        return fail_at(s, HK_JSON_FAULT_SURROGATE, p), NULL;
    return p + 12;
}

/* What ends a run of plain bytes at p, other than the closing quote. */
static const char *scan_special(scan *s, const char *p, bool *escaped)
{
    if (*p == '\\') {
        *escaped = true;
        return scan_escape(s, p);
    }
    if ((unsigned char)*p < 0x20)
        return fail_at(s, HK_JSON_FAULT_CONTROL, p), NULL;
    while (p < s->end && (unsigned char)*p >= 0x80) {
        size_t n = hk_json_utf8(p, (size_t)(s->end - p));
        if (n == 0)
            return fail_at(s, HK_JSON_FAULT_UTF8, p), NULL;
        p += n;
    }
    return p;
}

/* The string at s->p (its opening quote); moves behind the closing one. */
static bool scan_string(scan *s, bool *escaped)
{
    const char *p = s->p + 1;
    for (;;) {
        p = hk_json_plain(p, s->end);
        if (p == s->end)
            return fail_at(s, HK_JSON_FAULT_END, p), false;
        if (*p == '"')
            break;
        p = scan_special(s, p, escaped);
        if (p == NULL)
            return false;
    }
    s->p = p + 1;
    return true;
}

/* ---- numbers and words ----------------------------------------------------------------------- */

/* One digit or more at p; returns what follows them, NULL on a fault. */
static const char *scan_digits(scan *s, const char *p)
{
    if (p == s->end || !hk_json_digit(*p))
        return fail_at(s, HK_JSON_FAULT_NUMBER, p), NULL;
    return hk_json_digits(p, s->end);
}

static state scan_number(scan *s)
{
    const char *p = s->p;
    if (*p == '-')
        p++;
    p = p < s->end && *p == '0' ? p + 1 : scan_digits(s, p);
    if (p != NULL && p < s->end && *p == '.')
        p = scan_digits(s, p + 1);
    if (p != NULL && p < s->end && (*p == 'e' || *p == 'E')) {
        p++;
        if (p < s->end && (*p == '+' || *p == '-'))
            p++;
        p = scan_digits(s, p);
    }
    if (p == NULL)
        return FAILED;
    if (p < s->end && hk_json_digit(*p))
        return fail_at(s, HK_JSON_FAULT_NUMBER, s->p); /* a leading zero */
    s->p = p;
    return WANT_REST;
}

static state scan_word(scan *s, const char *word, size_t len)
{
    size_t left = (size_t)(s->end - s->p);
    if (left < len && memcmp(s->p, word, left) == 0)
        return fail_at(s, HK_JSON_FAULT_END, s->end);
    if (left < len || memcmp(s->p, word, len) != 0)
        return fail_at(s, HK_JSON_FAULT_LITERAL, s->p);
    s->p += len;
    return WANT_REST;
}

/* ---- the machine ----------------------------------------------------------------------------- */

static state scan_value(scan *s)
{
    bool escaped = false;
    switch (*s->p) {
    case '{':
        return open_container(s, true);
    case '[':
        return open_container(s, false);
    case '"':
        return scan_string(s, &escaped) ? WANT_REST : FAILED;
    case 't':
        return scan_word(s, "true", 4);
    case 'f':
        return scan_word(s, "false", 5);
    case 'n':
        return scan_word(s, "null", 4);
    default:
        if (*s->p == '-' || hk_json_digit(*s->p))
            return scan_number(s);
        return fail_at(s, HK_JSON_FAULT_VALUE, s->p);
    }
}

static state scan_name(scan *s)
{
    hk_json_slice name = {.ptr = s->p, .kind = HK_JSON_STRING};
    if (*s->p != '"')
        return fail_at(s, HK_JSON_FAULT_NAME, s->p);
    if (!scan_string(s, &name.escaped))
        return FAILED;
    name.len = (size_t)(s->p - name.ptr);
    if (s->unique) {
        hk_json_fault fault = hk_json_keys_add(&s->keys, s->base[s->depth], name);
        if (fault != HK_JSON_FAULT_NONE)
            return fail_at(s, fault, name.ptr);
    }
    s->p = hk_json_space(s->p, s->end);
    if (s->p == s->end || *s->p != ':')
        return fail_at(s, HK_JSON_FAULT_COLON, s->p);
    s->p++;
    return WANT_VALUE;
}

static state scan_rest(scan *s)
{
    if (s->depth == 0)
        return fail_at(s, HK_JSON_FAULT_TRAILING, s->p);
    bool object = in_object(s);
    if (*s->p == (object ? '}' : ']'))
        return close_container(s);
    if (*s->p != ',')
        return fail_at(s, object ? HK_JSON_FAULT_OBJECT : HK_JSON_FAULT_ARRAY, s->p);
    s->p++;
    return object ? WANT_NAME : WANT_VALUE;
}

static state scan_step(scan *s, state want)
{
    switch (want) {
    case WANT_FIRST_VALUE:
        return *s->p == ']' ? close_container(s) : scan_value(s);
    case WANT_VALUE:
        return scan_value(s);
    case WANT_FIRST_NAME:
        return *s->p == '}' ? close_container(s) : scan_name(s);
    case WANT_NAME:
        return scan_name(s);
    default:
        return scan_rest(s);
    }
}

static state scan_run(scan *s)
{
    state st = WANT_VALUE;
    while (st < DONE) {
        s->p = hk_json_space(s->p, s->end);
        if (s->p < s->end)
            st = scan_step(s, st);
        else if (st == WANT_REST && s->depth == 0)
            st = DONE;
        else
            st = fail_at(s, s->depth == 0 ? HK_JSON_FAULT_EMPTY : HK_JSON_FAULT_END, s->p);
    }
    return st;
}

/* ---- the outside ----------------------------------------------------------------------------- */

static const char *fault_reason(hk_json_fault fault)
{
    static const char *const reasons[] = {
#define HK_JSON_FAULT_TEXT(name, reason) reason,
        HK_JSON_FAULT_MAP(HK_JSON_FAULT_TEXT)
#undef HK_JSON_FAULT_TEXT
    };
    return reasons[fault];
}

static hark_err fault_err(hk_json_fault fault)
{
    if (fault == HK_JSON_FAULT_MEMORY)
        return HARK_ENOMEM;
    return fault == HK_JSON_FAULT_LIMITS ? HARK_EINVAL : HARK_ESYNTAX;
}

static hark_err check_failed(const char *text, size_t len, hk_json_fault fault, size_t offset,
                             hk_json_error *ret)
{
    if (ret != NULL) {
        *ret = (hk_json_error){.fault = fault, .reason = fault_reason(fault), .offset = offset};
        hk_json_place(text, len, offset, &ret->line, &ret->column);
    }
    return fault_err(fault);
}

hark_err hk_json_check(const char *text, size_t len, const hk_json_limits *limits,
                       hk_json_slice *ret_root, hk_json_error *ret_error)
{
    static const hk_json_limits defaults = {0};
    const hk_json_limits *l = limits != NULL ? limits : &defaults;
    if (l->max_depth > HK_JSON_DEPTH_MOST)
        return check_failed(text, len, HK_JSON_FAULT_LIMITS, 0, ret_error);
    if (len == 0)
        return check_failed("", 0, HK_JSON_FAULT_EMPTY, 0, ret_error);
    if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        return check_failed(text, len, HK_JSON_FAULT_BOM, 0, ret_error);

    scan s; /* not cleared as a whole, it is large: names and bases are set before they are read */
    memset(s.is_object, 0, sizeof(s.is_object));
    s.p = s.start = text;
    s.end = text + len;
    s.depth = 0;
    s.max_depth = l->max_depth != 0 ? l->max_depth : HK_JSON_DEPTH_DEFAULT;
    s.unique = !l->allow_duplicates;
    hk_json_keys_init(&s.keys);
    state st = scan_run(&s);
    hk_json_keys_free(&s.keys);
    if (st == FAILED)
        return check_failed(text, len, s.fault, (size_t)(s.where - s.start), ret_error);
    if (ret_root != NULL)
        *ret_root = hk_json_root(text, len);
    return HARK_OK;
}

void hk_json_place(const char *text, size_t len, size_t offset, size_t *ret_line,
                   size_t *ret_column)
{
    size_t line = 1, column = 1;
    for (size_t i = 0; i < offset && i < len; i++) {
        if (text[i] == '\n') {
            line++;
            column = 1;
        } else if (((unsigned char)text[i] & 0xc0) != 0x80) {
            column++;
        }
    }
    *ret_line = line;
    *ret_column = column;
}

hark_err hk_json_fail(hark_errinfo *ei, hark_err err, const hk_json_error *error)
{
    return hk_fail(ei, err, "line %zu, column %zu (byte %zu): %s", error->line, error->column,
                   error->offset, error->reason);
}
