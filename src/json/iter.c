/* Walks checked documents: the root, members and elements, each as a slice of the text. Values are
 * stepped over without being looked into, a container by counting brackets. It does not validate,
 * but never reads outside of what it was given. Called by whoever called hk_json_check. */
#include "json/json.h"

#include "json/scan_i.h"

#include <string.h>

/* Behind the string whose opening quote is at p. */
static const char *skip_string(const char *p, const char *end, bool *escaped)
{
    p = hk_json_plain(p + 1, end);
    while (p < end && *p != '"') {
        bool escape = *p == '\\';
        *escaped |= escape;
        p = hk_json_plain(escape && end - p >= 2 ? p + 2 : p + 1, end);
    }
    return p < end ? p + 1 : end;
}

/* Behind the container that opens at p. */
static const char *skip_container(const char *p, const char *end)
{
    size_t depth = 0;
    bool escaped = false;
    while (p < end) {
        switch (*p) {
        case '"':
            p = skip_string(p, end, &escaped);
            continue;
        case '{':
        case '[':
            depth++;
            break;
        case '}':
        case ']':
            if (--depth == 0)
                return p + 1;
            break;
        default:
            break;
        }
        p++;
    }
    return end;
}

/* Behind the number or word at p. */
static const char *skip_word(const char *p, const char *end)
{
    while (p < end && *p != ',' && *p != ']' && *p != '}' && (unsigned char)*p > ' ')
        p++;
    return p;
}

static hk_json_kind kind_at(char c)
{
    switch (c) {
    case '{':
        return HK_JSON_OBJECT;
    case '[':
        return HK_JSON_ARRAY;
    case '"':
        return HK_JSON_STRING;
    case 't':
    case 'f':
        return HK_JSON_BOOL;
    case 'n':
        return HK_JSON_NULL;
    default:
        return c == '-' || hk_json_digit(c) ? HK_JSON_NUMBER : HK_JSON_NONE;
    }
}

/* The value at p; kind NONE when there is none. */
static hk_json_slice slice_at(const char *p, const char *end)
{
    hk_json_slice s = {.ptr = p};
    if (p == end)
        return s;
    s.kind = kind_at(*p);
    if (s.kind == HK_JSON_NONE)
        return s;
    const char *next;
    if (s.kind == HK_JSON_STRING)
        next = skip_string(p, end, &s.escaped);
    else if (s.kind == HK_JSON_OBJECT || s.kind == HK_JSON_ARRAY)
        next = skip_container(p, end);
    else
        next = skip_word(p, end);
    s.len = (size_t)(next - p);
    return s;
}

hk_json_slice hk_json_root(const char *text, size_t len)
{
    if (len == 0)
        return (hk_json_slice){.ptr = text};
    const char *end = text + len;
    const char *p = hk_json_space(text, end);
    while (end > p && (end[-1] == ' ' || end[-1] == '\n' || end[-1] == '\r' || end[-1] == '\t'))
        end--;
    hk_json_slice s = {.ptr = p, .len = (size_t)(end - p)};
    if (p < end)
        s.kind = kind_at(*p);
    if (s.kind == HK_JSON_STRING)
        s.escaped = memchr(p, '\\', s.len) != NULL;
    return s;
}

void hk_json_iter_init(hk_json_iter *it, hk_json_slice container)
{
    bool walks = container.kind == HK_JSON_OBJECT || container.kind == HK_JSON_ARRAY;
    it->object = container.kind == HK_JSON_OBJECT;
    it->p = container.ptr;
    it->end = container.ptr;
    if (walks && container.len >= 2) {
        it->p = container.ptr + 1;
        it->end = container.ptr + container.len - 1;
    }
}

/* To the start of the next thing, over white space and one separator. */
static const char *step_over(const char *p, const char *end, char separator)
{
    p = hk_json_space(p, end);
    if (p < end && *p == separator)
        p = hk_json_space(p + 1, end);
    return p;
}

bool hk_json_iter_next(hk_json_iter *it, hk_json_slice *ret_name, hk_json_slice *ret_value)
{
    hk_json_slice name = {0};
    const char *p = step_over(it->p, it->end, ',');
    if (it->object) {
        name = slice_at(p, it->end);
        p = step_over(p + name.len, it->end, ':');
    }
    hk_json_slice value = slice_at(p, it->end);
    if (value.kind == HK_JSON_NONE || (it->object && name.kind != HK_JSON_STRING)) {
        it->p = it->end;
        return false;
    }
    it->p = value.ptr + value.len;
    if (ret_name != NULL)
        *ret_name = name;
    *ret_value = value;
    return true;
}

size_t hk_json_count(hk_json_slice container)
{
    hk_json_iter it;
    hk_json_slice value;
    size_t n = 0;
    for (hk_json_iter_init(&it, container); hk_json_iter_next(&it, NULL, &value);)
        n++;
    return n;
}

bool hk_json_find(hk_json_slice object, const char *name, hk_json_slice *ret_value)
{
    hk_json_iter it;
    hk_json_slice key, value;
    if (object.kind != HK_JSON_OBJECT)
        return false;
    for (hk_json_iter_init(&it, object); hk_json_iter_next(&it, &key, &value);) {
        if (hk_json_equals(key, name)) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}
