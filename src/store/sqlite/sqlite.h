/* sqlite: the durable log in one SQLite file, "sqlite:PATH". One process writes, through one
 * connection that also does every checkpoint; any number of connections read, a page at a time.
 * The format is documented in docs/format-sqlite.md. May use base, event and SQLite. */
#ifndef HK_STORE_SQLITE_H
#define HK_STORE_SQLITE_H

#include <hark/store.h>

extern const hark_store_ops hk_store_sqlite;

#endif
