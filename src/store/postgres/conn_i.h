/* conn: one connection to the server, for one thread at a time: our prepared statements, sent one by
 * one or many in a row without waiting, and what the server answers. libpq's pipeline mode is on all the
 * time: each call ends with a sync unless it only sends. */
#ifndef HK_PG_CONN_I_H
#define HK_PG_CONN_I_H

#include "base/base.h"

#include <libpq-fe.h>

/* ---- arguments ------------------------------------------------------------------------------- */

/* The n-th call fills $n. Bytes are borrowed until the statement was sent. A NULL pointer is SQL's NULL. */
enum { HK_PG_ARGS_MAX = 24 };
typedef struct hk_pg_args {
    int n;
    const char *values[HK_PG_ARGS_MAX];
    int lengths[HK_PG_ARGS_MAX];
    int formats[HK_PG_ARGS_MAX]; /* 1 = binary */
    uint64_t numbers[HK_PG_ARGS_MAX];
} hk_pg_args;

void hk_pg_int(hk_pg_args *a, int64_t v); /* int8 */
void hk_pg_text(hk_pg_args *a, const char *s);
void hk_pg_text_n(hk_pg_args *a, const char *s, size_t len);
void hk_pg_blob(hk_pg_args *a, const void *p, size_t len); /* bytea */

/* A column of many rows, as one argument: SELECT .. FROM unnest($1::int8[], $2::text[]). Or
 * whole rows, in the form of their binary type, which has a number as kind. */
typedef enum hk_pg_kind { HK_PG_INT8 = 20, HK_PG_TEXT = 25, HK_PG_BYTEA = 17 } hk_pg_kind;
typedef struct hk_pg_array {
    hk_pg_kind kind;
    size_t n;
    bool nulls;
    hk_buf bytes;
} hk_pg_array;
void hk_pg_array_int(hk_pg_array *a, int64_t v);
void hk_pg_array_add(hk_pg_array *a, const void *p, size_t len); /* text or bytea; NULL = NULL */
void hk_pg_array_clear(hk_pg_array *a);                          /* keeps its memory */
void hk_pg_array_back(hk_pg_array *a, size_t n);                 /* only the first n stay */
void hk_pg_array_free(hk_pg_array *a);
/* Completes the array's head. HARK_ENOMEM when one of the calls above had no memory. */
hark_err hk_pg_arg_array(hk_pg_args *args, hk_pg_array *a, hark_errinfo *ei);

#define HK_PG_OLDEST 140000 /* server_version_num */

/* ---- a connection ---------------------------------------------------------------------------- */

/* A statement of ours, a static constant beside the code that uses it; prepared by a connection when it first
 * needs it. "@events" in the text stands for the table `events` in the log's schema. */
typedef struct hk_pg_sql {
    const char *name; /* unique */
    const char *text;
} hk_pg_sql;

enum { HK_PG_PREPARED_MAX = 512 }; /* a power of two, never more than half full */

typedef struct hk_pg {
    PGconn *pg;         /* NULL = none at the moment */
    const char *info;   /* conninfo, without our own parameters; the store's */
    const char *where;  /* "db at host:port", without user or password, for texts; the store's */
    const char *schema; /* "hark_NAME", to be quoted; the store's */
    const hk_pg_sql *prepared[HK_PG_PREPARED_MAX]; /* open addressing, by address */
    bool in_tx;              /* BEGIN was sent and neither COMMIT nor ROLLBACK */
    size_t unread;           /* sent, preparations too, whose results were not read yet */
    struct hk_pg_sent *sent; /* what they are */
    size_t cap_sent;
    bool writer;     /* the writer's, made ready */
    bool opening;    /* for a log that is being opened: what the role may not do is told as that */
    int pid;         /* of the backend that serves it */
    PGresult *types; /* what it knows of them: types.c; NULL = nothing */
    char state[6];   /* SQLSTATE of what failed last */
    int patience_ms; /* how long to wait for an answer; 0 = HK_PG_PATIENCE_NS */
} hk_pg;

/* Connects, sets what every connection of ours needs, and compares the server's version. At most about
 * 5 s. Errors: HARK_EDENIED (password, role), HARK_ENOTFOUND (no such database), HARK_EFORMAT (server too old),
 * HARK_ESTORE (not reachable, starting up). Texts name host, database and user, never the password. */
hark_err hk_pg_connect(hk_pg *c, hark_errinfo *ei);
void hk_pg_disconnect(hk_pg *c);
static inline bool hk_pg_connected(const hk_pg *c)
{
    return c->pg != NULL;
}

/* Sends without waiting. What the server makes of it is told by the next hk_pg_run or hk_pg_flush. */
hark_err hk_pg_send(hk_pg *c, const hk_pg_sql *sql, const hk_pg_args *args, hark_errinfo *ei);
/* Likewise; its result goes to *ret when it is read, if it was good, to be PQclear'ed. *ret is NULL or an older one. */
hark_err hk_pg_send_for(hk_pg *c, const hk_pg_sql *sql, const hk_pg_args *args, PGresult **ret,
                        hark_errinfo *ei);
/* A statement of ours that fails without being at fault tells HARK_ESTORE, whatever the server's reason: the
 * transaction is over, so that none of its errors is a refusal after which the group goes on. (While the log
 * is being opened there is no group, and HARK_EDENIED stays what it is.) No answer for
 * HK_PG_PATIENCE_NS counts as a lost connection.
 * Types: an integer is an int8 in binary form. Where the server would infer another type write $1::int8. */
#define HK_PG_PATIENCE_NS (INT64_C(60) * 1000000000)
/* Sends, and reads all that was sent; *ret (may be NULL) is the last statement's, to be PQclear'ed. The
 * first statement that failed is the error: the transaction is over then (rolled back by hk_pg_rollback). `what` is the
 * ing-form of what was being done, for texts. A connection that is lost is closed, in_tx with it, HARK_ESTORE. */
hark_err hk_pg_run(hk_pg *c, const hk_pg_sql *sql, const hk_pg_args *args, PGresult **ret,
                   const char *what, hark_errinfo *ei);
hark_err hk_pg_flush(hk_pg *c, const char *what, hark_errinfo *ei);
/* A statement of the program's within what is sent. It is borrowed, with all in it, until the results were read;
 * the answer is handed to `result` one by one, errors too. It is not sent when its preparation fails. */
typedef struct hk_pg_theirs {
    const char *name; /* under which it is prepared; "" = it is not */
    const char
        *prepare; /* the text, to be prepared first; NULL: it is prepared, `name` is not "" then */
    const Oid *types;
    const char *const *values;
    const int *lengths, *formats;
    int n;
    bool rows; /* one at a time */
    void (*result)(void *ud, const PGresult *r);
    void *ud;
    bool ret_prepared;
} hk_pg_theirs;
hark_err hk_pg_send_theirs(hk_pg *c, hk_pg_theirs *t, hark_errinfo *ei);
/* Several statements in one text, outside of the pipeline: for making the schema. */
hark_err hk_pg_script(hk_pg *c, const char *sql, const char *what, hark_errinfo *ei);

/* From an SQLSTATE, or NULL when the connection was lost, to an error and its text. 23xxx HARK_ECONSTRAINT, 53100 HARK_EFULL,
 * 40001 40P01 55P03 57P0x 08xxx 53xxx HARK_ESTORE, 57014 HARK_EDEADLINE, 25006 HARK_EREADONLY, 42501 HARK_EDENIED, others HARK_ESQL. */
hark_err hk_pg_fail(hk_pg *c, const PGresult *r, const char *what, hark_errinfo *ei);

/* ---- results of our own statements (binary) --------------------------------------------------- */

int64_t hk_pg_get_int(const PGresult *r, int row, int col); /* int8, int4, int2, bool; 0 = NULL */
const char *hk_pg_get_text(const PGresult *r, int row, int col, size_t *ret_len); /* NULL = NULL */
const void *hk_pg_get_blob(const PGresult *r, int row, int col, size_t *ret_len); /* NULL = NULL */

#endif
