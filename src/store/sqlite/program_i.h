/* program: statements of the program's own on one of our connections: what they may do is decided
 * by guard.c, query.c runs them. One thread at a time, the connection's. */
#ifndef HK_SQLITE_PROGRAM_I_H
#define HK_SQLITE_PROGRAM_I_H

#include "store/sqlite/conn_i.h"

#include <hark/store.h>

#define HK_PROGRAM_STMTS 32 /* prepared ones that are kept */

typedef struct hk_program {
    hk_conn *conn;
    bool reads; /* a reader of the pool: nothing may be written */

    /* guard.c */
    bool on;          /* what is prepared or run now is the program's, not ours */
    bool in_tx;       /* from tx_begin to tx_end: nothing may commit */
    bool altering;    /* the statement at hand changes the schema */
    bool altered;     /* one since tx_begin did */
    bool wrote;       /* one since tx_begin that could write succeeded, whatever it changed */
    int64_t until;    /* monotonic ns; in_tx: statements are interrupted then */
    char denied[240]; /* what was denied last, and what to do instead */

    /* query.c */
    bool running;
    struct hk_program_stmt {
        sqlite3_stmt *st;
        char *sql;
        size_t len;
        uint64_t hash, used;
    } stmts[HK_PROGRAM_STMTS];
    size_t n;
    uint64_t uses;
    hark_value *values; /* of the row that is shown */
    const char **names;
    size_t cap;
} hk_program;

/* Once for a connection, before it has prepared much: it makes what is prepared expire. */
void hk_program_open(hk_program *p, hk_conn *c, bool reads);
void hk_program_close(hk_program *p); /* before the connection */

/* guard.c */
void hk_guard_open(hk_program *p);

/* Runs one statement; see hark_store_ops.tx_run. */
hark_err hk_program_run(hk_program *p, const char *sql, const hark_value *args, size_t n,
                        hark_row_fn fn, void *ud, int64_t *ret_changes, hark_errinfo *ei);

#endif
