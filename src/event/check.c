/* check.c: what CloudEvents 1.0.2 asks of attributes (sections "Type System" and "Context
 * Attributes"). Each refusal names the attribute, what is wrong with it and where. */
#include "event/event_i.h"

#include <string.h>

/* Eight bytes that are all printable ASCII: neither below 0x20, nor 0x7F, nor above. */
static bool printable8(uint64_t w)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), high = ones * 0x80;
    uint64_t below = (w - ones * 0x20) & ~w; /* high bit set where a byte < 0x20 */
    uint64_t del = w ^ ones * 0x7F;
    uint64_t is_del = (del - ones) & ~del;
    return ((below | is_del | w) & high) == 0;
}

static size_t printable_ascii(const char *s, size_t len)
{
    size_t i = 0;
    uint64_t w;
    while (len - i >= 8 && (memcpy(&w, s + i, 8), printable8(w)))
        i += 8;
    if (len >= 8 && len - i < 8 && (memcpy(&w, s + len - 8, 8), printable8(w)))
        return len; /* the rest, with some that were looked at before */
    while (i < len && s[i] >= 0x20 && s[i] < 0x7F)
        i++;
    return i;
}

/* Reads one valid UTF-8 sequence. */
static uint32_t code_point(const unsigned char *s, size_t *ret_len)
{
    if (s[0] < 0x80) {
        *ret_len = 1;
        return s[0];
    }
    size_t n = s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : 4;
    uint32_t c = s[0] & (0xFFu >> (n + 1));
    for (size_t i = 1; i < n; i++)
        c = c << 6 | (s[i] & 0x3Fu);
    *ret_len = n;
    return c;
}

static bool allowed(uint32_t c)
{
    bool control = c < 0x20 || (c >= 0x7F && c <= 0x9F);
    bool nonchar = (c >= 0xFDD0 && c <= 0xFDEF) || (c & 0xFFFE) == 0xFFFE;
    return !control && !nonchar;
}

static hark_err check_text(const char *name, const char *value, size_t len, hark_errinfo *ei)
{
    size_t i = printable_ascii(value, len);
    if (i == len)
        return HARK_OK;
    size_t valid = i + hk_utf8_valid(value + i, len - i);
    while (i < valid) {
        size_t n;
        uint32_t c = code_point((const unsigned char *)value + i, &n);
        if (!allowed(c))
            return hk_fail(ei, HARK_EINVAL,
                           "attribute %s holds U+%04X at byte %zu; control characters and "
                           "noncharacters are not allowed",
                           name, (unsigned)c, i);
        i += n;
    }
    if (valid < len)
        return hk_fail(ei, HARK_EINVAL, "attribute %s is not UTF-8 at byte %zu", name, valid);
    return HARK_OK;
}

static bool is_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* RFC 3986: an absolute URI begins with a scheme. */
static bool has_scheme(const char *s)
{
    if (!is_alpha(*s))
        return false;
    while (is_alpha(*s) || is_digit(*s) || *s == '+' || *s == '-' || *s == '.')
        s++;
    return *s == ':' && s[1] != '\0';
}

static bool is_token(char c)
{
    return is_alpha(c) || is_digit(c) || (c && strchr("!#$%&'*+-.^_`|~", c));
}

/* RFC 2046: type "/" subtype, then parameters that we leave alone. */
static bool is_media_type(const char *s)
{
    const char *start = s;
    while (is_token(*s))
        s++;
    if (s == start || *s++ != '/')
        return false;
    start = s;
    while (is_token(*s))
        s++;
    return s > start && (*s == '\0' || *s == ';' || *s == ' ');
}

/* A URI reference holds no white space and none of <>"{}|\^`. */
static bool is_uri_reference(const char *s)
{
    return strcspn(s, " <>\"{}|\\^`") == strlen(s);
}

static hark_err check_form(const char *name, const char *value, hark_errinfo *ei)
{
    if (strcmp(name, "dataschema") == 0 && (!has_scheme(value) || !is_uri_reference(value)))
        return hk_fail(ei, HARK_EINVAL,
                       "attribute dataschema is '%.60s'; it must be an absolute URI", value);
    if (strcmp(name, "datacontenttype") == 0 && !is_media_type(value))
        return hk_fail(ei, HARK_EINVAL,
                       "attribute datacontenttype is '%.60s'; it must be a media type like "
                       "application/json",
                       value);
    if (strcmp(name, "source") == 0 && !is_uri_reference(value))
        return hk_fail(ei, HARK_EINVAL, "attribute source is '%.60s'; it must be a URI reference",
                       value);
    return HARK_OK;
}

hark_err hk_attr_check(const char *name, const char *value, size_t len, size_t max,
                       hark_errinfo *ei)
{
    if (len == 0)
        return hk_fail(ei, HARK_EINVAL, "attribute %s is empty; give it a value", name);
    if (len > max)
        return hk_fail(ei, HARK_ETOOBIG, "attribute %s has %zu bytes; at most %zu", name, len, max);
    hark_err err = check_text(name, value, len, ei);
    bool has_form = *name == 'd' || *name == 's'; /* dataschema, datacontenttype, source */
    return err || !has_form ? err : check_form(name, value, ei);
}

hark_err hk_ext_name_check(const char *name, hark_errinfo *ei)
{
    static const char *const core[] = {
        "id",         "source",  "specversion", "type", "data", "datacontenttype",
        "dataschema", "subject", "data_base64", "time"};
    if (!name || !*name)
        return hk_fail(ei, HARK_EINVAL, "an extension attribute has no name");
    for (const char *c = name; *c; c++)
        if (!is_digit(*c) && !(*c >= 'a' && *c <= 'z'))
            return hk_fail(ei, HARK_EINVAL,
                           "attribute %.40s: a name has lower-case letters a-z and digits only",
                           name);
    for (size_t i = 0; i < HK_COUNTOF(core); i++)
        if (strcmp(name, core[i]) == 0)
            return hk_fail(ei, HARK_EINVAL, "attribute %s cannot be used as an extension", name);
    if (strlen(name) > HARK_TYPE_MAX)
        return hk_fail(ei, HARK_ETOOBIG, "an extension's name has %zu bytes; at most %d",
                       strlen(name), HARK_TYPE_MAX);
    return HARK_OK;
}

/* As JSON writes it, so without leading zeros. */
static bool is_int32(const char *s)
{
    bool negative = *s == '-';
    uint64_t n;
    s += negative;
    if (s[0] == '0' && s[1] != '\0')
        return false;
    return hk_parse_u64(s, strlen(s), &n) && n <= (uint64_t)INT32_MAX + negative;
}

hark_err hk_ext_check(const hark_ext *x, hark_errinfo *ei)
{
    size_t len = strlen(x->value);
    if (x->kind == HARK_EXT_INTEGER && !is_int32(x->value))
        return hk_fail(
            ei, HARK_EINVAL,
            "attribute %s is %.40s; an Integer has 32 bits with sign and no leading zeros, "
            "send anything else as a String",
            x->name, x->value);
    if (x->kind == HARK_EXT_BOOLEAN && strcmp(x->value, "true") != 0 &&
        strcmp(x->value, "false") != 0)
        return hk_fail(ei, HARK_EINVAL, "attribute %s is '%.40s'; a Boolean is true or false",
                       x->name, x->value);
    if (x->kind < HARK_EXT_STRING || x->kind > HARK_EXT_BOOLEAN)
        return hk_fail(ei, HARK_EINVAL, "attribute %s: unknown kind %d", x->name, (int)x->kind);
    if (len > HARK_ATTR_MAX)
        return hk_fail(ei, HARK_ETOOBIG, "attribute %s has %zu bytes; at most %d", x->name, len,
                       HARK_ATTR_MAX);
    return check_text(x->name, x->value, len, ei);
}

/* Case-insensitive: does a media type name JSON? Parameters are stripped. */
bool hark_media_is_json(const char *t)
{
    if (!t)
        return true;
    size_t len = strcspn(t, "; ");
    const char *slash = memchr(t, '/', len);
    if (!slash)
        return false;
    const char *sub = slash + 1;
    size_t n = len - (size_t)(sub - t);
    return (n == 4 && strncasecmp(sub, "json", 4) == 0) ||
           (n > 5 && strncasecmp(sub + n - 5, "+json", 5) == 0);
}

const char *hark_durability_name(hark_durability d)
{
    static const char *const names[] = {"any", "memory", "os", "disk", "replicated"};
    return d >= HARK_ANY && d <= HARK_REPLICATED ? names[d] : "?";
}
