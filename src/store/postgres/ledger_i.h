/* ledger_i.h: what the files of the ledger (consumers, letters, schedules, replays) share: rows as arguments, and
 * pieces of rows that several of them read or write. A statement of ours that fails ends the group, so that refusals
 * are found by looking. */
#ifndef HK_PG_LEDGER_I_H
#define HK_PG_LEDGER_I_H

#include "store/postgres/store_i.h"

#include <string.h>

/* columns.c: rows for one statement, an array for each column. Kinds by letters: `i` int8, `t` text, `b` bytea. */
enum { HK_PG_COLUMNS_MAX = 16 };
typedef struct hk_pg_columns {
    size_t n;
    hk_pg_array at[HK_PG_COLUMNS_MAX];
} hk_pg_columns;
void hk_pg_columns_init(hk_pg_columns *c, const char *kinds);
hark_err hk_pg_columns_args(hk_pg_columns *c, hk_pg_args *args, hark_errinfo *ei);
void hk_pg_columns_free(hk_pg_columns *c);
static inline void hk_pg_column_str(hk_pg_columns *c, size_t i, const char *s)
{
    hk_pg_array_add(&c->at[i], s, s ? strlen(s) : 0);
}
/* hk_pg_run, for the number of rows that the statement changed. */
hark_err hk_pg_run_count(hk_pg *c, const hk_pg_sql *sql, const hk_pg_args *args, uint64_t *ret,
                         const char *what, hark_errinfo *ei);

/* consumer.c: where a consumer begins. The name is for texts. */
typedef struct hk_pg_start {
    const char *name;
    int64_t start; /* hark_start */
    uint64_t sequence;
    int64_t time_ns;
} hk_pg_start;
/* The floor of a consumer that starts there: all up to it counts as settled. */
hark_err hk_pg_start_floor(hark_store *s, const hk_pg_start *at, uint64_t *ret, hark_errinfo *ei);
/* From rerun_id and the five columns after it. */
void hk_pg_get_rerun(const PGresult *r, int row, int col, hark_store_rerun *ret);

/* Of a sequence `a.seq` and the consumer $1: its event is gone; there is no dead letter of it. Subqueries that
 * are values are never made joins, whose plan, once cached, would stay that for the tables as small as they were. */
#define HK_PG_NO_EVENT "(SELECT 1 FROM @events e WHERE e.seq = a.seq LIMIT 1) IS NULL"
#define HK_PG_NO_LETTER                                                                            \
    "(SELECT 1 FROM @dead_letters d WHERE d.consumer_id = $1::int8 AND d.seq = a.seq LIMIT 1) "    \
    "IS NULL"
/* Of a statement whose $1 is a consumer and $2 its generation: it does nothing unless they are there. */
#define HK_PG_PRESENT                                                                              \
    "EXISTS(SELECT 1 FROM @consumers c WHERE c.id = $1::int8 AND c.generation = $2::int8)"
static inline void hk_pg_head(hk_pg_args *args, uint64_t consumer, uint64_t generation)
{
    args->n = 0;
    hk_pg_int(args, (int64_t)consumer);
    hk_pg_int(args, (int64_t)generation);
}

/* ledger.c: only sends. Nothing is put when consumer and generation are not there; what an ack has settled stays as it
 * is. */
hark_err hk_pg_rows_put(hark_store *s, uint64_t consumer, uint64_t generation,
                        const hark_store_row *rows, size_t n, hark_errinfo *ei);
/* dead.c. Writes the new letters of a save and fills in ret_id. *ret_present false: consumer and generation are not
 * there. */
hark_err hk_pg_dead_add(hark_store *s, const hark_store_save *v, bool *ret_present,
                        hark_errinfo *ei);
/* What deliveries leave behind that have ended in a save: redriven letters and attempts go. Only sends. */
hark_err hk_pg_dead_settled(hark_store *s, const hark_store_save *v, hark_errinfo *ei);
/* Attempts are kept for as long as the event is in the log, open, or a dead letter. Waits. */
hark_err hk_pg_attempts_tidy(hark_store *s, uint64_t consumer, uint64_t sequence, hark_errinfo *ei);

#endif
