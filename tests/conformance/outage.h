/* An outage of the store under test: another connection to its file holds the lock on writing, so no
 * group begins; reading goes on. Only stores in a SQLite file have outages. */
#ifndef HK_CONFORMANCE_OUTAGE_H
#define HK_CONFORMANCE_OUTAGE_H

#include "fixture.h"

#include <sqlite3.h>

static inline bool has_outages(const fixture *f)
{
    return strcmp(f->store->name, "sqlite") == 0;
}

static inline sqlite3 *outage_begin(fixture *f)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open_v2(f->url + strlen("sqlite:"), &db, SQLITE_OPEN_READWRITE, NULL),
                     SQLITE_OK);
    sqlite3_busy_timeout(db, 10000);
    assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    return db;
}

static inline void outage_end(sqlite3 *db)
{
    assert_int_equal(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

#endif
