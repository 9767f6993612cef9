/* lex: a statement of the program's as tokens, with PostgreSQL's rules for quotes and comments
 * (standard_conforming_strings is on, see conn.c). It judges nothing; what is malformed the server refuses. */
#include "store/postgres/program_i.h"

#include <string.h>

static bool blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (unsigned char)c >= 0x80;
}

static bool in_word(char c)
{
    return letter(c) || digit(c) || c == '$';
}

/* A comment may have others within. */
static const char *skip_comment(const char *s, const char *end)
{
    int depth = 0;
    do {
        bool opens = end - s > 1 && s[0] == '/' && s[1] == '*';
        bool closes = end - s > 1 && s[0] == '*' && s[1] == '/';
        depth += opens - closes;
        s += opens || closes ? 2 : 1;
    } while (depth && s < end);
    return s;
}

static const char *skip(const char *s, const char *end)
{
    while (s < end) {
        if (blank(*s)) {
            s++;
        } else if (end - s > 1 && s[0] == '-' && s[1] == '-') {
            while (s < end && *s != '\n' && *s != '\r')
                s++;
        } else if (end - s > 1 && s[0] == '/' && s[1] == '*') {
            s = skip_comment(s, end);
        } else {
            break;
        }
    }
    return s;
}

/* Behind the closing quote; a doubled one is none. */
static const char *quoted(const char *s, const char *end, bool escapes)
{
    char quote = *s++;
    for (; s < end; s++) {
        if (escapes && *s == '\\' && end - s > 1)
            s++;
        else if (*s == quote && end - s > 1 && s[1] == quote)
            s++;
        else if (*s == quote)
            return s + 1;
    }
    return end;
}

/* E'...' goes on in a further '...' on another line, by the same rules. */
static const char *escaped(const char *s, const char *end)
{
    for (;;) {
        s = quoted(s, end, true);
        const char *more = skip(s, end);
        if (more == end || *more != '\'' || !memchr(s, '\n', (size_t)(more - s)))
            return s;
        s = more;
    }
}

/* $tag$, or 0. */
static size_t tag_at(const char *s, const char *end)
{
    const char *at = s + 1;
    if (at < end && letter(*at))
        while (at < end && (letter(*at) || digit(*at)))
            at++;
    return at < end && *at == '$' ? (size_t)(at + 1 - s) : 0;
}

static void dollar(hk_pg_token *t, const char *end)
{
    const char *s = t->at + t->tag;
    const char *closing = memmem(s, (size_t)(end - s), t->at, t->tag);
    t->kind = HK_PG_DOLLAR;
    t->len = (size_t)((closing ? closing + t->tag : end) - t->at);
}

static const char *digits(const char *s, const char *end)
{
    while (s < end && digit(*s))
        s++;
    return s;
}

static const char *number(const char *s, const char *end)
{
    while (s < end && (digit(*s) || *s == '.'))
        s++;
    if (s == end || (*s != 'e' && *s != 'E'))
        return s;
    const char *exponent = s + 1;
    if (exponent < end && (*exponent == '+' || *exponent == '-'))
        exponent++;
    return exponent < end && digit(*exponent) ? digits(exponent, end) : s;
}

static void until(hk_pg_token *t, hk_pg_token_kind kind, const char *end)
{
    t->kind = kind;
    t->len = (size_t)(end - t->at);
}

static void word(hk_pg_token *t, const char *end)
{
    const char *s = t->at;
    while (s < end && in_word(*s))
        s++;
    if (s - t->at == 1 && (*t->at | 0x20) == 'e' && s < end && *s == '\'')
        until(t, HK_PG_STRING, escaped(s, end));
    else
        until(t, HK_PG_WORD, s);
}

hk_pg_token hk_pg_lex(const char *s, const char *end)
{
    hk_pg_token t = {.kind = HK_PG_END, .at = skip(s, end)};
    s = t.at;
    if (s == end)
        return t;
    if (letter(*s))
        word(&t, end);
    else if (*s == '"')
        until(&t, HK_PG_QUOTED, quoted(s, end, false));
    else if (*s == '\'')
        until(&t, HK_PG_STRING, quoted(s, end, false));
    else if (*s == '?' && end - s > 1 && s[1] == '?')
        until(&t, HK_PG_MARK, s + 2);
    else if (*s == '?' || (*s == '$' && end - s > 1 && digit(s[1])))
        until(&t, HK_PG_PARAM, digits(s + 1, end));
    else if (*s == '$' && (t.tag = tag_at(s, end)) > 0)
        dollar(&t, end);
    else
        until(&t, HK_PG_SIGN, digit(*s) ? number(s, end) : s + 1);
    return t;
}
