/* What is said differently to the stores that have transactions: their dialects of SQL, and what hark_tx_native
 * gives. A behaviour is tested on each of them; what one of them cannot do is left out with a reason. */
#ifndef HK_CONFORMANCE_DIALECT_H
#define HK_CONFORMANCE_DIALECT_H

#include "fixture.h"

#include <hark/tx.h>

/* Lists end with NULL. */
typedef struct dialect {
    const char *store;
    const char *const *effects; /* make the table of shop.h; `rowid` is the order of its rows */
    int64_t columns;            /* of it */
    const char *const *trap;    /* make a table `trap`, into which no row can be inserted */
    const char *kinds;          /* makes a table with a column for each kind of value */
    const char *counting;       /* makes a table `a` that numbers its rows */
    const char *one_twice;      /* what is said of a row that is in the table `one` already */
    const char *no_table;       /* what is said of a table `nowhere` */
    const char *settings;       /* a statement that would change the connection's */
    const char *spoiler;        /* the vice that undoes the whole group */
    /* Runs a statement with the store's own handle: HARK_EDENIED or HARK_ESQL, with a text. */
    hark_err (*native)(hark_tx *tx, const char *sql);
    /* Inserts rows 0 to n - 1 into effects, with a statement that is prepared once. */
    hark_err (*native_rows)(hark_tx *tx, int n);
    /* The bus is closed: is what it left sound? Looks without the library. */
    void (*look)(const fixture *f);
} dialect;

/* NULL: the store has no transactions. */
const dialect *dialect_of(const fixture *f);

/* "DELETE FROM @events" with the log's own table of that name. */
typedef struct sql_text {
    char s[256];
} sql_text;
sql_text in_log(const fixture *f, const char *sql);

/* One of two lists. */
const char *const *said_to(const fixture *f, const char *const *sqlite,
                           const char *const *postgresql);

/* Ends the test as skipped, and says why. */
void left_out(const fixture *f, const char *what, const char *why);

#endif
