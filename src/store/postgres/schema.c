/* schema: whether the log's tables are there and ours, makes them where there are none, and reads where the log is. */
#include "store/postgres/store_i.h"

#include <string.h>

/* ---- the tables -------------------------------------------------------------------------------- */

/* Not from pg_control_checkpoint(): that is the old one until the first checkpoint after a promotion. */
#define TIMELINE "(('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int8)"
/* Also tells that the schema is not the one it was, as after a restore on the same server. */
#define LOCK_NO "(n.oid::int8 & 2147483647)"

/* A table `log` with our columns: 2; without them: 1; no such table: 0. */
static const hk_pg_sql find = {
    "find",
    "SELECT CASE WHEN c.oid IS NULL THEN 0 WHEN (SELECT count(*) FROM pg_attribute a WHERE "
    "a.attrelid = c.oid AND a.attname IN ('log_id', 'format', 'epoch', 'lock_no', 'ticket')) "
    "= 5 THEN 2 ELSE 1 END FROM (SELECT 1) x LEFT JOIN (pg_class c JOIN pg_namespace n ON "
    "n.oid = c.relnamespace AND n.nspname = $1::text) ON c.relname = 'log'"};
static const hk_pg_sql fill = {
    "fill", "INSERT INTO @log(one, log_id, format, epoch, lock_no, last, recorded, ticket, server, "
            "timeline) SELECT 1, $1::bytea, ($2::int8)::int4, 1, " LOCK_NO ", 0, 0, 0, "
            "c.system_identifier, " TIMELINE
            " FROM pg_namespace n, pg_control_system() c WHERE n.nspname = $3::text"};
static const hk_pg_sql facts = {"facts",
                                "SELECT current_setting('server_encoding'), pg_is_in_recovery()"};
/* A restored log's own lock_no may be another log's by now. */
static const hk_pg_sql head = {"head", "SELECT l.log_id, l.format, " LOCK_NO
                                       " FROM @log l, pg_namespace n WHERE n.nspname = $1::text"};

static hark_err not_a_log(const hark_store *s, hark_errinfo *ei)
{
    return hk_fail(ei, HARK_EFORMAT,
                   "%s: the schema %s has a table \"log\" that is not hark's; give the log another "
                   "name with ?log=NAME",
                   s->where, s->schema);
}

static hark_err is_there(hark_store *s, bool *ret, hark_errinfo *ei)
{
    hk_pg_args args = {0};
    PGresult *r = NULL;
    hk_pg_text(&args, s->schema);
    hark_err err = hk_pg_run(&s->w, &find, &args, &r, "looking for the log", ei);
    if (err)
        return err;
    int64_t found = hk_pg_get_int(r, 0, 0);
    PQclear(r);
    if (found == 1)
        return not_a_log(s, ei);
    *ret = found != 0;
    return HARK_OK;
}

static hark_err make_tables(hark_store *s, hark_errinfo *ei)
{
    static const char what[] = "making the log's tables";
    hk_pg_args args = {0};
    uint8_t log_id[16];
    hk_buf text = {0};
    char *schema = PQescapeIdentifier(s->w.pg, s->schema, strlen(s->schema));
    hk_buf_addf(&text, "CREATE SCHEMA IF NOT EXISTS %s", schema ? schema : "");
    hark_err err = !schema || text.failed
                       ? hk_fail(ei, HARK_ENOMEM, "no memory to make a log; try again")
                       : hk_pg_script(&s->w, text.data, "making the log's schema", ei);
    PQfreemem(schema);
    hk_buf_free(&text);
    if (!err)
        err = hk_pg_script(&s->w, hk_pg_tables, what, ei);
    hk_random(log_id, sizeof log_id);
    hk_pg_blob(&args, log_id, sizeof log_id);
    hk_pg_int(&args, HK_PG_FORMAT);
    hk_pg_text(&args, s->schema);
    return err ? err : hk_pg_run(&s->w, &fill, &args, NULL, what, ei);
}

/* One at a time, for the whole database: CREATE .. IF NOT EXISTS alone fails when two do it at once. */
static hark_err make(hark_store *s, hark_errinfo *ei)
{
    static const char begin[] = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; "
                                "SELECT pg_advisory_xact_lock(1751216747, 0)";
    _Static_assert(HK_PG_LOCK == 1751216747, "the text above says the same");
    bool there = false;
    hark_err err = hk_pg_script(&s->w, begin, "making a log", ei);
    if (!err)
        err = is_there(s, &there, ei);
    if (!err && !there)
        err = make_tables(s, ei);
    if (!err)
        return hk_pg_script(&s->w, "COMMIT", "making a log", ei);
    if (hk_pg_connected(&s->w))
        (void)hk_pg_script(&s->w, "ROLLBACK", "making a log", NULL);
    return err;
}

/* ---- whether it is one for us ------------------------------------------------------------------ */

static hark_err check_server(hark_store *s, hark_errinfo *ei)
{
    PGresult *r = NULL;
    hark_err err = hk_pg_run(&s->w, &facts, NULL, &r, "looking at the server", ei);
    if (err)
        return err;
    const char *encoding = hk_pg_get_text(r, 0, 0, NULL);
    if (hk_pg_get_int(r, 0, 1))
        err = hk_fail(ei, HARK_EREADONLY,
                      "%s is a standby and takes no writes; give the URL of the primary", s->where);
    else if (!encoding || strcmp(encoding, "UTF8") != 0)
        err = hk_fail(ei, HARK_EFORMAT,
                      "the encoding of %s is %s; a log needs UTF8: make the database with ENCODING "
                      "'UTF8' TEMPLATE template0",
                      s->where, encoding ? encoding : "unknown");
    PQclear(r);
    return err;
}

static hark_err take_head(hark_store *s, const PGresult *r, hark_errinfo *ei)
{
    size_t len = 0;
    const void *id = PQntuples(r) == 1 ? hk_pg_get_blob(r, 0, 0, &len) : NULL;
    if (!id || len != sizeof s->log_id)
        return hk_fail(ei, HARK_ECORRUPT,
                       "%s: the table %s.log does not have its one row; restore from a backup",
                       s->where, s->schema);
    int64_t format = hk_pg_get_int(r, 0, 1);
    if (format != HK_PG_FORMAT)
        return hk_fail(ei, HARK_EFORMAT,
                       "%s: the log %s is of format %lld, this hark reads format %d; use a newer "
                       "hark",
                       s->where, s->schema, (long long)format, HK_PG_FORMAT);
    if (s->known && memcmp(s->log_id, id, len) != 0)
        return hk_fail(ei, HARK_ECORRUPT, "%s: another log is now in the schema %s; open it again",
                       s->where, s->schema);
    memcpy(s->log_id, id, len);
    s->lock_no = (int)hk_pg_get_int(r, 0, 2);
    return HARK_OK;
}

static hark_err check_head(hark_store *s, hark_errinfo *ei)
{
    hk_pg_args args = {0};
    PGresult *r = NULL;
    hk_pg_text(&args, s->schema);
    hark_err err = hk_pg_run(&s->w, &head, &args, &r, "opening the log", ei);
    if (!err)
        err = take_head(s, r, ei);
    PQclear(r);
    return err;
}

hark_err hk_pg_schema(hark_store *s, bool existing, hark_errinfo *ei)
{
    bool there = false;
    hark_err err = check_server(s, ei);
    if (!err)
        err = is_there(s, &there, ei);
    if (!err && !there && existing)
        err = hk_fail(ei, HARK_ENOTFOUND,
                      "there is no log %s in %s; correct the URL, or open it without `existing`",
                      s->schema, s->where);
    if (!err && !there)
        err = make(s, ei);
    return err ? err : check_head(s, ei);
}

/* ---- where the log is -------------------------------------------------------------------------- */

static const hk_pg_sql place = {
    "place",
    "SELECT l.log_id, l.epoch, l.last, l.recorded, l.ticket, (SELECT min(seq) FROM @events), "
    "l.server = c.system_identifier AND l.timeline = " TIMELINE " AND l.lock_no = " LOCK_NO
    ", " LOCK_NO " FROM @log l, pg_control_system() c, pg_namespace n WHERE n.nspname = $1::text"};
static const hk_pg_sql moved = {
    "moved", "UPDATE @log SET server = c.system_identifier, timeline = " TIMELINE
             ", epoch = $1, lock_no = ($2::int8)::int4 FROM pg_control_system() c"};

typedef struct seen {
    hk_pg_place at;
    uint64_t epoch, ticket;
    int64_t lock_no;
    bool same_log, same_server;
} seen;

static hark_err look(hark_store *s, seen *ret, hark_errinfo *ei)
{
    hk_pg_args args = {0};
    PGresult *r = NULL;
    size_t len;
    hk_pg_text(&args, s->schema);
    hark_err err = hk_pg_run(&s->w, &place, &args, &r, "reading where the log is", ei);
    if (err)
        return err;
    const void *id = PQntuples(r) == 1 ? hk_pg_get_blob(r, 0, 0, &len) : NULL;
    ret->same_log = id && len == sizeof s->log_id && memcmp(id, s->log_id, len) == 0;
    if (id) {
        ret->epoch = (uint64_t)hk_pg_get_int(r, 0, 1);
        ret->at.last = (uint64_t)hk_pg_get_int(r, 0, 2);
        ret->at.recorded = hk_pg_get_int(r, 0, 3);
        ret->ticket = (uint64_t)hk_pg_get_int(r, 0, 4);
        ret->at.first = (uint64_t)hk_pg_get_int(r, 0, 5);
        ret->same_server = hk_pg_get_int(r, 0, 6) != 0;
        ret->lock_no = hk_pg_get_int(r, 0, 7);
    }
    PQclear(r);
    return HARK_OK;
}

/* A log that came here from another server, or with one that took over, may lack what others saw last. */
static hark_err note_server(hark_store *s, uint64_t epoch, hark_errinfo *ei)
{
    hk_pg_args args = {0};
    hk_pg_int(&args, (int64_t)epoch);
    hk_pg_int(&args, s->lock_no);
    return hk_pg_run(&s->w, &moved, &args, NULL, "noting the server of the log", ei);
}

static hark_err first_look(hark_store *s, const seen *at, hark_errinfo *ei)
{
    uint64_t epoch = at->epoch + !at->same_server;
    hark_err err = at->same_server ? HARK_OK : note_server(s, epoch, ei);
    if (err)
        return err;
    s->now = s->kept = s->shown = at->at; /* opening: nobody else has the store yet */
    s->ticket = at->ticket;
    hk_mark_set(&s->epoch, epoch);
    s->known = true;
    return HARK_OK;
}

static hark_err is_as_left(const hark_store *s, const seen *at, uint64_t epoch, hark_errinfo *ei)
{
    if (at->same_log && at->ticket == s->ticket && at->at.last == s->kept.last &&
        at->epoch == epoch)
        return HARK_OK;
    if (at->same_log && at->at.last >= s->kept.last)
        return hk_fail(ei, HARK_ELOCKED,
                       "%s: another process wrote to the log %s while the connection was lost; "
                       "open it again",
                       s->where, s->schema);
    return hk_fail(ei, HARK_ECORRUPT,
                   "%s: the log %s is at sequence %llu and was at %llu before the connection was "
                   "lost: the server lost what it had confirmed, or is another one; look at it, "
                   "then open the log again",
                   s->where, s->schema, (unsigned long long)at->at.last,
                   (unsigned long long)s->kept.last);
}

hark_err hk_pg_load(hark_store *s, hark_errinfo *ei)
{
    seen at = {0};
    hark_err err = look(s, &at, ei);
    if (err)
        return err;
    if (at.lock_no != s->lock_no) /* the lock that we have is not this one's */
        return hk_fail(ei, HARK_ECORRUPT,
                       "%s: the schema %s was replaced by another, perhaps by a restore; open the "
                       "log again",
                       s->where, s->schema);
    if (!s->known)
        return first_look(s, &at, ei);
    err = is_as_left(s, &at, hk_mark_get(&s->epoch), ei);
    return err || at.same_server ? err : note_server(s, at.epoch, ei);
}
