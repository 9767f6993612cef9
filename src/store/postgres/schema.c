/* schema: whether the log's tables are there and ours, makes them where there are none, and reads where the log is. */
#include "store/postgres/store_i.h"

#include <string.h>

/* ---- the tables -------------------------------------------------------------------------------- */

/* Not from pg_control_checkpoint(): that is the old one until the first checkpoint after a promotion. */
#define TIMELINE "(('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int8)"
/* Also tells that the schema is not the one it was, as after a restore on the same server. */
#define LOCK_NO "(n.oid::int8 & 2147483647)"

/* A table `log` with our columns: 2; with those that it had before several processes could share it: 1; without them: -1;
 * no such table: 0. */
static const hk_pg_sql find = {
    "find",
    "SELECT CASE WHEN c.oid IS NULL THEN 0 ELSE (SELECT CASE count(*) WHEN 5 THEN 2 WHEN 4 THEN 1 "
    "ELSE -1 END FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname IN ('log_id', "
    "'format', 'epoch', 'lock_no', 'lost_to')) END FROM (SELECT 1) x LEFT JOIN (pg_class c JOIN "
    "pg_namespace n ON "
    "n.oid = c.relnamespace AND n.nspname = $1::text) ON c.relname = 'log'"};
static const hk_pg_sql fill = {
    "fill", "INSERT INTO @log(one, log_id, format, epoch, lock_no, last, recorded, server, "
            "timeline) SELECT 1, $1::bytea, ($2::int8)::int4, 1, " LOCK_NO ", 0, 0, "
            "c.system_identifier, " TIMELINE
            " FROM pg_namespace n, pg_control_system() c WHERE n.nspname = $3::text"};
static const hk_pg_sql facts = {"facts",
                                "SELECT current_setting('server_encoding'), pg_is_in_recovery()"};
/* A restored log's own lock_no may be another log's by now. */
static const hk_pg_sql head = {
    "head",
    "SELECT l.log_id, l.format, " LOCK_NO
    ", '@events'::regtype::oid::int8 FROM @log l, pg_namespace n WHERE n.nspname = $1::text"};

static hark_err not_a_log(const hark_store *s, hark_errinfo *ei)
{
    return hk_fail(ei, HARK_EFORMAT,
                   "%s: the schema %s has a table \"log\" that is not hark's; give the log another "
                   "name with ?log=NAME",
                   s->where, s->schema);
}

static hark_err too_old(const hark_store *s, hark_errinfo *ei)
{
    return hk_fail(
        ei, HARK_EFORMAT,
        "%s: the log in the schema %s is of a hark that was never released, for one "
        "process at a time; drop the schema, or give the log another name with ?log=NAME",
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
        return too_old(s, ei);
    if (found < 0)
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
    if (!err)
        err = hk_pg_script(&s->w, hk_pg_ledger_tables, what, ei);
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
    s->event_type = (hk_pg_kind)hk_pg_get_int(r, 0, 3);
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
    "SELECT l.log_id, l.epoch, l.last, (SELECT min(seq) FROM @events), "
    "l.server = c.system_identifier AND l.timeline = " TIMELINE " AND l.lock_no = " LOCK_NO
    ", " LOCK_NO " FROM @log l, pg_control_system() c, pg_namespace n WHERE n.nspname = $1::text"};
enum { P_ID, P_EPOCH, P_LAST, P_FIRST, P_SAME, P_LOCK };
static const hk_pg_sql raise_begin = {"raise_begin",
                                      "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"};
static const hk_pg_sql raise_lock = {
    "raise_lock", "SELECT pg_advisory_xact_lock(($1::int8)::int4, ($2::int8)::int4)"};
/* Only from the epoch that was found: whoever comes second finds it done. What was lost since the raise before, with
 * nothing appended in between, is one stretch with that. */
static const hk_pg_sql raise_it = {
    "raise",
    "UPDATE @log l SET server = c.system_identifier, timeline = " TIMELINE ", lock_no = " LOCK_NO
    ", epoch = l.epoch + 1, lost_from = CASE WHEN l.lost_to = l.last AND "
    "l.lost_from <= l.lost_to THEN l.lost_from ELSE l.last + 1 END, lost_to = "
    "greatest(l.last, $3::int8), last = greatest(l.last, $3) FROM pg_control_system() c, "
    "pg_namespace n WHERE n.nspname = $1::text AND l.epoch = $2::int8"};
static const hk_pg_sql raise_end = {"raise_commit", "COMMIT"};
static const hk_pg_sql raise_back = {"raise_rollback", "ROLLBACK"};

typedef struct seen {
    uint64_t first, last, epoch;
    int64_t lock_no;
    bool same_log, same_server;
} seen;

static hark_err look(hark_store *s, hk_pg *c, seen *ret, hark_errinfo *ei)
{
    hk_pg_args args = {0};
    PGresult *r = NULL;
    size_t len;
    hk_pg_text(&args, s->schema);
    hark_err err = hk_pg_run(c, &place, &args, &r, "reading where the log is", ei);
    if (err)
        return err;
    const void *id = PQntuples(r) == 1 ? hk_pg_get_blob(r, 0, P_ID, &len) : NULL;
    *ret = (seen){.same_log = id && len == sizeof s->log_id && memcmp(id, s->log_id, len) == 0};
    if (id) {
        ret->epoch = (uint64_t)hk_pg_get_int(r, 0, P_EPOCH);
        ret->last = (uint64_t)hk_pg_get_int(r, 0, P_LAST);
        ret->first = (uint64_t)hk_pg_get_int(r, 0, P_FIRST);
        ret->same_server = hk_pg_get_int(r, 0, P_SAME) != 0;
        ret->lock_no = hk_pg_get_int(r, 0, P_LOCK);
    }
    PQclear(r);
    return HARK_OK;
}

static hark_err send_raise(hark_store *s, hk_pg *c, uint64_t epoch, uint64_t known,
                           hark_errinfo *ei)
{
    hk_pg_args lock = {0}, args = {0};
    hk_pg_int(&lock, HK_PG_LOCK);
    hk_pg_int(&lock, s->lock_no);
    hk_pg_text(&args, s->schema);
    hk_pg_int(&args, (int64_t)epoch);
    hk_pg_int(&args, (int64_t)known);
    hark_err err = hk_pg_send(c, &raise_begin, NULL, ei);
    if (!err)
        err = hk_pg_send(c, &raise_lock, &lock, ei);
    if (!err)
        err = hk_pg_send(c, &raise_it, &args, ei);
    return err ? err : hk_pg_run(c, &raise_end, NULL, NULL, "noting the server of the log", ei);
}

/* A log that came here from another server, or with one that took over, may lack what others saw last, and so may one
 * whose server does not wait for its disk: its sequences go on above all that this process knows. */
static hark_err raise_epoch(hark_store *s, hk_pg *c, const seen *at, uint64_t known,
                            hark_errinfo *ei)
{
    hark_err err = send_raise(s, c, at->epoch, known, ei);
    if (err && hk_pg_connected(c) &&
        hk_pg_run(c, &raise_back, NULL, NULL, "rolling back", NULL) != HARK_OK)
        hk_pg_disconnect(c);
    if (!err && at->last < known)
        hk_log(HK_WARN,
               "%s: the log %s ends at sequence %llu and has been at %llu: the server lost what "
               "it had confirmed; it goes on above that, in a new epoch",
               s->where, s->schema, (unsigned long long)at->last, (unsigned long long)known);
    return err;
}

static hark_err check_same(const hark_store *s, const seen *at, hark_errinfo *ei)
{
    if (at->same_log && at->lock_no == s->lock_no)
        return HARK_OK;
    return hk_fail(ei, HARK_ECORRUPT,
                   "%s: the schema %s was replaced by another, perhaps by a restore; open the log "
                   "again",
                   s->where, s->schema);
}

hark_err hk_pg_load(hark_store *s, hk_pg *c, hark_errinfo *ei)
{
    enum { TRIES = 3 };
    seen at = {0};
    for (int i = 0; i < TRIES; i++) {
        uint64_t known = hk_pg_shown(s);
        hark_err err = look(s, c, &at, ei);
        if (!err)
            err = check_same(s, &at, ei);
        if (err)
            return err;
        if (at.same_server && at.last >= known) {
            hk_pg_show(s, at.first, at.last);
            hk_mark_set(&s->epoch, at.epoch);
            return HARK_OK;
        }
        err = raise_epoch(s, c, &at, known, ei);
        if (err)
            return err;
    }
    return hk_fail(ei, HARK_ESTORE, "%s: others note the server of the log, too; try again",
                   s->where);
}
