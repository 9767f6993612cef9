/* translate: a statement of the program's as the server gets it: `?` and `?7` become $n, `??` stands for the
 * operator `?`. There is one statement, and nothing in it that guard.c denies. */
#include "store/postgres/program_i.h"

#include <stdlib.h>
#include <string.h>

enum { PARAMS_MAX = 65535 }; /* of the protocol */

/* What is said so far. */
typedef struct reading {
    hk_pg_guard guard;
    hk_buf out;
    size_t params;
    bool any, ended;
} reading;

/* "LIMIT?" is "LIMIT $1": the server takes LIMIT$1 for a name. */
static bool in_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '$' || (unsigned char)c >= 0x80;
}

/* A plain `?` is one more than the highest so far, as in SQLite. */
static hark_err param(reading *rd, const hk_pg_token *t, hark_errinfo *ei)
{
    uint64_t n = rd->params + 1;
    if (t->len > 1 && !hk_parse_u64(t->at + 1, t->len - 1, &n))
        n = 0;
    if (n < 1 || n > PARAMS_MAX)
        return hk_fail(ei, HARK_EINVAL, "there is no parameter %.*s; they are ?1 to ?%d",
                       (int)(t->len < 20 ? t->len : 20), t->at, PARAMS_MAX);
    if (n > rd->params)
        rd->params = n;
    bool joins = rd->out.len > 0 && in_word(rd->out.data[rd->out.len - 1]);
    hk_buf_addf(&rd->out, "%s$%llu%s", joins ? " " : "", (unsigned long long)n,
                in_word(t->at[t->len]) ? " " : "");
    return HARK_OK;
}

static hark_err several(const char *second, hark_errinfo *ei)
{
    char head[HK_SQL_BEGINNING + 4];
    return hk_fail(ei, HARK_EINVAL,
                   "more than one statement: the second begins with: %s; run each with a call of "
                   "its own",
                   hk_sql_beginning(second, head));
}

static hark_err take(reading *rd, const hk_pg_token *t, hark_errinfo *ei)
{
    if (hk_pg_sign(t, ';') && rd->guard.depth <= 0 && rd->guard.block <= 0) {
        rd->ended = rd->ended || rd->any;
        return HARK_OK;
    }
    if (rd->ended)
        return several(t->at, ei);
    rd->any = true;
    if (!hk_pg_guard_look(&rd->guard, t))
        return hk_fail(ei, HARK_EDENIED, "%s", rd->guard.denied);
    if (t->kind == HK_PG_PARAM)
        return param(rd, t, ei);
    if (t->kind == HK_PG_MARK)
        hk_buf_addc(&rd->out, '?');
    else
        hk_buf_add(&rd->out, t->at, t->len);
    return HARK_OK;
}

static hark_err read_all(reading *rd, const char *sql, hark_errinfo *ei)
{
    const char *s = sql, *end = sql + strlen(sql);
    hark_err err = HARK_OK;
    hk_pg_token t;
    for (; !err && (t = hk_pg_lex(s, end)).kind != HK_PG_END; s = t.at + t.len) {
        if (!rd->ended) /* blanks and comments, too: places in the server's texts stay right */
            hk_buf_add(&rd->out, s, (size_t)(t.at - s));
        err = take(rd, &t, ei);
    }
    if (!err && !hk_pg_guard_look(&rd->guard, &t))
        err = hk_fail(ei, HARK_EDENIED, "%s", rd->guard.denied);
    return err;
}

static bool often(const hk_pg_guard *g)
{
    static const char *const verbs[] = {"select", "insert", "update", "delete",
                                        "with",   "values", "merge",  "table"};
    for (size_t i = 0; i < HK_COUNTOF(verbs); i++)
        if (strcmp(g->verb.s, verbs[i]) == 0)
            return true;
    return false;
}

hark_err hk_pg_translate(const char *sql, const char *schema, bool beside, hk_pg_statement *ret,
                         hark_errinfo *ei)
{
    char head[HK_SQL_BEGINNING + 4];
    reading rd = {.guard = {.schema = schema, .beside = beside}};
    hark_err err = read_all(&rd, sql, ei);
    if (!err && !rd.any)
        err = hk_fail(ei, HARK_EINVAL, "there is no statement in: '%s'; give one",
                      hk_sql_beginning(sql, head));
    *ret = (hk_pg_statement){
        .params = rd.params, .reads = !rd.guard.changes, .often = often(&rd.guard)};
    if (!err && !(ret->sql = hk_buf_steal(&rd.out, NULL)))
        err = hk_fail(ei, HARK_ENOMEM, "no memory for: %s; free some, then try again",
                      hk_sql_beginning(sql, head));
    hk_buf_free(&rd.out);
    return err;
}
