/* A program to be killed while its consumer's handlers write rows and events with their acks; some fail
 * and retry, some die and are redriven, some crash inside the closure (transact_work.h).
 *
 *   kill_transact_victim URL FIRST COUNT    publishes COUNT items from number FIRST on, consumes and
 *                                           redrives for ever
 *   kill_transact_victim URL --settle SEQ   redrives everything, and ends when all up to SEQ is settled
 *   kill_transact_victim URL --poison SEQ   some items crash always; redrives nothing, and ends likewise
 */
#include "kit.h"
#include "transact_work.h"

#include <errno.h>
#include <fcntl.h>
#include <hark/hark.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static hark_bus *bus;
static hark_sub *sub;
static bool poisoned;
static volatile uintptr_t nowhere;

static void must(hark_err err, const char *what, const hark_errinfo *ei)
{
    if (err)
        kit_fail("%s: %s: %s", what, hark_err_name(err), ei->text);
}

/* ---- effects --------------------------------------------------------------------------------- */

typedef struct effect {
    uint64_t seq, n;
    transact_fate fate;
    int64_t attempt;
} effect;

__attribute__((no_sanitize("undefined"))) static void crash(void)
{
    *(volatile char *)nowhere = 1;
}

/* True for the first who asks, in all lives. */
static bool first_time(uint64_t n)
{
    char name[32];
    (void)snprintf(name, sizeof name, "crash-%llu", (unsigned long long)n);
    int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd >= 0)
        close(fd);
    KIT_CHECK(fd >= 0 || errno == EEXIST, "%s: %s", name, strerror(errno));
    return fd >= 0;
}

static hark_err tell(hark_tx *tx, const effect *e)
{
    char json[24];
    (void)snprintf(json, sizeof json, "%llu", (unsigned long long)e->seq);
    const hark_event_spec *done = HARK_OPTS(hark_event_spec, .type = TRANSACT_DONE, .json = json);
    if (e->fate == TRANSACT_LATER)
        return hark_tx_schedule(tx, done, hark_after((int64_t)(e->n % 21)), NULL);
    return hark_tx_publish(tx, done, NULL);
}

static hark_err write_effect(hark_tx *tx, void *ud)
{
    const effect *e = ud;
    hark_err err = hark_tx_exec(tx, "INSERT INTO effects(seq, n, key) VALUES(?, ?, ?)",
                                HARK_ARGS(hark_int((int64_t)e->seq), hark_int((int64_t)e->n),
                                          hark_int((int64_t)(e->n % TRANSACT_KEYS))));
    if (!err)
        err = tell(tx, e);
    if (e->fate == TRANSACT_POISON || e->fate == TRANSACT_POISON_BESIDE ||
        (e->fate == TRANSACT_CRASHES_ONCE && first_time(e->n)))
        crash();
    if (!err && e->fate == TRANSACT_FAILS && e->attempt == 1)
        err = hark_tx_fail(tx, HARK_ECONFLICT, "not at the first attempt");
    return err;
}

static bool seen(const hark_row *row, void *ud)
{
    (void)row;
    *(bool *)ud = true;
    return false;
}

static hark_err fall_ill(hark_tx *tx, void *ud)
{
    const effect *e = ud;
    return hark_tx_exec(tx, "INSERT INTO sick(n) VALUES(?)", HARK_ARGS(hark_int((int64_t)e->n)));
}

/* The first delivery that remembers so is rejected. */
static bool dies(effect *e)
{
    bool was = false;
    hark_errinfo ei;
    must(hark_query(bus, "SELECT 1 FROM sick WHERE n = ?", HARK_ARGS(hark_int((int64_t)e->n)), seen,
                    &was, &ei),
         "hark_query", &ei);
    if (!was)
        must(hark_transact(bus, fall_ill, e, HARK_OPTS(hark_tx_opts, .deadline_ms = 10000), NULL,
                           &ei),
             "hark_transact", &ei);
    return !was;
}

static hark_err note(hark_delivery *d, uint64_t seq)
{
    char json[24];
    (void)snprintf(json, sizeof json, "%llu", (unsigned long long)seq);
    return hark_delivery_publish(d, HARK_OPTS(hark_event_spec, .type = TRANSACT_NOTE, .json = json),
                                 NULL);
}

static hark_verdict written(hark_delivery *d, hark_err err, const hark_errinfo *ei, void *ud)
{
    (void)d, (void)ei;
    bool lies = ((effect *)ud)->fate == TRANSACT_LIES;
    free(ud);
    return err || lies ? HARK_RETRY : HARK_ACK;
}

/* Half of them do not wait for their transactions. */
static hark_verdict handle_later(hark_delivery *d, const effect *e)
{
    effect *copy = malloc(sizeof *copy);
    if (!copy)
        return HARK_RETRY;
    *copy = *e;
    if (hark_delivery_transact_async(&d, write_effect, written, copy,
                                     HARK_OPTS(hark_tx_opts, .deadline_ms = 10000),
                                     NULL) == HARK_OK)
        return HARK_LATER;
    free(copy);
    return HARK_RETRY;
}

static hark_verdict handle(hark_delivery *d, void *ud)
{
    size_t len;
    effect e = {.seq = hark_delivery_sequence(d), .attempt = hark_delivery_attempt(d)};
    e.n = strtoull(hark_event_data(hark_delivery_event(d), &len), NULL, 10);
    e.fate = transact_fate_of(e.n, poisoned);
    (void)ud;
    if (e.fate == TRANSACT_DIES && dies(&e))
        return HARK_REJECT;
    if (e.fate == TRANSACT_NOTES && note(d, e.seq))
        return HARK_RETRY;
    if (e.fate == TRANSACT_POISON_BESIDE)
        return hark_transact(bus, write_effect, &e, HARK_OPTS(hark_tx_opts, .deadline_ms = 10000),
                             NULL, NULL)
                   ? HARK_RETRY
                   : HARK_ACK;
    if (e.seq % 2)
        return handle_later(d, &e);
    if (hark_delivery_transact(d, write_effect, &e, HARK_OPTS(hark_tx_opts, .deadline_ms = 10000),
                               NULL))
        return HARK_RETRY;
    return e.fate == TRANSACT_LIES ? HARK_RETRY : HARK_ACK;
}

/* ---- a life ---------------------------------------------------------------------------------- */

static hark_err make_tables(hark_tx *tx, void *ud)
{
    static const char *const tables[] = {
        "CREATE TABLE IF NOT EXISTS effects(seq INTEGER, n INTEGER, key INTEGER)",
        "CREATE INDEX IF NOT EXISTS effects_by_seq ON effects(seq)", /* not a unique one */
        "CREATE TABLE IF NOT EXISTS sick(n INTEGER PRIMARY KEY)"};
    hark_err err = HARK_OK;
    (void)ud;
    for (size_t i = 0; i < sizeof tables / sizeof *tables && !err; i++)
        err = hark_tx_exec(tx, tables[i], HARK_NO_ARGS);
    return err;
}

static void begin(const char *url)
{
    hark_errinfo ei;
    must(hark_crash_guard(&ei), "hark_crash_guard", &ei);
    must(hark_open(url, NULL, &bus, &ei), "hark_open", &ei);
    must(hark_transact(bus, make_tables, NULL, HARK_OPTS(hark_tx_opts, .deadline_ms = 10000), NULL,
                       &ei),
         "the tables", &ei);
    must(hark_subscribe(bus, TRANSACT_ITEM, handle, NULL,
                        HARK_OPTS(hark_sub_opts, .consumer = TRANSACT_CONSUMER,
                                  .workers = TRANSACT_WORKERS, .in_flight = 4 * TRANSACT_WORKERS,
                                  .start = HARK_START_FIRST, .retry_delay_ms = 10,
                                  .max_crashes = TRANSACT_CRASHES, .max_interruptions = 100000),
                        &sub, &ei),
         "hark_subscribe", &ei);
}

static void publish(uint64_t n)
{
    char id[32], key[16], json[24];
    (void)snprintf(id, sizeof id, "i-%llu", (unsigned long long)n);
    (void)snprintf(key, sizeof key, "k%u", (unsigned)(n % TRANSACT_KEYS));
    (void)snprintf(json, sizeof json, "%llu", (unsigned long long)n);
    hark_err err = hark_publish_async(
        bus, HARK_OPTS(hark_event_spec, .type = TRANSACT_ITEM, .id = id, .key = key, .json = json),
        NULL, NULL);
    KIT_CHECK(!err, "hark_publish_async: %s", hark_err_name(err));
}

static void await_change(void)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static pthread_cond_t never = PTHREAD_COND_INITIALIZER;
    pthread_mutex_lock(&lock);
    kit_await_locked(&never, &lock);
    pthread_mutex_unlock(&lock);
}

static void redrive(void)
{
    hark_errinfo ei;
    must(hark_redrive_all(bus, NULL, 0, NULL, &ei), "hark_redrive_all", &ei);
}

static bool count_letter(const hark_dead_letter *l, void *ud)
{
    (void)l;
    ++*(size_t *)ud;
    return true;
}

static bool take_info(const hark_consumer_info *info, void *ud)
{
    *(hark_consumer_info *)ud = *info;
    return true;
}

static bool count_schedule(const hark_schedule_info *info, void *ud)
{
    (void)info;
    ++*(size_t *)ud;
    return true;
}

static bool all_settled(uint64_t last)
{
    hark_sub_stats st = {.size = sizeof st};
    hark_consumer_info info = {.size = 0};
    hark_errinfo ei;
    size_t letters = 0, schedules = 0;
    must(hark_sub_stats_get(sub, &st), "hark_sub_stats_get", &ei);
    must(hark_consumers(bus, take_info, &info, &ei), "hark_consumers", &ei);
    must(hark_dead_letters(bus, HARK_OPTS(hark_dead_filter, .redriven = 1), count_letter, &letters,
                           &ei),
         "hark_dead_letters", &ei);
    /* looked at last: what is settled schedules nothing more */
    bool settled = st.position >= last && !st.pending && !info.retrying && !info.behind &&
                   (poisoned || !letters);
    must(hark_schedules(bus, count_schedule, &schedules, &ei), "hark_schedules", &ei);
    return settled && !schedules;
}

static void settle(uint64_t last)
{
    hark_errinfo ei;
    while (!all_settled(last)) {
        if (!poisoned)
            redrive();
        await_change();
    }
    must(hark_drain(bus, KIT_HUNG_MS, &ei), "hark_drain", &ei);
    hark_sub_unref(sub);
    hark_bus_unref(bus);
}

int main(int argc, char **argv)
{
    KIT_CHECK(argc == 4, "usage: kill_transact_victim URL FIRST COUNT");
    poisoned = strcmp(argv[2], "--poison") == 0;
    bool settles = poisoned || strcmp(argv[2], "--settle") == 0;
    uint64_t first = strtoull(argv[2], NULL, 10), count = strtoull(argv[3], NULL, 10);
    begin(argv[1]);
    if (settles) {
        settle(count);
        return 0;
    }
    for (uint64_t n = first; n < first + count; n++)
        publish(n);
    for (;;) {
        redrive();
        await_change();
    }
}
