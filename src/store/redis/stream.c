/* stream.c: redis://[user:password@]host[:port][/database][?log=NAME&shares=N]: the store's life. */
#include "store/redis/stream_i.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* ---- the URL ----------------------------------------------------------------------------------- */

static hark_err bad_url(const hark_store *s, const char *why, hark_errinfo *ei)
{
    return hk_fail(ei, HARK_EINVAL,
                   "store URL " HK_RS_SCHEME "://%s/…: %s; it is written " HK_RS_SCHEME
                   "://[user:password@]host[:port][/database][?log=NAME]",
                   s->url.place, why);
}

static hark_err take_db(hark_store *s, hark_errinfo *ei)
{
    uint64_t n;
    const char *db = s->url.path;
    if (!db)
        return HARK_OK;
    if (strlen(db) > 9 || !hk_parse_u64(db, strlen(db), &n))
        return bad_url(s, "the database is not a number", ei);
    (void)snprintf(s->db, sizeof s->db, "%s", db);
    return HARK_OK;
}

static hark_err take_parameter(hark_store *s, const char *p, size_t len, hark_errinfo *ei)
{
    char name[HK_RS_NAME];
    uint64_t n;
    if (len > 4 && strncmp(p, "log=", 4) == 0 && len - 4 < HK_RS_NAME) {
        (void)snprintf(name, sizeof name, "%.*s", (int)(len - 4), p + 4);
        if (!hk_name_valid(name, HK_RS_NAME - 1))
            return bad_url(s, "a log's name has letters, digits, '_', '.', ':' and '-'", ei);
        (void)snprintf(s->log, sizeof s->log, "%s", name);
        return HARK_OK;
    }
    if (len > 7 && strncmp(p, "shares=", 7) == 0) {
        if (!hk_parse_u64(p + 7, len - 7, &n) || n < 1 || n > HARK_SHARES_MAX)
            return bad_url(s, "shares is not a number from 1 to 256", ei);
        s->shares = (uint32_t)n;
        return HARK_OK;
    }
    return bad_url(s, "what follows the '?' is not log=NAME (up to 63 bytes) or shares=N", ei);
}

static hark_err take_query(hark_store *s, hark_errinfo *ei)
{
    hark_err err = HARK_OK;
    for (const char *p = s->url.query; p && *p && !err;) {
        size_t len = strcspn(p, "&");
        err = take_parameter(s, p, len, ei);
        p += len + (p[len] == '&');
    }
    return err;
}

static hark_err take_url(hark_store *s, const char *rest, hark_errinfo *ei)
{
    hark_err err = hk_redis_url_take(HK_RS_SCHEME, rest, &s->url, ei);
    if (!err)
        err = take_db(s, ei);
    if (!err)
        err = take_query(s, ei);
    if (err)
        return err;
    (void)snprintf(s->key, sizeof s->key, "{hark:%s}:log", s->log);
    (void)snprintf(s->where, sizeof s->where, "redis at %s (log %s)", s->url.place, s->log);
    return HARK_OK;
}

/* ---- open, close ------------------------------------------------------------------------------- */

static void name_process(hark_store *s)
{
    uint64_t r[2];
    hk_random(r, sizeof r);
    (void)snprintf(s->process, sizeof s->process, "%016llx%016llx", (unsigned long long)r[0],
                   (unsigned long long)r[1]);
}

static void rs_close(hark_store *s)
{
    if (s->write.ready || s->party.ready)
        hk_rs_leave(s);
    hk_link_close(&s->write);
    hk_link_close(&s->party);
    hk_link_close(&s->tail);
    hk_rs_readers_close(s);
    hk_rs_known_free(s);
    hk_rs_group_free(s);
    if (s->wake >= 0)
        close(s->wake);
    pthread_mutex_destroy(&s->lock);
    hk_redis_url_clear(&s->url);
    free(s);
}

static hark_store *store_new(const hark_store_opts *opts)
{
    uint8_t id[16];
    hark_store *s = hk_zalloc_lines(sizeof *s);
    if (!s)
        return NULL;
    pthread_mutex_init(&s->lock, NULL);
    s->shares = HK_RS_SHARES;
    s->lease_ms = opts->lease_ms > 0 ? opts->lease_ms : HK_RS_LEASE_MS;
    s->existing = opts->existing != 0;
    s->wake = -1;
    (void)snprintf(s->log, sizeof s->log, "hark");
    name_process(s);
    hk_random(id, sizeof id);
    for (size_t i = 0; i < 16; i++) /* of the log that may be made */
        (void)snprintf(s->log_hex + 2 * i, 3, "%02x", id[i]);
    hk_link_init(&s->write, "write");
    hk_link_init(&s->party, "party");
    hk_link_init(&s->tail, "tail");
    return s;
}

static hark_err start(hark_store *s, const char *rest, hark_errinfo *ei)
{
    hark_err err = take_url(s, rest, ei);
    if (err)
        return err;
    s->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->wake < 0)
        return hk_fail(ei, HARK_ESYS, "no descriptor for %s: %s", s->where, strerror(errno));
    s->tail.conn.wake = s->wake;
    return hk_link_ready(s, &s->write, ei);
}

static hark_err rs_open(const char *rest, const hark_store_opts *opts, const hark_store_host *host,
                        hark_store **ret, hark_errinfo *ei)
{
    (void)host;
    hark_store *s = store_new(opts);
    if (!s)
        return hk_fail(ei, HARK_ENOMEM, "no memory for the store");
    hark_err err = start(s, rest, ei);
    if (err)
        rs_close(s);
    else
        *ret = s;
    return err;
}

/* ---- info -------------------------------------------------------------------------------------- */

void hk_rs_reached(hark_store *s, uint64_t last)
{
    uint64_t before = hk_mark_get(&s->last);
    while (last > before && !hk_mark_move(&s->last, before, last))
        before = hk_mark_get(&s->last);
}

/* Answers may be looked at in another order than they were given, by several threads. */
void hk_rs_begins(hark_store *s, uint64_t first, uint64_t last)
{
    uint64_t gone = first ? first - 1 : last, before = hk_mark_get(&s->gone);
    while (gone > before && !hk_mark_move(&s->gone, before, gone))
        before = hk_mark_get(&s->gone);
}

static void rs_info(hark_store *s, hark_store_info *ret)
{
    uint64_t gone = hk_mark_get(&s->gone), last = hk_mark_get(&s->last);
    *ret = (hark_store_info){.size = sizeof *ret,
                             .epoch = hk_mark_get(&s->epoch),
                             .format = HK_RS_FORMAT,
                             .first_sequence = last > gone ? gone + 1 : 0,
                             .last_sequence = last,
                             .durability = (int64_t)hk_mark_get(&s->durability),
                             .shared = 1};
    memcpy(ret->log_id, s->log_id, sizeof ret->log_id);
}

const hark_store_ops hk_store_redis = {
    .size = sizeof(hark_store_ops),
    .scheme = HK_RS_SCHEME,
    .open = rs_open,
    .close = rs_close,
    .info = rs_info,
    .begin = hk_rs_begin,
    .commit = hk_rs_commit,
    .rollback = hk_rs_rollback,
    .append = hk_rs_append,
    .read = hk_rs_read,
    .consumer_open = hk_rs_consumer_open,
    .consumer_save = hk_rs_consumer_save,
    .consumer_reset = hk_rs_consumer_reset,
    .consumer_pause = hk_rs_consumer_pause,
    .consumers = hk_rs_consumers,
    .letters = hk_rs_letters,
    .attempts = hk_rs_attempts,
    .letter_redrive = hk_rs_letter_redrive,
    .letter_discard = hk_rs_letter_discard,
    .schedule_add = hk_rs_schedule_add,
    .schedule_drop = hk_rs_schedule_drop,
    .schedules = hk_rs_schedules,
    .replay_put = hk_rs_replay_put,
    .replays = hk_rs_replays,
    .count = hk_rs_count,
    .trim = hk_rs_trim,
    .versions = hk_rs_versions,
    .beat = hk_rs_beat,
    .shares = hk_rs_shares,
    .tail = hk_rs_tail,
    .tail_wake = hk_rs_tail_wake,
    .schedules_due = hk_rs_schedules_due,
};
