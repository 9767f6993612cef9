/* What is kept under a key for some time: the answer to a request, the mark of a message that was worked
 * on. An expired one counts as none at once, and is removed by housekeeping. The clock is the server's. */
#include "store/postgres/store_i.h"

#include <stdlib.h>
#include <string.h>

#define SLICE 200 /* rows removed in one go */
#define PAUSE INT64_C(1000000000)
#define SHARE 8 /* while there are more, sweeping takes one part in so many of the time */

enum { DATA_MAX = 1000 << 20 }; /* a field has at most 1 GiB */

static const hk_pg_sql KEEP = {
    "kept_put", "INSERT INTO @kept(key, until, data) VALUES($1, $2, $3) ON CONFLICT(key) "
                "DO UPDATE SET until = $2, data = $3 WHERE @kept.until <= $4::int8"};
static const hk_pg_sql KEPT = {"kept_get", "SELECT data FROM @kept WHERE key = $1 AND until > $2"};
/* What somebody has locked is being kept anew, or swept by another process: it is not waited for, and looked at again later. */
static const hk_pg_sql SWEEP = {
    "kept_sweep", "DELETE FROM @kept WHERE key = ANY(ARRAY("
                  "SELECT key FROM @kept WHERE until <= (extract(epoch FROM clock_timestamp()) * "
                  "1000000)::int8 * 1000 ORDER BY until LIMIT $1::int8 FOR UPDATE SKIP LOCKED))"};

/* The server would refuse it, and end the transaction with that. */
static hark_err check_key(const char *key, hark_errinfo *ei)
{
    size_t len = strlen(key), good = hk_utf8_valid(key, len);
    return HK_LIKELY(good == len)
               ? HARK_OK
               : hk_fail(ei, HARK_EINVAL,
                         "a key of a kept value is not UTF-8 from byte %zu on; give it as text",
                         good);
}

static hark_err put(hark_store *s, const char *key, const void *data, size_t len, int64_t until,
                    int64_t now, hark_errinfo *ei)
{
    hk_pg_args a = {.n = 0};
    PGresult *r = NULL;
    if (len > DATA_MAX)
        return hk_fail(ei, HARK_ETOOBIG,
                       "a value of %zu bytes is too large for PostgreSQL; keep less", len);
    hark_err err = check_key(key, ei);
    if (!err)
        err = hk_pg_enter(s, "keep", ei);
    if (err)
        return err;
    hk_pg_tx_wrote(s);
    hk_pg_text(&a, key);
    hk_pg_int(&a, until);
    hk_pg_blob(&a, len ? data : "", len);
    hk_pg_int(&a, now);
    err = hk_pg_run(&s->w, &KEEP, &a, &r, "keeping a value", ei);
    if (!err && strcmp(PQcmdTuples(r), "1") != 0)
        err = hk_fail(ei, HARK_EEXIST,
                      "a value is kept under '%.100s' already; read it, or use another key", key);
    PQclear(r);
    return err;
}

hark_err hk_pg_keep(hark_store *s, const char *key, const void *data, size_t len, int64_t until,
                    int64_t now, hark_errinfo *ei)
{
    hark_errinfo own;
    ei = ei ? ei : &own;
    return hk_pg_tx_note(s, put(s, key, data, len, until, now, ei), ei);
}

/* The caller's own copy, with a NUL behind. */
static hark_err copy_out(const PGresult *r, void **ret, size_t *ret_len, hark_errinfo *ei)
{
    size_t len;
    const void *data = hk_pg_get_blob(r, 0, 0, &len);
    char *copy = malloc(len + 1);
    if (!copy)
        return hk_fail(ei, HARK_ENOMEM, "no memory for a kept value; free some, then try again");
    if (len)
        memcpy(copy, data, len);
    copy[len] = '\0';
    *ret = copy;
    *ret_len = len;
    return HARK_OK;
}

static hark_err get(hark_store *s, const char *key, int64_t now, void **ret, size_t *ret_len,
                    hark_errinfo *ei)
{
    hk_pg_args a = {.n = 0};
    PGresult *r = NULL;
    hark_err err = check_key(key, ei);
    if (!err)
        err = hk_pg_enter(s, "kept", ei);
    if (err)
        return err;
    hk_pg_text(&a, key);
    hk_pg_int(&a, now);
    err = hk_pg_run(&s->w, &KEPT, &a, &r, "reading a kept value", ei);
    if (!err && PQntuples(r) > 0)
        err = copy_out(r, ret, ret_len, ei);
    else if (!err)
        err = hk_fail(ei, HARK_ENOTFOUND, "nothing is kept under '%.100s'; keep it first", key);
    PQclear(r);
    return err;
}

hark_err hk_pg_kept(hark_store *s, const char *key, int64_t now, void **ret, size_t *ret_len,
                    hark_errinfo *ei)
{
    hark_errinfo own;
    ei = ei ? ei : &own;
    return hk_pg_tx_note(s, get(s, key, now, ret, ret_len, ei), ei);
}

static const hk_pg_sql BEGIN_SWEEP = {"kept_begin", "BEGIN READ WRITE"};
static const hk_pg_sql END_SWEEP = {"kept_end", "COMMIT"};

/* Removes a slice of those whose time is over; *ret_n says how many. */
static hark_err sweep(hark_store *s, long *ret_n, hark_errinfo *ei)
{
    static const char what[] = "removing what was kept long enough";
    hk_pg_args a = {.n = 0};
    PGresult *r = NULL;
    hk_pg_int(&a, SLICE);
    hark_err err = hk_pg_send(&s->w, &BEGIN_SWEEP, NULL, ei);
    if (!err)
        err = hk_pg_run(&s->w, &SWEEP, &a, &r, what, ei);
    if (!err)
        *ret_n = strtol(PQcmdTuples(r), NULL, 10);
    PQclear(r);
    if (!hk_pg_connected(&s->w))
        return err;
    hark_err end = hk_pg_run(&s->w, &END_SWEEP, NULL, NULL, what, err ? NULL : ei);
    return err ? err : end;
}

void hk_pg_kept_sweep(hark_store *s)
{
    int64_t start = hk_mono_ns();
    hark_errinfo ei;
    long n = 0;
    if (HK_LIKELY(start < s->next_sweep) || s->in_group || s->w.in_tx || !hk_pg_connected(&s->w))
        return;
    hark_err err = sweep(s, &n, &ei);
    int64_t now = hk_mono_ns();
    s->next_sweep = now + (n < SLICE ? PAUSE : (now - start) * SHARE);
    if (err)
        hk_log(HK_WARN, "%s", ei.text);
}
