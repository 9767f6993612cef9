/* program: statements of the program's own: what they say (lex.c, guard.c, translate.c), and running them on one
 * of our connections (prepared.c, values.c, query.c). One thread at a time, the connection's. */
#ifndef HK_PG_PROGRAM_I_H
#define HK_PG_PROGRAM_I_H

#include "store/postgres/store_i.h"

/* ---- lex.c: a statement taken apart as the server does it ------------------------------------- */

typedef enum hk_pg_token_kind {
    HK_PG_END,
    HK_PG_WORD,   /* a key word or an unquoted name */
    HK_PG_QUOTED, /* "a name" */
    HK_PG_STRING, /* '...', E'...' */
    HK_PG_DOLLAR, /* $tag$...$tag$ */
    HK_PG_PARAM,  /* ?, ?7, $7 */
    HK_PG_MARK,   /* ??: the operator ? */
    HK_PG_SIGN    /* one character of all else; a number is one, too */
} hk_pg_token_kind;

typedef struct hk_pg_token {
    hk_pg_token_kind kind;
    const char *at;
    size_t len;
    size_t tag; /* HK_PG_DOLLAR: length of $tag$ */
} hk_pg_token;

/* The first token of a text, behind blanks and comments. What is not ended ends with the text. */
hk_pg_token hk_pg_lex(const char *s, const char *end);
static inline bool hk_pg_sign(const hk_pg_token *t, char c)
{
    return t->kind == HK_PG_SIGN && *t->at == c;
}

/* ---- guard.c: what a statement may not say ---------------------------------------------------- */

/* A name as the server folds it; what is longer is cut, as there. */
typedef struct hk_pg_name {
    bool word, name; /* a word may be a key word, too; neither: it is something else */
    char s[64];
} hk_pg_name;

typedef struct hk_pg_guard {
    const char *schema; /* the log's */
    bool beside;        /* for hk_pg_query_beside */
    bool body;          /* within the body of a function: only names are looked at */
    hk_pg_name verb, second, before, last; /* first two words; the two tokens seen last */
    int depth, block;                      /* open parentheses; BEGIN ATOMIC and CASE in a body */
    bool point, dotted;                    /* a '.' was seen last; one is before `last` */
    bool explains, function, schemas, changes;
    char denied[240]; /* what is, and what to do instead */
} hk_pg_guard;

/* Token by token up to HK_PG_END; false: it is denied. */
bool hk_pg_guard_look(hk_pg_guard *g, const hk_pg_token *t);

/* ---- translate.c ------------------------------------------------------------------------------- */

typedef struct hk_pg_statement {
    char *sql; /* with $n; malloc'ed */
    size_t params;
    bool reads; /* it surely changes nothing */
    bool often; /* worth to be kept prepared */
} hk_pg_statement;

/* HARK_EDENIED, HARK_EINVAL (none, or several). */
hark_err hk_pg_translate(const char *sql, const char *schema, bool beside, hk_pg_statement *ret,
                         hark_errinfo *ei);

/* ---- values.c: arguments and rows ---------------------------------------------------------------- */

/* A statement as the program asked for it. */
typedef struct hk_pg_ask {
    const char *sql;
    const hark_value *args;
    size_t n;
    hark_row_fn fn; /* NULL: rows are dropped */
    void *ud;
} hk_pg_ask;

typedef struct hk_pg_values {
    const char **in; /* arguments; what is no blob is text of a type that the server finds out */
    int *lengths, *formats;
    Oid *types;
    size_t cap_in;
    hark_value *out; /* a row */
    const char **names;
    size_t cap_out;
    hk_buf text, bytes; /* what of both is not borrowed */
} hk_pg_values;

/* Borrows from ask->args. HARK_EINVAL, HARK_ETOOBIG. */
hark_err hk_pg_values_in(hk_pg_values *v, const hk_pg_ask *ask, hark_errinfo *ei);
/* Valid until the next call; false: no memory. */
bool hk_pg_values_row(hk_pg_values *v, const PGresult *r, int row, hark_row *ret);
void hk_pg_values_free(hk_pg_values *v);

/* ---- prepared.c ------------------------------------------------------------------------------------- */

enum { HK_PG_READY = 32 }; /* statements that are kept prepared */

typedef struct hk_pg_ready {
    char *text; /* as the program wrote it */
    size_t len;
    uint64_t hash, used;
    hk_pg_statement said;
    uint8_t *blobs; /* which arguments are: types are part of what is prepared */
    bool prepared;
} hk_pg_ready;

struct hk_pg_statements {
    hk_pg_ready kept[HK_PG_READY];
    size_t n;
    uint64_t uses;
    const PGconn *pg; /* the connection that they are prepared on */
    int pid;
    bool running;
    hk_pg_values values;

    /* of the closure */
    bool wrote;            /* a statement of the program's may have changed something */
    bool looked, deferred; /* are there deferred constraints? */
    bool out;              /* the program has the connection, which is not in pipeline mode */
    bool gone;             /* and has ended the transaction */
};

extern const hk_pg_sql hk_pg_q_savepoint, hk_pg_q_release, hk_pg_q_rollback_to; /* around each */

/* The statement to be run: *ret, one that is kept; or *own, which is the caller's to free. */
hark_err hk_pg_ready_take(hark_store *s, const hk_pg_ask *ask, hk_pg_ready **ret,
                          hk_pg_statement *own, hark_errinfo *ei);
void hk_pg_ready_look(hk_pg_statements *p, const hk_pg *c); /* is it still the same connection? */
void hk_pg_ready_name(const hk_pg_statements *p, const hk_pg_ready *k, char ret[16]);
/* Not prepared any more. */
hark_err hk_pg_ready_forget(hk_pg_statements *p, hk_pg *c, hk_pg_ready *k, hark_errinfo *ei);
/* HARK_EINVAL unless there are as many as are wanted. */
hark_err hk_pg_count_args(const hk_pg_ask *ask, size_t wanted, hark_errinfo *ei);

/* ---- query.c ------------------------------------------------------------------------------------- */

/* Runs it between SAVEPOINT and RELEASE, with what is left until `until` as the server's limit. */
hark_err hk_pg_program_run(hark_store *s, const hk_pg_ask *ask, int64_t *ret_changes,
                           hark_errinfo *ei);
/* Are all deferred constraints kept now? HARK_ECONSTRAINT. They are looked at once more at the commit. */
hark_err hk_pg_program_check(hark_store *s, hark_errinfo *ei);

#endif
