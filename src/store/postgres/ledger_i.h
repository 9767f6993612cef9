/* ledger_i.h: what the files of the ledger (consumers, letters, schedules, replays) share: rows as arguments, and
 * pieces of rows that several of them read or write. A statement of ours that fails ends the group, so that refusals
 * are found by looking. Rows are locked in the order that party_i.h tells. */
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
/* All shares of the consumer $1, for an index by consumer, share and sequence. */
#define HK_PG_EACH_SHARE "ANY(ARRAY(SELECT h.share FROM @shares h WHERE h.consumer_id = $1::int8))"
/* $1 and $2: a consumer, and mostly its share. */
static inline void hk_pg_head(hk_pg_args *args, uint64_t consumer, uint64_t second)
{
    args->n = 0;
    hk_pg_int(args, (int64_t)consumer);
    hk_pg_int(args, (int64_t)second);
}

/* ledger.c. These only send. What an ack has settled stays as it is. */
hark_err hk_pg_rows_put(hk_pg *c, uint64_t consumer, uint32_t share, const hark_store_row *rows,
                        size_t n, hark_errinfo *ei);
hark_err hk_pg_rows_drop(hk_pg *c, uint64_t consumer, uint32_t share, const uint64_t *seqs,
                         size_t n, hark_errinfo *ei);
/* A share's floor, highest and settled set. On a share that is locked. */
hark_err hk_pg_share_set(hk_pg *c, uint64_t consumer, const hark_store_claim *state,
                         hark_errinfo *ei);
/* dead.c. Writes the new letters of a save and fills in ret_id. */
hark_err hk_pg_dead_add(hark_store *s, const hark_store_save *v, hark_errinfo *ei);
/* What these deliveries leave behind, which have ended: redriven letters and attempts go. Only sends. */
hark_err hk_pg_dead_settled(hk_pg *c, uint64_t consumer, uint32_t share, hk_pg_columns *seqs,
                            hark_errinfo *ei);
/* Attempts are kept for as long as the event is in the log, open, or a dead letter. Waits. */
hark_err hk_pg_attempts_tidy(hark_store *s, uint64_t consumer, uint64_t sequence, hark_errinfo *ei);

/* consumer.c: a row of `deliveries` whose columns from `col` on are HK_PG_DELIVERY; strings are copied. False: no
 * memory. hk_pg_is_settled: it only says that it is settled. */
#define HK_PG_DELIVERY                                                                             \
    "seq, state, attempts, crashes, interruptions, due, first, partitionkey, error"
bool hk_pg_get_delivery(const PGresult *r, int row, int col, hark_store_row *ret);
static inline bool hk_pg_is_settled(const PGresult *r, int row, int col)
{
    return hk_pg_get_int(r, row, col + 1) == HK_ROW_SETTLED;
}
/* A settled set from its column. HARK_ECORRUPT without a text, HARK_ENOMEM likewise. */
hark_err hk_pg_get_settled(const PGresult *r, int row, int col, uint64_t floor,
                           hark_store_range **ret, size_t *ret_n);

#endif
