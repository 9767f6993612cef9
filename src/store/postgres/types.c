/* types: which types of the log does a pattern match? The table of versions has them all, also those whose last event was
 * removed: its rows only become more. So what a connection knows of it is right for as long as they are as many. */
#include "store/postgres/store_i.h"

#include <string.h>

static const hk_pg_sql list = {"types", "SELECT l.last, v.type, " HK_PG_KINDS
                                        " FROM @log l LEFT JOIN (SELECT DISTINCT type "
                                        "FROM @versions) v ON true"};

static hark_err match(const PGresult *r, const char *pattern, hk_pg_array *ret, bool *ret_all,
                      hark_errinfo *ei)
{
    *ret_all = true;
    for (int i = 0; i < PQntuples(r); i++) {
        size_t len;
        const char *type = hk_pg_get_text(r, i, 1, &len);
        if (!type)
            continue;
        if (hark_pattern_match(pattern, type))
            hk_pg_array_add(ret, type, len);
        else
            *ret_all = false;
    }
    return ret->bytes.failed
               ? hk_fail(ei, HARK_ENOMEM, "no memory for the types of pattern %s", pattern)
               : HARK_OK;
}

hark_err hk_pg_types_at(hk_pg *c, const char *pattern, hk_pg_array *ret, bool *ret_all,
                        uint64_t *ret_last, hark_errinfo *ei)
{
    PGresult *r = NULL;
    ret->kind = HK_PG_TEXT;
    hk_pg_array_clear(ret);
    *ret_all = true;
    *ret_last = HARK_SEQ_MAX;
    if (!pattern)
        return HARK_OK;
    hark_err err = hk_pg_run(c, &list, NULL, &r, "reading the types", ei);
    if (err)
        return err;
    PQclear(c->types);
    c->types = r;
    *ret_last = (uint64_t)hk_pg_get_int(r, 0, 0);
    return match(r, pattern, ret, ret_all, ei);
}

hark_err hk_pg_types_known(hk_pg *c, const char *pattern, hk_pg_array *ret, bool *ret_all,
                           int64_t *ret_kinds, hark_errinfo *ei)
{
    uint64_t last;
    *ret_kinds = -1;
    hark_err err = HARK_OK;
    if (!pattern || !c->types) {
        err = hk_pg_types_at(c, pattern, ret, ret_all, &last, ei);
    } else {
        ret->kind = HK_PG_TEXT;
        hk_pg_array_clear(ret);
        err = match(c->types, pattern, ret, ret_all, ei);
    }
    if (!err && pattern)
        *ret_kinds = hk_pg_get_int(c->types, 0, 2);
    return err;
}

hark_err hk_pg_types(hk_pg *c, const char *pattern, hk_pg_array *ret, bool *ret_all,
                     hark_errinfo *ei)
{
    uint64_t last;
    return hk_pg_types_at(c, pattern, ret, ret_all, &last, ei);
}
