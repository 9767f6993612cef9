/* guard: what a statement of the program's may not say: what would end or outlive the transaction it is part
 * of, change the connection that the log is written on, or touch the log's own tables. PostgreSQL has no
 * authorizer, so that this reads the words only: it catches mistakes. Who builds a name out of pieces in a function
 * of the server's gets past it; the role that the program connects as can do that anyway. */
#include "store/postgres/program_i.h"

#include <stdio.h>
#include <string.h>

/* ---- words --------------------------------------------------------------------------------------- */

static bool is(const hk_pg_name *n, const char *word)
{
    return n->word && strcmp(n->s, word) == 0;
}

/* One of a list that ends with NULL; sorted or not, they are short. */
static bool one_of(const hk_pg_name *n, const char *const *words)
{
    for (; n->word && *words; words++)
        if (strcmp(n->s, *words) == 0)
            return true;
    return false;
}

static hk_pg_name name_of(const hk_pg_token *t)
{
    hk_pg_name n = {.word = t->kind == HK_PG_WORD,
                    .name = t->kind == HK_PG_WORD || t->kind == HK_PG_QUOTED};
    bool quoted = t->kind == HK_PG_QUOTED;
    size_t len = 0;
    if (!n.name)
        return n;
    for (size_t i = quoted; i + quoted < t->len && len + 1 < sizeof n.s; i++) {
        char c = t->at[i];
        if (quoted && c == '"')
            i++; /* a doubled one */
        n.s[len++] = (char)(!quoted && c >= 'A' && c <= 'Z' ? c | 0x20 : c);
    }
    return n;
}

/* "COMMIT is denied inside a transaction closure: ..." */
static bool deny(hk_pg_guard *g, const char *verb, const char *name, const char *instead)
{
    char upper[64] = "";
    for (size_t i = 0; verb[i] && i + 1 < sizeof upper; i++)
        upper[i] = (char)(verb[i] >= 'a' && verb[i] <= 'z' ? verb[i] & ~0x20 : verb[i]);
    (void)snprintf(g->denied, sizeof g->denied, "%s%s%.60s is denied %s: %s", upper,
                   *upper && name ? " " : "", name ? name : "",
                   g->beside ? "in a query" : "inside a transaction closure", instead);
    return false;
}

/* ---- verbs --------------------------------------------------------------------------------------- */

static const char of_all[] = "it is one transaction as a whole; leave this out";
static const char of_one[] =
    "a statement that fails is undone by itself; return an error to undo all";
static const char of_settings[] = "the connection's settings are the library's; write SET in ALTER "
                                  "ROLE or in a function's definition";
static const char of_prepared[] = "statements are kept prepared anyway; run it with arguments";
static const char of_news[] = "the connection is the library's; publish and subscribe";
static const char of_cursors[] = "rows are shown one by one anyway; run the query itself";
static const char of_code[] =
    "what it does cannot be looked at; call a function in a SELECT, or run its statements";
static const char of_server[] = "it is for the server as a whole; run it with another program";

static const struct {
    const char *verb, *instead;
} denied_verbs[] = {
    {"begin", of_all},
    {"start", of_all},
    {"commit", "return HARK_OK to commit"},
    {"end", "return HARK_OK to commit"},
    {"rollback", "return an error to undo all that it did"},
    {"abort", "return an error to undo all that it did"},
    {"savepoint", of_one},
    {"release", of_one},
    {"prepare", of_prepared},
    {"execute", of_prepared},
    {"deallocate", of_prepared},
    {"listen", of_news},
    {"notify", of_news},
    {"unlisten", of_news},
    {"set", of_settings},
    {"reset", of_settings},
    {"discard", of_settings},
    {"load", of_settings},
    {"declare", of_cursors},
    {"fetch", of_cursors},
    {"move", of_cursors},
    {"close", of_cursors},
    {"do", of_code},
    {"call", of_code},
    {"copy", "it needs a protocol of its own; insert rows, several with one statement"},
    {"lock", "it would hold up all others; lock rows with SELECT ... FOR UPDATE"},
    {"vacuum", of_server},
    {"cluster", of_server},
    {"checkpoint", of_server},
};

static bool look_verb(hk_pg_guard *g)
{
    for (size_t i = 0; i < HK_COUNTOF(denied_verbs); i++)
        if (strcmp(g->verb.s, denied_verbs[i].verb) == 0)
            return deny(g, g->verb.s, NULL,
                        g->beside && denied_verbs[i].instead[0] == 'r'
                            ? "it has a transaction of its own"
                            : denied_verbs[i].instead);
    return true;
}

static bool look_second(hk_pg_guard *g)
{
    static const char *const makes[] = {"create", "drop", "alter", "reindex", NULL};
    static const char *const large[] = {"database", "tablespace", "system", NULL};
    bool owned = is(&g->second, "owned") && (is(&g->verb, "drop") || is(&g->verb, "reassign"));
    char both[140];
    if (!owned && !(one_of(&g->verb, makes) && one_of(&g->second, large)))
        return true;
    (void)snprintf(both, sizeof both, "%s %s", g->verb.s, g->second.s);
    return deny(g, both, NULL, owned ? "the log's tables may be among them; name them" : of_server);
}

/* ---- names --------------------------------------------------------------------------------------- */

static bool begins_ours(const hk_pg_name *n)
{
    return n->name && strncmp(n->s, "hark_", 5) == 0;
}

static bool schema_of_ours(const hk_pg_guard *g, const hk_pg_name *n)
{
    return begins_ours(n) ||
           (n->name && (strcmp(n->s, "hark") == 0 || strcmp(n->s, g->schema) == 0));
}

static bool deny_ours(hk_pg_guard *g, const char *name)
{
    return deny(g, "", name,
                g->beside
                    ? "names that begin with hark_ are the log's; read events with hark_read"
                    : "names that begin with hark_ are the log's; publish, and give tables of "
                      "your own other names");
}

/* Is what follows this word the name of a table, view, function, ...? */
static bool before_a_name(const hk_pg_guard *g)
{
    static const char *const words[] = {
        "from",  "join",  "into",    "update",   "table",    "only",       "exists", "truncate",
        "index", "view",  "trigger", "sequence", "function", "procedure",  "type",   "domain",
        "rule",  "using", "schema",  "analyze",  "reindex",  "references", NULL};
    static const char *const makes[] = {"create", "drop", "alter", "comment", NULL};
    if (one_of(&g->last, words))
        return true;
    if (is(&g->last, "on"))
        return one_of(&g->verb, makes);
    return is(&g->last, "to") && is(&g->before, "rename");
}

static bool look_name(hk_pg_guard *g, const hk_pg_token *t, const hk_pg_name *now)
{
    if (hk_pg_sign(t, '.') && schema_of_ours(g, &g->last))
        return deny_ours(g, g->last.s);
    if (hk_pg_sign(t, '(') && begins_ours(&g->last))
        return deny_ours(g, g->last.s);
    if (begins_ours(now) && before_a_name(g))
        return deny_ours(g, now->s);
    if (schema_of_ours(g, now) && g->schemas)
        return deny_ours(g, now->s);
    return true;
}

static bool look_body(hk_pg_guard *g, const hk_pg_token *t)
{
    hk_pg_guard inner = {.schema = g->schema, .beside = g->beside, .body = true};
    const char *s = t->at + t->tag, *end = t->at + t->len;
    hk_pg_token of;
    do {
        of = hk_pg_lex(s, end);
        if (!hk_pg_guard_look(&inner, &of)) {
            memcpy(g->denied, inner.denied, sizeof g->denied);
            return false;
        }
        s = of.at + of.len;
    } while (of.kind != HK_PG_END);
    return true;
}

/* ---- what stays when the closure is over ------------------------------------------------------------ */

static bool look_temporary(hk_pg_guard *g, const hk_pg_name *now)
{
    static const char *const words[] = {"temp", "temporary", "pg_temp", NULL};
    static const char *const where[] = {"create", "replace", "local", "global", NULL};
    if (!one_of(now, words))
        return true;
    bool selects = is(&g->last, "into") && !is(&g->before, "insert") && !is(&g->before, "merge");
    if (!selects && !one_of(&g->last, where) && !is(now, "pg_temp"))
        return true;
    return deny(g, g->verb.s, now->s,
                "temporary tables would outlive the closure; use WITH, or a table");
}

static bool look_function(hk_pg_guard *g, const hk_pg_token *t)
{
    static const char *const locks[] = {"pg_advisory_lock",       "pg_advisory_lock_shared",
                                        "pg_try_advisory_lock",   "pg_try_advisory_lock_shared",
                                        "pg_advisory_unlock",     "pg_advisory_unlock_shared",
                                        "pg_advisory_unlock_all", NULL};
    if (!hk_pg_sign(t, '('))
        return true;
    if (is(&g->last, "set_config"))
        return deny(g, "", g->last.s, of_settings);
    if (one_of(&g->last, locks))
        return deny(g, "", g->last.s,
                    "the lock would outlive the transaction; use pg_advisory_xact_lock");
    return true;
}

static bool look_words(hk_pg_guard *g, const hk_pg_name *now)
{
    if (is(now, "concurrently") && !is(&g->verb, "refresh"))
        return deny(g, g->verb.s, "CONCURRENTLY",
                    "it needs transactions of its own; run it with another program");
    if (is(now, "execute") && is(&g->last, "as"))
        return deny(g, now->s, NULL, of_prepared);
    return look_temporary(g, now);
}

/* ---- does it change anything? ------------------------------------------------------------------- */

static bool verb_reads(const hk_pg_guard *g)
{
    static const char *const reads[] = {"select", "values", "table", "show", "with", NULL};
    return one_of(&g->verb, reads);
}

/* Words before a parenthesis that change nothing: key words, and functions that are used often. All
 * else may be a function that writes. */
static bool harmless(const hk_pg_name *n)
{
    /* clang-format off */
    static const char *const words[] = {
        "select", "from", "where", "and", "or", "not", "in", "any", "all", "some", "exists",
        "values", "as", "on", "using", "when", "then", "else", "case", "over", "by", "filter",
        "within", "group", "having", "limit", "offset", "union", "except", "intersect", "with",
        "materialized", "distinct", "between", "like", "ilike", "is", "array", "row", "interval",
        "lateral", "join", "count", "sum", "min", "max", "avg", "coalesce", "nullif", "greatest",
        "least", "lower", "upper", "length", "abs", "round", "floor", "ceil", "trunc", "mod",
        "cast", "extract", "substring", "substr", "position", "trim", "replace", "concat",
        "concat_ws", "string_agg", "array_agg", "unnest", "generate_series", "row_number",
        "rank", "dense_rank", "lag", "lead", "now", "date_trunc", "date_part", "to_char",
        "to_timestamp", "to_date", "numeric", "varchar", "decimal", "char", "jsonb_build_object",
        "json_build_object", "jsonb_agg", "json_agg", "to_jsonb", "to_json", "row_to_json",
        "bool_and", "bool_or", NULL};
    /* clang-format on */
    return !n->name || one_of(n, words);
}

static void look_changes(hk_pg_guard *g, const hk_pg_token *t, const hk_pg_name *now)
{
    static const char *const words[] = {"insert", "update", "delete", "merge", "into", NULL};
    static const char *const named[] = {"with", "recursive", "as", NULL}; /* r(n) AS (SELECT ... */
    /* lower() is the server's; whose mine.lower() is, nobody knows */
    bool known = !g->dotted && harmless(&g->last);
    bool calls = hk_pg_sign(t, '(') && !known && !one_of(&g->before, named);
    if (calls || one_of(now, words))
        g->changes = true;
}

/* ---- all of it ----------------------------------------------------------------------------------- */

/* EXPLAIN ANALYZE (VERBOSE) INSERT ...: the verb is INSERT. */
static bool of_explain(hk_pg_guard *g, const hk_pg_name *now)
{
    static const char *const words[] = {"analyze", "verbose", NULL};
    if (is(now, "explain") && !g->explains && !g->depth)
        return g->explains = true;
    return g->explains && (g->depth || one_of(now, words));
}

static bool look_start(hk_pg_guard *g, const hk_pg_name *now)
{
    if (!now->word)
        return true;
    if (!g->verb.word) {
        if (of_explain(g, now))
            return true;
        g->verb = *now;
        g->changes = g->changes || !verb_reads(g);
        return look_verb(g);
    }
    if (!g->second.word) {
        g->second = *now;
        if (!look_second(g))
            return false;
    }
    return look_words(g, now);
}

/* A function in SQL may have statements within, and so may a rule: their `;` is no end. */
static void count_blocks(hk_pg_guard *g, const hk_pg_token *t, const hk_pg_name *now)
{
    g->depth += hk_pg_sign(t, '(') - hk_pg_sign(t, ')');
    if (is(&g->verb, "create") && !g->block && (is(now, "function") || is(now, "procedure")))
        g->function = true;
    if (g->function && (is(now, "begin") || (g->block && is(now, "case"))))
        g->block++;
    else if (g->block && is(now, "end"))
        g->block--;
}

bool hk_pg_guard_look(hk_pg_guard *g, const hk_pg_token *t)
{
    hk_pg_name now = name_of(t);
    if (!look_name(g, t, &now))
        return false;
    if (!g->body) {
        if (!look_function(g, t) || !look_start(g, &now))
            return false;
        look_changes(g, t, &now);
    }
    if (g->function && t->kind == HK_PG_DOLLAR && !look_body(g, t))
        return false;
    count_blocks(g, t, &now);
    g->schemas = g->schemas || is(&now, "schema") || is(&now, "search_path");
    g->before = g->last;
    g->last = now;
    g->dotted = g->point;
    g->point = hk_pg_sign(t, '.');
    return true;
}
