/* columns: rows as arguments of one statement, an array for each column. */
#include "store/postgres/ledger_i.h"

#include <stdlib.h>

void hk_pg_columns_init(hk_pg_columns *c, const char *kinds)
{
    *c = (hk_pg_columns){.n = strlen(kinds)};
    for (size_t i = 0; i < c->n; i++)
        c->at[i].kind = kinds[i] == 'i' ? HK_PG_INT8 : kinds[i] == 't' ? HK_PG_TEXT : HK_PG_BYTEA;
}

hark_err hk_pg_columns_args(hk_pg_columns *c, hk_pg_args *args, hark_errinfo *ei)
{
    hark_err err = HARK_OK;
    for (size_t i = 0; i < c->n && !err; i++)
        err = hk_pg_arg_array(args, &c->at[i], ei);
    return err;
}

void hk_pg_columns_free(hk_pg_columns *c)
{
    for (size_t i = 0; i < c->n; i++)
        hk_pg_array_free(&c->at[i]);
}

hark_err hk_pg_run_count(hk_pg *c, const hk_pg_sql *sql, const hk_pg_args *args, uint64_t *ret,
                         const char *what, hark_errinfo *ei)
{
    PGresult *r = NULL;
    hark_err err = hk_pg_run(c, sql, args, &r, what, ei);
    if (!err)
        *ret = strtoull(PQcmdTuples(r), NULL, 10);
    PQclear(r);
    return err;
}
