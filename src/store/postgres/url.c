/* url: postgresql://USER:PASSWORD@HOST:PORT/DATABASE?log=NAME taken apart. All but `log` is libpq's business and goes
 * there as it is; from what libpq makes of it come the words for texts, which never hold the password. */
#include "store/postgres/store_i.h"

#include <stdlib.h>
#include <string.h>

enum { NAME_MAX_LEN = 58 }; /* with "hark_" an identifier of PostgreSQL's: 63 */

static hark_err bad_name(const char *name, size_t len, hark_errinfo *ei)
{
    return hk_fail(ei, HARK_EINVAL,
                   "log=%.*s in the store URL; a log's name has 1 to %d of a-z, 0-9 and _",
                   (int)(len < 80 ? len : 80), name, NAME_MAX_LEN);
}

static hark_err schema_of(const char *name, size_t len, hk_buf *ret, hark_errinfo *ei)
{
    bool good = len >= 1 && len <= NAME_MAX_LEN;
    for (size_t i = 0; i < len && good; i++)
        good = (name[i] >= 'a' && name[i] <= 'z') || (name[i] >= '0' && name[i] <= '9') ||
               name[i] == '_';
    if (!good)
        return bad_name(name, len, ei);
    hk_buf_clear(ret);
    hk_buf_adds(ret, "hark_");
    hk_buf_add(ret, name, len);
    return HARK_OK;
}

/* The parameters behind the `?` without ours, which goes into `schema`. */
static hark_err take_log(const char *query, hk_buf *info, hk_buf *schema, hark_errinfo *ei)
{
    char before = '?';
    hark_err err = HARK_OK;
    while (*query && !err) {
        size_t len = strcspn(query, "&");
        if (strncmp(query, "log=", 4) == 0) {
            err = schema_of(query + 4, len - 4, schema, ei);
        } else {
            hk_buf_addc(info, before);
            hk_buf_add(info, query, len);
            before = '&';
        }
        query += len + (query[len] == '&');
    }
    return err;
}

/* ---- what libpq makes of it -------------------------------------------------------------------- */

static const char *value_of(const PQconninfoOption *list, const char *name)
{
    for (; list && list->keyword; list++)
        if (strcmp(list->keyword, name) == 0 && list->val && list->val[0])
            return list->val;
    return NULL;
}

/* "db at host:port" */
static void describe(const PQconninfoOption *given, const PQconninfoOption *defaults, hk_buf *ret)
{
    static const char *const names[] = {"dbname", "host", "hostaddr", "port", "user"};
    const char *v[HK_COUNTOF(names)];
    for (size_t i = 0; i < HK_COUNTOF(names); i++) {
        v[i] = value_of(given, names[i]);
        v[i] = v[i] ? v[i] : value_of(defaults, names[i]);
    }
    const char *db = v[0] ? v[0] : v[4], *host = v[1] ? v[1] : v[2];
    hk_buf_addf(ret, "%s at %s:%s", db ? db : "the default database", host ? host : "localhost",
                v[3] ? v[3] : "5432");
}

/* libpq's own text may quote the URL, and with it the password: only one sort of it is passed on. */
static hark_err not_understood(const char *why, hark_errinfo *ei)
{
    static const char harmless[] = "invalid URI query parameter";
    bool tell = why && strncmp(why, harmless, sizeof harmless - 1) == 0;
    return hk_fail(ei, HARK_EINVAL,
                   "the store URL is not one of PostgreSQL's%s%.*s; write "
                   "postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with ?log=NAME for one of "
                   "several logs",
                   tell ? ": " : "", tell ? (int)strcspn(why, "\n") : 0, tell ? why : "");
}

static hark_err look(const char *info, hk_buf *where, hark_errinfo *ei)
{
    char *why = NULL;
    PQconninfoOption *given = PQconninfoParse(info, &why);
    PQconninfoOption *defaults = given ? PQconndefaults() : NULL;
    hark_err err = HARK_OK;
    if (given)
        describe(given, defaults, where);
    else
        err = not_understood(why, ei);
    PQconninfoFree(given);
    PQconninfoFree(defaults);
    PQfreemem(why);
    return err;
}

static hark_err take_apart(const char *rest, hk_buf *info, hk_buf *where, hk_buf *schema,
                           hark_errinfo *ei)
{
    size_t len = strcspn(rest, "?");
    if (strncmp(rest, "//", 2) != 0)
        return not_understood(NULL, ei);
    hk_buf_adds(schema, "hark");
    hk_buf_adds(info, "postgresql:");
    hk_buf_add(info, rest, len);
    hark_err err = rest[len] ? take_log(rest + len + 1, info, schema, ei) : HARK_OK;
    if (!err && info->failed)
        return hk_fail(ei, HARK_ENOMEM, "no memory to open a store");
    return err ? err : look(info->data, where, ei);
}

hark_err hk_pg_url(const char *rest, char **ret_info, char **ret_where, char **ret_schema,
                   hark_errinfo *ei)
{
    hk_buf info = {0}, where = {0}, schema = {0};
    hark_err err = take_apart(rest, &info, &where, &schema, ei);
    if (!err && (info.failed || where.failed || schema.failed))
        err = hk_fail(ei, HARK_ENOMEM, "no memory to open a store");
    if (err) {
        hk_buf_free(&info);
        hk_buf_free(&where);
        hk_buf_free(&schema);
        return err;
    }
    *ret_info = hk_buf_steal(&info, NULL);
    *ret_where = hk_buf_steal(&where, NULL);
    *ret_schema = hk_buf_steal(&schema, NULL);
    return HARK_OK;
}
