/* versions: what there is of each version of each type. Events are counted as they come and go, dead letters and schedules
 * when somebody asks. */
#include "store/postgres/store_i.h"

static const hk_pg_sql list = {
    "versions",
    "SELECT type, version, sum(events)::int8, sum(letters)::int8, sum(schedules)::int8, "
    "max(first), max(last) FROM (SELECT type, version, count AS events, 0 AS letters, 0 AS "
    "schedules, first, last FROM @versions UNION ALL SELECT type, dataversion, 0, count(*), 0, 0, "
    "0 "
    "FROM @dead_letters GROUP BY type, dataversion UNION ALL SELECT type, dataversion, 0, 0, "
    "count(*), 0, 0 FROM @schedules GROUP BY type, dataversion) v GROUP BY type, version HAVING "
    "sum(events) + sum(letters) + sum(schedules) > 0 ORDER BY type, version"};

static hark_err collect(hk_pg *c, void *ud, hark_errinfo *ei)
{
    return hk_pg_run(c, &list, NULL, ud, "listing versions", ei);
}

hark_err hk_pg_versions(hark_store *s, hark_store_version_fn fn, void *ud, hark_errinfo *ei)
{
    PGresult *r = NULL;
    hark_err err = hk_pg_reader_run(s, collect, (void *)&r, ei);
    for (int i = 0; !err && i < PQntuples(r); i++) {
        const hark_store_version v = {.type = hk_pg_get_text(r, i, 0, NULL),
                                      .version = hk_pg_get_int(r, i, 1),
                                      .events = (uint64_t)hk_pg_get_int(r, i, 2),
                                      .dead_letters = (uint64_t)hk_pg_get_int(r, i, 3),
                                      .schedules = (uint64_t)hk_pg_get_int(r, i, 4),
                                      .first_ns = hk_pg_get_int(r, i, 5),
                                      .last_ns = hk_pg_get_int(r, i, 6)};
        if (!fn(ud, &v))
            break;
    }
    PQclear(r);
    return err;
}
