/* The store's front: opening, closing, facts, housekeeping, and the table of calls. */
#include "store/postgres/postgres.h"
#include "store/postgres/store_i.h"

#include <stdlib.h>
#include <string.h>

#define IDLE_NS (INT64_C(15) * 1000000000) /* until the writer's connection is looked after */

static const hk_pg_sql ping = {"ping", "SELECT 1"};

static void free_store(hark_store *s)
{
    hk_pg_tail_free(s);
    hk_pg_readers_close(s);
    hk_pg_statements_free(s->program);
    hk_pg_unregister(s);
    hk_pg_party_free(s);
    hk_pg_disconnect(&s->w);
    hk_pg_batch_free(&s->batch);
    free(s->units.list);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->reader_free);
    free(s->info);
    free(s->where);
    free(s->schema);
    free(s);
}

static hark_err connect(hark_store *s, bool existing, hark_errinfo *ei)
{
    s->w = (hk_pg){.info = s->info, .where = s->where, .schema = s->schema, .opening = true};
    hk_random(&s->jitter, sizeof s->jitter);
    hark_err err = hk_pg_connect(&s->w, ei);
    if (!err)
        err = hk_pg_schema(s, existing, ei);
    if (!err)
        err = hk_pg_register(s, &s->w, ei);
    return err ? err : hk_pg_writer(s, ei);
}

static hark_err open_store(const char *rest, const hark_store_opts *opts,
                           const hark_store_host *host, hark_store **ret, hark_errinfo *ei)
{
    (void)host;
    if (!PQisthreadsafe())
        return hk_fail(ei, HARK_ENOTSUP, "libpq was built without threads; use another build");
    hark_store *s = calloc(1, sizeof *s);
    if (!s)
        return hk_fail(ei, HARK_ENOMEM, "no memory to open a store");
    pthread_mutex_init(&s->lock, NULL);
    hk_cond_init(&s->reader_free);
    hk_pg_party_init(s, opts ? opts->lease_ms : 0);
    hark_err err = hk_pg_url(rest, &s->info, &s->where, &s->schema, ei);
    if (!err)
        err = hk_pg_tail_init(s, ei);
    if (!err)
        err = connect(s, opts && opts->existing, ei);
    if (err)
        free_store(s);
    else
        *ret = s;
    return err;
}

static void close_store(hark_store *s)
{
    if (!s)
        return;
    hk_pg_rollback(s);
    free_store(s);
}

static void info(hark_store *s, hark_store_info *ret)
{
    *ret = (hark_store_info){.size = sizeof *ret,
                             .epoch = hk_mark_get(&s->epoch),
                             .format = HK_PG_FORMAT,
                             .shared = 1,
                             .tx_alone = 1,
                             .durability = (int64_t)hk_mark_get(&s->durability)};
    memcpy(ret->log_id, s->log_id, sizeof ret->log_id);
    pthread_mutex_lock(&s->lock);
    ret->first_sequence = s->shown_first;
    ret->last_sequence = s->shown_last;
    pthread_mutex_unlock(&s->lock);
}

/* Also notices a connection that is gone before a publish has to. */
static bool maintain(hark_store *s, int64_t budget_ns)
{
    int64_t now = hk_mono_ns();
    (void)budget_ns;
    if (s->broken || s->in_group)
        return false;
    if (!s->w.writer) {
        if (now >= s->retry_at)
            (void)hk_pg_writer(s, NULL);
        return false;
    }
    hk_pg_kept_sweep(s);
    if (now - s->used_at < IDLE_NS)
        return false;
    s->used_at = now;
    (void)hk_pg_run(&s->w, &ping, NULL, NULL, "looking after the connection", NULL);
    return false;
}

const hark_store_ops hk_store_postgres = {.size = sizeof(hark_store_ops),
                                          .scheme = "postgresql",
                                          .open = open_store,
                                          .close = close_store,
                                          .info = info,
                                          .begin = hk_pg_begin,
                                          .commit = hk_pg_commit,
                                          .rollback = hk_pg_rollback,
                                          .append = hk_pg_append,
                                          .read = hk_pg_read,
                                          .consumer_open = hk_pg_consumer_open,
                                          .consumer_save = hk_pg_consumer_save,
                                          .maintain = maintain,
                                          .consumer_reset = hk_pg_consumer_reset,
                                          .consumer_pause = hk_pg_consumer_pause,
                                          .consumers = hk_pg_consumers,
                                          .letters = hk_pg_letters,
                                          .attempts = hk_pg_attempts,
                                          .letter_redrive = hk_pg_letter_redrive,
                                          .letter_discard = hk_pg_letter_discard,
                                          .schedule_add = hk_pg_schedule_add,
                                          .schedule_drop = hk_pg_schedule_drop,
                                          .schedules = hk_pg_schedules,
                                          .replay_put = hk_pg_replay_put,
                                          .replays = hk_pg_replays,
                                          .count = hk_pg_count,
                                          .trim = hk_pg_trim,
                                          .versions = hk_pg_versions,
                                          .ack = hk_pg_ack,
                                          .tx_begin = hk_pg_tx_begin,
                                          .tx_end = hk_pg_tx_end,
                                          .tx_run = hk_pg_tx_run,
                                          .tx_native = hk_pg_tx_native,
                                          .keep = hk_pg_keep,
                                          .kept = hk_pg_kept,
                                          .query = hk_pg_query_beside,
                                          .beat = hk_pg_beat,
                                          .shares = hk_pg_shares,
                                          .tail = hk_pg_tail,
                                          .tail_wake = hk_pg_tail_wake,
                                          .schedules_due = hk_pg_schedules_due};
