/* Matches the patterns of schemas for their tests: classes, groups, alternatives, quantifiers and
 * anchors, which is all that a schema may use so that every validator understands it. A set of
 * places in a short text, one bit each, goes in at the left and comes out at the right. */
#ifndef HK_JSON_PATTERN_TEST_I_H
#define HK_JSON_PATTERN_TEST_I_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PATTERN_TEXT_MOST 63

static uint64_t pattern_any(const char **p, const char *text, uint64_t places);

/* Whether a class, from behind its bracket on, has this character; moves behind its end. */
static bool pattern_class(const char **p, char c)
{
    bool has = false;
    while (**p != ']') {
        char lo = *(*p)++, hi = lo;
        if (**p == '-' && (*p)[1] != ']') {
            hi = (*p)[1];
            *p += 2;
        }
        has |= c >= lo && c <= hi;
    }
    ++*p;
    return has;
}

static uint64_t pattern_char(const char **p, const char *text, uint64_t places)
{
    const char *from = *p;
    uint64_t next = 0;
    for (size_t i = 0; i == 0 || text[i - 1] != '\0'; i++) {
        *p = from + 1;
        bool same = *from == '[' ? pattern_class(p, text[i]) : *from == text[i];
        if (same && text[i] != '\0' && (places >> i & 1))
            next |= UINT64_C(2) << i;
    }
    return next;
}

static uint64_t pattern_atom(const char **p, const char *text, uint64_t places)
{
    uint64_t next;
    switch (**p) {
    case '^':
        ++*p;
        return places & 1;
    case '$':
        ++*p;
        return places & UINT64_C(1) << strlen(text);
    case '(':
        ++*p;
        next = pattern_any(p, text, places);
        ++*p; /* its end */
        return next;
    default:
        return pattern_char(p, text, places);
    }
}

static void pattern_times(const char **p, size_t *ret_least, size_t *ret_most)
{
    char *end;
    *ret_least = **p == '*' || **p == '?' ? 0 : 1;
    *ret_most = **p == '*' || **p == '+' ? PATTERN_TEXT_MOST : 1;
    if (**p == '{') {
        *ret_least = *ret_most = strtoul(*p + 1, &end, 10);
        if (*end == ',')
            *ret_most = strtoul(end + 1, &end, 10);
        *p = end;
    }
    if (**p != '\0' && strchr("*?+}", **p) != NULL)
        ++*p;
}

static uint64_t pattern_piece(const char **p, const char *text, uint64_t places)
{
    const char *from = *p;
    size_t least, most;
    (void)pattern_atom(p, text, places);
    pattern_times(p, &least, &most);
    uint64_t found = least == 0 ? places : 0;
    for (size_t i = 1; i <= most && places != 0; i++) {
        const char *again = from;
        places = pattern_atom(&again, text, places);
        if (i >= least)
            found |= places;
    }
    return found;
}

static uint64_t pattern_any(const char **p, const char *text, uint64_t places)
{
    uint64_t found = 0;
    for (;;) {
        uint64_t now = places;
        while (**p != '\0' && **p != '|' && **p != ')')
            now = pattern_piece(p, text, now);
        found |= now;
        if (**p != '|')
            return found;
        ++*p;
    }
}

/* Of a text of at most PATTERN_TEXT_MOST bytes, for a pattern with both anchors. */
static inline bool pattern_matches(const char *pattern, const char *text)
{
    return pattern_any(&pattern, text, 1) != 0 && *pattern == '\0';
}

#endif
