/* conn: a connection to the server. Everything goes through libpq's pipeline mode, so that many statements cost
 * one round trip; what was sent is remembered one by one, and its results are read in that order. */
#include "store/postgres/conn_i.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One result that is to come. */
typedef struct hk_pg_sent {
    const hk_pg_sql *prepared; /* it is the preparation of this one */
    bool theirs;               /* the program's statement */
    bool prepares;             /* .. its preparation */
    hk_pg_theirs *to;          /* who wants its results; NULL = nobody */
    PGresult **keep;           /* .. or its one result; NULL = nobody */
} hk_pg_sent;

/* ---- errors ------------------------------------------------------------------------------------ */

static bool begins(const char *s, const char *with)
{
    return strncmp(s, with, strlen(with)) == 0;
}

static hark_err err_of(const char *state)
{
    static const struct {
        char prefix[6];
        hark_err err;
    } known[] = {{"23", HARK_ECONSTRAINT},  {"53100", HARK_EFULL},    {"57014", HARK_EDEADLINE},
                 {"25006", HARK_EREADONLY}, {"42501", HARK_EDENIED},  {"40", HARK_ESTORE},
                 {"55P03", HARK_ESTORE},    {"57", HARK_ESTORE},      {"08", HARK_ESTORE},
                 {"53", HARK_ESTORE},       {"58", HARK_ESTORE},      {"25P03", HARK_ESTORE},
                 {"XX001", HARK_ECORRUPT},  {"XX002", HARK_ECORRUPT}, {"XX", HARK_ESTORE}};
    for (size_t i = 0; i < HK_COUNTOF(known); i++)
        if (begins(state, known[i].prefix))
            return known[i].err;
    return HARK_ESQL;
}

static const char *how_to_mend(hark_err err)
{
    switch (err) {
    case HARK_ECONSTRAINT:
    case HARK_ESQL:
        return "";
    case HARK_EFULL:
        return "; free space on the server";
    case HARK_EDEADLINE:
        return "; do less at once, or allow more time";
    case HARK_EREADONLY:
        return "; connect to the server that takes writes";
    case HARK_EDENIED:
        return "; grant it to the role";
    case HARK_ECORRUPT:
        return "; look into the server's log, and restore from a backup";
    default:
        return "; try again";
    }
}

/* libpq ends its texts with a line feed, and may have several lines. */
static int first_line(const char *s)
{
    return (int)strcspn(s, "\n");
}

hark_err hk_pg_fail(hk_pg *c, const PGresult *r, const char *what, hark_errinfo *ei)
{
    const char *state = r ? PQresultErrorField(r, PG_DIAG_SQLSTATE) : NULL;
    if (!state) {
        const char *why = r ? PQresultErrorMessage(r) : c->pg ? PQerrorMessage(c->pg) : "";
        if (!*why)
            why = "the connection is gone";
        return hk_fail(ei, HARK_ESTORE, "%s: %.*s while %s; see that the server runs and try again",
                       c->where, first_line(why), why, what);
    }
    (void)snprintf(c->state, sizeof c->state, "%s", state);
    const char *text = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
    hark_err err = err_of(state);
    return hk_fail(ei, err, "%s: %s (SQLSTATE %s) while %s%s", c->where, text ? text : "an error",
                   state, what, how_to_mend(err));
}

/* The connection is of no use any more. */
static hark_err lost(hk_pg *c, const char *what, hark_errinfo *ei)
{
    hark_err err = hk_pg_fail(c, NULL, what, ei);
    hk_pg_disconnect(c);
    return err;
}

static hark_err none(const hk_pg *c, const char *what, hark_errinfo *ei)
{
    return hk_fail(ei, HARK_ESTORE, "%s: the connection was lost before %s; try again", c->where,
                   what);
}

/* ---- waiting for an answer --------------------------------------------------------------------- */

/* A closure's statement is ended by the server at its deadline; a query of the program's beside the log may
 * not keep us waiting for longer either. */
#define PATIENT_MS 70000

/* The next result, or NULL where libpq has none; false: the connection is lost or the server does not answer. */
static bool next(hk_pg *c, bool patient, PGresult **ret)
{
    while (PQisBusy(c->pg)) {
        struct pollfd p = {.fd = PQsocket(c->pg), .events = POLLIN};
        /* a query beside the log may take as long as it likes, a closure has its deadline */
        int ms = !patient ? (int)(HK_PG_PATIENCE_NS / 1000000) : c->writer ? PATIENT_MS : -1;
        if (c->patience_ms)
            ms = c->patience_ms;
        int n = poll(&p, 1, ms);
        if (n == 0 || (n > 0 && !PQconsumeInput(c->pg)))
            return false;
    }
    *ret = PQgetResult(c->pg);
    return *ret || PQstatus(c->pg) != CONNECTION_BAD;
}

static bool is_good(const PGresult *r)
{
    ExecStatusType st = PQresultStatus(r);
    return st == PGRES_TUPLES_OK || st == PGRES_COMMAND_OK || st == PGRES_EMPTY_QUERY;
}

/* Several statements in one text, outside of the pipeline: the last result, which is the first that is bad. NULL: the connection
 * was lost, or the server does not answer. */
static PGresult *run_text(hk_pg *c, const char *text)
{
    PGresult *last = NULL, *r = NULL;
    bool alive = PQsendQuery(c->pg, text) == 1;
    while (alive && (alive = next(c, false, &r)) && r) {
        PQclear(last);
        last = r;
    }
    if (alive || !is_good(last))
        return last;
    PQclear(last);
    return NULL;
}

/* ---- connecting -------------------------------------------------------------------------------- */

static void no_notices(void *ud, const PGresult *r)
{
    (void)ud;
    (void)r;
}

/* What comes before the URL it may change, what comes after it may not. */
static PGconn *start(const char *info, bool wait)
{
    const char *const names[] = {
        "connect_timeout",  "keepalives_idle",  "keepalives_interval",
        "keepalives_count", "tcp_user_timeout", "fallback_application_name",
        "dbname",           "client_encoding",  NULL};
    const char *const values[] = {"4", "10", "3", "3", "15000", "hark", info, "UTF8", NULL};
    return wait ? PQconnectdbParams(names, values, 1) : PQconnectStartParams(names, values, 1);
}

/* One more attempt, to hear the reason as a code: libpq tells it in no other way for a connection. */
static void ask_why(const char *info, char ret[6])
{
    PGconn *pg = start(info, false);
    int64_t until = hk_mono_ns() + INT64_C(1000000000);
    PostgresPollingStatusType want = PGRES_POLLING_WRITING;
    if (pg)
        PQsetErrorVerbosity(pg, PQERRORS_VERBOSE);
    while (pg && PQstatus(pg) != CONNECTION_BAD && want != PGRES_POLLING_OK &&
           want != PGRES_POLLING_FAILED && hk_mono_ns() < until) {
        struct pollfd p = {.fd = PQsocket(pg),
                           .events = want == PGRES_POLLING_READING ? POLLIN : POLLOUT};
        if (poll(&p, 1, 100) > 0)
            want = PQconnectPoll(pg);
    }
    ret[0] = '\0';
    for (const char *s = pg ? strstr(PQerrorMessage(pg), ":  ") : NULL; s && !ret[0];
         s = strstr(s + 3, ":  "))
        if (strspn(s + 3, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5 && begins(s + 8, ": ")) {
            memcpy(ret, s + 3, 5);
            ret[5] = '\0';
        }
    PQfinish(pg);
}

static hark_err refused(hk_pg *c, PGconn *pg, hark_errinfo *ei)
{
    const char *why = pg ? PQerrorMessage(pg) : "no memory", *user = pg ? PQuser(pg) : "?";
    char state[6] = "";
    bool no_password = pg && PQconnectionNeedsPassword(pg);
    if (pg && !no_password)
        ask_why(c->info, state);
    if (no_password || begins(state, "28"))
        return hk_fail(ei, HARK_EDENIED,
                       "%s does not let %s in%s; check user and password in the URL, and the "
                       "server's pg_hba.conf",
                       c->where, user, no_password ? " without a password" : "");
    if (strcmp(state, "3D000") == 0)
        return hk_fail(ei, HARK_ENOTFOUND,
                       "there is no database %s (user %s); create it, or correct the URL", c->where,
                       user);
    if (strcmp(state, "42501") == 0)
        return hk_fail(ei, HARK_EDENIED, "%s: %s may not connect; grant CONNECT to the role",
                       c->where, user);
    return hk_fail(ei, HARK_ESTORE,
                   "cannot connect to %s as %s: %.*s; see that the server runs and can be reached",
                   c->where, user, first_line(why), why);
}

static hark_err check_version(const hk_pg *c, hark_errinfo *ei)
{
    int version = PQserverVersion(c->pg);
    if (version >= HK_PG_OLDEST)
        return HARK_OK;
    return hk_fail(ei, HARK_EFORMAT,
                   "%s runs PostgreSQL %d.%d; a log needs %d or newer: upgrade the server",
                   c->where, version / 10000, version % 10000, HK_PG_OLDEST / 10000);
}

static hark_err settings(hk_pg *c, hark_errinfo *ei)
{
    PGresult *r =
        run_text(c, "SET standard_conforming_strings = on; SET client_min_messages = warning; "
                    "SET lock_timeout = '10s'; SET DateStyle = ISO; SET bytea_output = hex; "
                    /* a role's default would cancel our COMMIT's wait for a standby */
                    "SET statement_timeout = 0");
    hark_err err = is_good(r) ? HARK_OK : hk_pg_fail(c, r, "preparing a connection", ei);
    PQclear(r);
    return err;
}

hark_err hk_pg_connect(hk_pg *c, hark_errinfo *ei)
{
    assert(!c->pg);
    PGconn *pg = start(c->info, true);
    hark_err err = HARK_OK;
    if (!pg || PQstatus(pg) != CONNECTION_OK) {
        err = refused(c, pg, ei);
        PQfinish(pg);
        return err;
    }
    c->pg = pg;
    PQsetNoticeReceiver(pg, no_notices, NULL);
    err = check_version(c, ei);
    if (!err)
        err = settings(c, ei);
    if (!err && !PQenterPipelineMode(pg))
        err = hk_pg_fail(c, NULL, "preparing a connection", ei);
    if (err)
        hk_pg_disconnect(c);
    else
        c->pid = PQbackendPID(pg);
    return err;
}

void hk_pg_disconnect(hk_pg *c)
{
    if (c->pg)
        PQfinish(c->pg);
    PQclear(c->types);
    free(c->sent);
    *c = (hk_pg){.info = c->info, .where = c->where, .schema = c->schema};
}

/* ---- our statements ---------------------------------------------------------------------------- */

/* "@name" becomes "schema".name. */
static hark_err expand(hk_pg *c, const char *text, hk_buf *ret, hark_errinfo *ei)
{
    char *schema = PQescapeIdentifier(c->pg, c->schema, strlen(c->schema));
    for (const char *s = text; schema && *s; s++)
        if (*s == '@' && s[1] >= 'a' && s[1] <= 'z')
            hk_buf_addf(ret, "%s.", schema);
        else
            hk_buf_addc(ret, *s);
    bool failed = !schema || ret->failed;
    PQfreemem(schema);
    return failed ? hk_fail(ei, HARK_ENOMEM, "no memory for a statement; try again") : HARK_OK;
}

static const hk_pg_sql **place_of(hk_pg *c, const hk_pg_sql *sql)
{
    size_t i = (size_t)((uint64_t)(uintptr_t)sql * UINT64_C(0x9e3779b97f4a7c15) >> 32);
    size_t n = 0;
    for (i %= HK_PG_PREPARED_MAX; c->prepared[i] && c->prepared[i] != sql; n++)
        i = (i + 1) % HK_PG_PREPARED_MAX;
    assert(n < HK_PG_PREPARED_MAX / 2);
    return &c->prepared[i];
}

/* The server did not prepare it: it comes out of the table, and what may have been placed behind it goes in again. */
static void unprepare(hk_pg *c, const hk_pg_sql *sql)
{
    const hk_pg_sql *all[HK_PG_PREPARED_MAX];
    memcpy(all, c->prepared, sizeof all);
    memset(c->prepared, 0, sizeof c->prepared);
    for (size_t i = 0; i < HK_PG_PREPARED_MAX; i++)
        if (all[i] && all[i] != sql)
            *place_of(c, all[i]) = all[i];
}

static hark_err room(hk_pg *c, hark_errinfo *ei)
{
    while (c->unread + 2 > c->cap_sent) {
        size_t cap = c->cap_sent ? c->cap_sent * 2 : 32;
        hk_pg_sent *sent = realloc(c->sent, cap * sizeof *sent);
        if (!sent)
            return hk_fail(ei, HARK_ENOMEM, "no memory for a statement; try again");
        c->sent = sent;
        c->cap_sent = cap;
    }
    return HARK_OK;
}

static hark_err prepare(hk_pg *c, const hk_pg_sql *sql, hark_errinfo *ei)
{
    const hk_pg_sql **place = place_of(c, sql);
    hk_buf text = {0};
    if (HK_LIKELY(*place != NULL))
        return HARK_OK;
    hark_err err = expand(c, sql->text, &text, ei);
    if (!err && !PQsendPrepare(c->pg, sql->name, text.data, 0, NULL)) {
        err = lost(c, "sending a statement", ei);
    } else if (!err) {
        *place = sql;
        c->sent[c->unread++] = (hk_pg_sent){.prepared = sql};
    }
    hk_buf_free(&text);
    return err;
}

hark_err hk_pg_send_for(hk_pg *c, const hk_pg_sql *sql, const hk_pg_args *args, PGresult **ret,
                        hark_errinfo *ei)
{
    if (!c->pg)
        return none(c, "a statement was sent", ei);
    hark_err err = room(c, ei);
    if (!err)
        err = prepare(c, sql, ei);
    if (err)
        return err;
    if (!PQsendQueryPrepared(c->pg, sql->name, args ? args->n : 0, args ? args->values : NULL,
                             args ? args->lengths : NULL, args ? args->formats : NULL, 1))
        return lost(c, "sending a statement", ei);
    c->sent[c->unread++] = (hk_pg_sent){.keep = ret};
    return HARK_OK;
}

hark_err hk_pg_send(hk_pg *c, const hk_pg_sql *sql, const hk_pg_args *args, hark_errinfo *ei)
{
    return hk_pg_send_for(c, sql, args, NULL, ei);
}

hark_err hk_pg_send_theirs(hk_pg *c, hk_pg_theirs *t, hark_errinfo *ei)
{
    bool kept = *t->name, sent = true;
    if (!c->pg)
        return none(c, "a statement was sent", ei);
    hark_err err = room(c, ei);
    if (err)
        return err;
    if (kept && t->prepare) {
        sent = PQsendPrepare(c->pg, t->name, t->prepare, t->n, t->types) != 0;
        c->sent[c->unread++] = (hk_pg_sent){.theirs = true, .prepares = true, .to = t};
    }
    if (sent && kept)
        sent = PQsendQueryPrepared(c->pg, t->name, t->n, t->values, t->lengths, t->formats, 0) != 0;
    else if (sent)
        sent = PQsendQueryParams(c->pg, t->prepare, t->n, t->types, t->values, t->lengths,
                                 t->formats, 0) != 0;
    if (!sent)
        return lost(c, "sending a statement", ei);
    c->sent[c->unread++] = (hk_pg_sent){.theirs = true, .to = t};
    return HARK_OK;
}

/* ---- reading what the server answers ----------------------------------------------------------- */

/* None of our own statements' errors lets the group go on. */
static hark_err ours(const hk_pg *c, hark_err err, hark_errinfo *ei)
{
    if (c->opening && err == HARK_EDENIED)
        return err;
    bool goes_on = hark_err_class(err) == HARK_CLASS_REFUSED || err == HARK_EDEADLINE;
    if (goes_on && ei)
        ei->err = HARK_ESTORE;
    return goes_on ? HARK_ESTORE : err;
}

typedef struct reading {
    const char *what;
    hark_err err; /* the first */
    hark_errinfo why;
    PGresult *last;  /* of the statement that was read last */
    bool unprepared; /* our statements are not there as we know them */
} reading;

/* Somebody has removed what we prepared (DEALLOCATE through hark_tx_native, a pooler), has prepared the same, or altered our tables:
 * it would fail again and again on this connection. */
static bool is_unprepared(const char *state)
{
    return begins(state, "26000") || begins(state, "42P05") || begins(state, "0A000");
}

static void take(hk_pg *c, reading *rd, const hk_pg_sent *of, PGresult *r)
{
    bool good = is_good(r);
    if (!good && of->prepared)
        unprepare(c, of->prepared);
    if (!good && !rd->err) {
        rd->err = hk_pg_fail(c, r, rd->what, &rd->why);
        if (!of->theirs) {
            rd->err = ours(c, rd->err, &rd->why);
            rd->unprepared = is_unprepared(c->state);
        }
    }
    if (!good || of->prepared) {
        PQclear(r);
        return;
    }
    PGresult **to = of->keep ? of->keep : &rd->last;
    PQclear(*to);
    *to = r;
}

/* What comes after a failure has not been run: there is nothing to tell of it. */
static void hand_over(hk_pg *c, reading *rd, const hk_pg_sent *of, PGresult *r)
{
    ExecStatusType st = PQresultStatus(r);
    bool good = st == PGRES_TUPLES_OK || st == PGRES_COMMAND_OK || st == PGRES_SINGLE_TUPLE;
    if (good && of->prepares)
        of->to->ret_prepared = true;
    else if (!rd->err)
        of->to->result(of->to->ud, r);
    if (!good && !rd->err)
        rd->err = hk_pg_fail(c, r, rd->what, &rd->why);
    PQclear(r);
}

/* Results of one statement, up to the NULL behind them. */
static bool read_one(hk_pg *c, reading *rd, hk_pg_sent of)
{
    PGresult *r;
    if (of.to && of.to->rows && !of.prepares)
        (void)PQsetSingleRowMode(c->pg);
    while (next(c, of.theirs, &r)) {
        if (!r)
            return true;
        if (of.to)
            hand_over(c, rd, &of, r);
        else
            take(c, rd, &of, r);
        if (PQstatus(c->pg) == CONNECTION_BAD)
            return false;
    }
    return false;
}

static bool read_sync(hk_pg *c)
{
    PGresult *r = NULL;
    bool good = next(c, false, &r) && r && PQresultStatus(r) == PGRES_PIPELINE_SYNC;
    PQclear(r);
    return good;
}

static hark_err collect(hk_pg *c, PGresult **ret, const char *what, hark_errinfo *ei)
{
    reading rd = {.what = what};
    bool alive = PQpipelineSync(c->pg) == 1;
    for (size_t i = 0; alive && i < c->unread; i++)
        alive = read_one(c, &rd, c->sent[i]);
    alive = alive && read_sync(c);
    c->unread = 0;
    if (!alive) { /* what the server said before it went tells more than that it went */
        hark_err err = lost(c, what, rd.err ? NULL : ei);
        rd.err = rd.err ? ours(c, rd.err, &rd.why) : err;
        if (!rd.why.text[0]) {
            PQclear(rd.last);
            return err;
        }
    }
    if (alive && rd.unprepared)
        hk_pg_disconnect(c);
    if (rd.err || !ret) {
        PQclear(rd.last);
        return rd.err ? hk_fail(ei, rd.err, "%s", rd.why.text) : HARK_OK;
    }
    *ret = rd.last;
    return HARK_OK;
}

hark_err hk_pg_run(hk_pg *c, const hk_pg_sql *sql, const hk_pg_args *args, PGresult **ret,
                   const char *what, hark_errinfo *ei)
{
    hark_err err = hk_pg_send(c, sql, args, ei);
    return err ? err : collect(c, ret, what, ei);
}

hark_err hk_pg_flush(hk_pg *c, const char *what, hark_errinfo *ei)
{
    if (!c->pg)
        return none(c, what, ei);
    return c->unread ? collect(c, NULL, what, ei) : HARK_OK;
}

hark_err hk_pg_script(hk_pg *c, const char *sql, const char *what, hark_errinfo *ei)
{
    hk_buf text = {0};
    hark_err err = hk_pg_flush(c, what, ei);
    if (!err)
        err = expand(c, sql, &text, ei);
    if (!err && !PQexitPipelineMode(c->pg))
        err = lost(c, what, ei);
    PGresult *r = err ? NULL : run_text(c, text.data);
    hk_buf_free(&text);
    if (err)
        return err;
    if (!is_good(r))
        err = hk_pg_fail(c, r, what, ei);
    PQclear(r);
    if (PQstatus(c->pg) == CONNECTION_BAD || !PQenterPipelineMode(c->pg)) {
        (void)lost(c, what, err ? NULL : ei);
        return err ? err : HARK_ESTORE;
    }
    return err;
}

/* ---- results ----------------------------------------------------------------------------------- */

int64_t hk_pg_get_int(const PGresult *r, int row, int col)
{
    const char *v = PQgetvalue(r, row, col);
    uint64_t eight;
    uint32_t four;
    uint16_t two;
    switch (PQgetisnull(r, row, col) ? 0 : PQgetlength(r, row, col)) {
    case 8:
        memcpy(&eight, v, sizeof eight);
        return (int64_t)be64toh(eight);
    case 4:
        memcpy(&four, v, sizeof four);
        return (int32_t)be32toh(four);
    case 2:
        memcpy(&two, v, sizeof two);
        return (int16_t)be16toh(two);
    case 1:
        return *v;
    default:
        return 0;
    }
}

const char *hk_pg_get_text(const PGresult *r, int row, int col, size_t *ret_len)
{
    return hk_pg_get_blob(r, row, col, ret_len);
}

const void *hk_pg_get_blob(const PGresult *r, int row, int col, size_t *ret_len)
{
    bool null = PQgetisnull(r, row, col);
    if (ret_len)
        *ret_len = null ? 0 : (size_t)PQgetlength(r, row, col);
    return null ? NULL : PQgetvalue(r, row, col);
}
