/* Counts what a process that died had in hand: the delivery whose thread faulted had a crash, the
 * others an interruption. Whatever is settled, or belongs to a consumer that was reset, or whose
 * state is damaged, is not counted. All of it is one transaction, and the run whose slots they were is noted in it, so that
 * dying between the commit and the removal of the file counts nothing twice. */
#include "store/sqlite/slots_i.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* By consumer, generation and sequence; crashes first, later attempts first. */
static int order(const void *va, const void *vb)
{
    const hark_store_slot *a = va, *b = vb;
    if (a->consumer != b->consumer)
        return a->consumer < b->consumer ? -1 : 1;
    if (a->generation != b->generation)
        return a->generation < b->generation ? -1 : 1;
    if (a->sequence != b->sequence)
        return a->sequence < b->sequence ? -1 : 1;
    if (a->state != b->state)
        return a->state == HARK_SLOT_CRASHED ? -1 : 1;
    return (a->attempt < b->attempt) - (a->attempt > b->attempt);
}

/* A handler that timed out and its repeat are one delivery. */
static bool same_delivery(const hark_store_slot *a, const hark_store_slot *b)
{
    return a->consumer == b->consumer && a->generation == b->generation &&
           a->sequence == b->sequence;
}

/* NULL for an interruption. */
static const char *error_text(const hark_store_slot *slot, char ret[64])
{
    const char *name = hk_signal_name((int)slot->signal);
    if (slot->state != HARK_SLOT_CRASHED)
        return NULL;
    if (strcmp(name, "signal") == 0)
        (void)snprintf(ret, 64, "signal %u", (unsigned)slot->signal);
    else if (slot->signal == SIGABRT || slot->signal == SIGSYS)
        (void)snprintf(ret, 64, "%s", name);
    else
        (void)snprintf(ret, 64, "%s at 0x%llx", name, (unsigned long long)slot->address);
    return ret;
}

/* What the ledger says of a slot's consumer and event. */
typedef enum found {
    GONE,    /* no such consumer, or it was reset since */
    DAMAGED, /* nobody can tell what is settled */
    SETTLED, /* unless there is a row */
    WAITS
} found;

/* Such a consumer cannot be opened before its state is restored from a backup, so nothing of it is
 * delivered or settled meanwhile. Not counting its slots errs to the safe side: at worst it crashes
 * once more before its event is given up, while a count for an event that was settled long ago could
 * give up an innocent. The others' slots are counted, and the log opens. */
static void warn_damaged(const hark_store *s, sqlite3_stmt *st)
{
    const char *name = (const char *)sqlite3_column_text(st, 2);
    hk_log(HK_WARN,
           "%s: the state of consumer %s is damaged, and what it had in hand when the last process "
           "died is not counted: restore the file from a backup",
           s->path, name ? name : "?");
}

static hark_err decode_settled(hark_store *s, sqlite3_stmt *st, uint64_t floor,
                               hark_store_range **ret, size_t *ret_n, hark_errinfo *ei)
{
    const uint8_t *bytes = sqlite3_column_blob(st, 1);
    size_t len = (size_t)sqlite3_column_bytes(st, 1);
    hark_err err = len ? hk_ranges_decode(floor, bytes, len, ret, ret_n) : HARK_OK;
    if (err == HARK_ENOMEM)
        return hk_fail(ei, err, "no memory for the state of a consumer of %s", s->path);
    return err;
}

static hark_err judge(hark_store *s, const hark_store_slot *slot, sqlite3_stmt *st, found *ret,
                      hark_errinfo *ei)
{
    hark_store_range *settled = NULL;
    size_t n = 0;
    uint64_t floor = (uint64_t)sqlite3_column_int64(st, 0);
    hark_err err = decode_settled(s, st, floor, &settled, &n, ei);
    bool waits = slot->sequence > floor && slot->sequence <= s->now.last &&
                 !hk_ranges_have(settled, n, slot->sequence);
    *ret = err == HARK_ECORRUPT ? DAMAGED : waits ? WAITS : SETTLED;
    free(settled);
    return *ret == DAMAGED ? HARK_OK : err;
}

static hark_err find_consumer(hark_store *s, const hark_store_slot *slot, found *ret,
                              hark_errinfo *ei)
{
    sqlite3_stmt *st;
    bool row = false;
    hark_err err = hk_conn_get(&s->conn, HK_SQL_SLOT_CONSUMER, &st, ei);
    if (err)
        return err;
    sqlite3_bind_int64(st, 1, (int64_t)slot->consumer);
    sqlite3_bind_int64(st, 2, (int64_t)slot->generation);
    err = hk_conn_step(&s->conn, st, &row, "looking up a consumer", ei);
    *ret = GONE;
    if (!err && row)
        err = judge(s, slot, st, ret, ei);
    if (!err && *ret == DAMAGED)
        warn_damaged(s, st);
    sqlite3_reset(st);
    return err;
}

/* The failed attempts on record; -1: there is no row. A row may say that it is settled. */
static hark_err find_row(hark_store *s, const hark_store_slot *slot, int64_t *ret, bool *ret_acked,
                         hark_errinfo *ei)
{
    sqlite3_stmt *st;
    bool row = false;
    hark_err err = hk_conn_get(&s->conn, HK_SQL_SLOT_ROW, &st, ei);
    if (err)
        return err;
    sqlite3_bind_int64(st, 1, (int64_t)slot->consumer);
    sqlite3_bind_int64(st, 2, (int64_t)slot->sequence);
    err = hk_conn_step(&s->conn, st, &row, "looking up a delivery", ei);
    *ret = !err && row ? sqlite3_column_int64(st, 0) : -1;
    *ret_acked = !err && row && sqlite3_column_int64(st, 1) == HK_ROW_SETTLED;
    sqlite3_reset(st);
    return err;
}

static hark_err count_in_row(hark_store *s, const hark_store_slot *slot, const char *error,
                             hark_errinfo *ei)
{
    sqlite3_stmt *st;
    hark_err err = hk_conn_get(&s->conn, HK_SQL_SLOT_COUNT, &st, ei);
    if (err)
        return err;
    sqlite3_bind_int64(st, 1, (int64_t)slot->consumer);
    sqlite3_bind_int64(st, 2, (int64_t)slot->sequence);
    sqlite3_bind_int64(st, 3, slot->state == HARK_SLOT_CRASHED);
    sqlite3_bind_int64(st, 4, slot->state != HARK_SLOT_CRASHED);
    hk_bind_str(st, 5, error);
    sqlite3_bind_int64(st, 6, slot->started_ns);
    return hk_conn_run(&s->conn, st, "counting what the last process had in hand", ei);
}

static hark_err add_row(hark_store *s, const hark_store_slot *slot, const char *error,
                        hark_errinfo *ei)
{
    const hark_store_row r = {.sequence = slot->sequence,
                              .state = HARK_ROW_COUNTS,
                              .attempts = slot->attempt > 0 ? slot->attempt - 1 : 0,
                              .crashes = slot->state == HARK_SLOT_CRASHED,
                              .interruptions = slot->state != HARK_SLOT_CRASHED,
                              .first_ns = slot->started_ns,
                              .error = error};
    return hk_delivery_put(s, slot->consumer, &r, ei);
}

static hark_err add_attempt(hark_store *s, const hark_store_slot *slot, const char *error,
                            hark_errinfo *ei)
{
    const hark_store_attempt a = {.sequence = slot->sequence,
                                  .number = slot->attempt,
                                  .started_ns = slot->started_ns,
                                  .ended_ns = hk_wall_ns(),
                                  .outcome = error ? "crash" : "interrupted",
                                  .error = error};
    return hk_attempt_add(s, slot->consumer, slot->generation, &a, ei);
}

/* An attempt that failed before the process died (its time was up) is on record already; only a crash
 * of its thread is news. */
static hark_err merge_one(hark_store *s, const hark_store_slot *slot, found *ret, hark_errinfo *ei)
{
    char text[64];
    const char *error = error_text(slot, text);
    int64_t attempts = -1;
    bool acked = false;
    hark_err err = find_consumer(s, slot, ret, ei);
    if (err || *ret == GONE || *ret == DAMAGED)
        return err;
    err = find_row(s, slot, &attempts, &acked, ei);
    if (err || acked || (attempts < 0 && *ret == SETTLED) || (attempts >= slot->attempt && !error))
        return err;
    err = attempts < 0 ? add_row(s, slot, error, ei) : count_in_row(s, slot, error, ei);
    return err ? err : add_attempt(s, slot, error, ei);
}

static hark_err merge_all(hark_store *s, const hk_slots_left *left, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    uint64_t damaged = 0; /* a consumer */
    hark_err err = HARK_OK;
    for (size_t i = 0; i < left->n && !err; i++) {
        const hark_store_slot *slot = &left->slots[i];
        found f = GONE;
        if (slot->consumer == damaged || (i > 0 && same_delivery(slot - 1, slot)))
            continue;
        err = merge_one(s, slot, &f, ei);
        if (f == DAMAGED)
            damaged = slot->consumer;
    }
    if (!err)
        err = hk_conn_get(&s->conn, HK_SQL_META_PUT, &st, ei);
    if (err)
        return err;
    hk_bind_str(st, 1, "merged_run");
    sqlite3_bind_blob(st, 2, left->run, sizeof left->run, SQLITE_STATIC);
    err = hk_conn_run(&s->conn, st, "noting whose slots were counted", ei);
    sqlite3_clear_bindings(st);
    return err;
}

static hark_err merged_before(hark_store *s, const hk_slots_left *left, bool *ret, hark_errinfo *ei)
{
    sqlite3_stmt *st = NULL;
    bool row = false;
    if (sqlite3_prepare_v2(s->conn.db, "SELECT value FROM hark_meta WHERE key = 'merged_run'", -1,
                           &st, NULL) != SQLITE_OK)
        return hk_conn_fail(&s->conn, "reading whose slots were counted", ei);
    hark_err err = hk_conn_step(&s->conn, st, &row, "reading whose slots were counted", ei);
    *ret = !err && row && sqlite3_column_bytes(st, 0) == sizeof left->run &&
           memcmp(sqlite3_column_blob(st, 0), left->run, sizeof left->run) == 0;
    sqlite3_finalize(st);
    return err;
}

hark_err hk_slots_merge(hark_store *s, hk_slots_left *left, hark_errinfo *ei)
{
    bool before = false;
    hark_err err = merged_before(s, left, &before, ei);
    if (err || before)
        return err;
    qsort(left->slots, left->n, sizeof *left->slots, order);
    err = hk_group_begin(s, ei);
    if (!err)
        err = merge_all(s, left, ei);
    if (!err)
        return hk_group_commit(s, ei);
    hk_group_rollback(s);
    return err;
}
