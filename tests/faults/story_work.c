/* The events of a story, what its handlers answer, and what follows from their answers. */
#include "story_i.h"

#include "kit.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const story_consumers[2] = {"goes-on", "parks"};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void story_lock(void)
{
    pthread_mutex_lock(&lock);
}

void story_unlock(void)
{
    pthread_mutex_unlock(&lock);
}

/* ---- events ---- */

bool story_is_big(size_t n)
{
    return n >= 23 && n < 37;
}

size_t story_data(size_t n, bool big, char *buf)
{
    size_t len = n % 10 == 9 ? 6000 : 20 + n * 37 % 500;
    if (big && story_is_big(n))
        len = 300000 + n;
    for (size_t i = 0; i < len; i++)
        buf[i] = (char)('a' + (n + i / 7) % 26);
    return len;
}

hark_event_spec story_spec(size_t n, bool big, char id[16], char key[8], char *buf)
{
    (void)snprintf(id, 16, "e-%zu", n);
    (void)snprintf(key, 8, "k%zu", n % STORY_KEYS);
    return (hark_event_spec){.size = sizeof(hark_event_spec),
                             .type = story_is_big(n) ? STORY_BIG : STORY_SMALL,
                             .id = id,
                             .source = "/story",
                             .key = key,
                             .data = buf,
                             .data_len = story_data(n, big, buf)};
}

size_t story_number(const hark_event *e)
{
    const char *id = e ? hark_event_id(e) : "";
    size_t n = strncmp(id, "e-", 2) == 0 ? strtoul(id + 2, NULL, 10) : STORY_NEVER;
    return n < STORY_EVENTS ? n : STORY_NEVER;
}

/* ---- transactions ---- */

bool story_by_tx(size_t n)
{
    return n >= 66 && n < 74;
}

bool story_acked_by_tx(int consumer, size_t n)
{
    return consumer == 0 && (n % 11 == 1 || n % 11 == 4);
}

hark_err story_row(hark_tx *tx, const char *table, size_t n)
{
    char sql[64];
    (void)snprintf(sql, sizeof sql, "CREATE TABLE IF NOT EXISTS %s(n)", table);
    hark_err err = hark_tx_exec(tx, sql, HARK_NO_ARGS);
    (void)snprintf(sql, sizeof sql, "INSERT INTO %s VALUES(?)", table);
    return err ? err : hark_tx_exec(tx, sql, HARK_ARGS(hark_int((int64_t)n)));
}

static hark_err effect(hark_tx *tx, void *ud)
{
    return story_row(tx, STORY_EFFECTS, *(const size_t *)ud);
}

/* ---- answers ---- */

static bool mended(const story *s, int consumer, size_t n)
{
    for (size_t i = 0; i < s->n_mends; i++)
        if (s->mends[i].consumer == consumer && s->mends[i].n == n)
            return true;
    return s->mended;
}

hark_verdict story_fate(const story *s, size_t n, int64_t attempt)
{
    (void)s;
    switch (n % 11) {
    case 3:
        return HARK_REJECT;
    case 5:
        return HARK_RETRY;
    case 7:
        return attempt == 1 ? HARK_RETRY : HARK_ACK;
    default:
        return HARK_ACK;
    }
}

hark_verdict story_end(const story *s, int consumer, size_t n, size_t at)
{
    hark_verdict end = HARK_RETRY;
    for (size_t i = 0; i < s->n_answers; i++) {
        const story_answer *a = &s->answers[i];
        if (a->consumer != consumer || a->n != n || a->at > at)
            continue;
        if (a->verdict == HARK_RETRY && a->attempt >= STORY_ATTEMPTS)
            end = HARK_REJECT;
        else if (a->verdict != HARK_RETRY)
            end = a->verdict;
    }
    return end;
}

static hark_verdict handle(hark_delivery *d, void *ud)
{
    const story_taker *t = ud;
    story *s = t->s;
    size_t n = story_number(hark_delivery_event(d));
    int64_t attempt = hark_delivery_attempt(d);
    if (n == STORY_NEVER)
        return HARK_ACK;
    story_lock();
    hark_verdict v = mended(s, t->consumer, n) ? HARK_ACK : story_fate(s, n, attempt);
    KIT_CHECK(s->n_answers < STORY_ANSWERS, "event %zu comes without end", n);
    s->answers[s->n_answers++] = (story_answer){
        .consumer = t->consumer, .n = n, .verdict = v, .attempt = attempt, .at = s->now()};
    story_unlock();
    if (v != HARK_ACK)
        hark_delivery_explain(d, "event %zu on purpose", n);
    const hark_tx_opts *patient = HARK_OPTS(hark_tx_opts, .deadline_ms = 10000);
    if (v == HARK_ACK && story_acked_by_tx(t->consumer, n))
        v = hark_delivery_transact(d, effect, &n, patient, NULL) ? HARK_RETRY : HARK_ACK;
    return v;
}

hark_err story_consume(story_taker *t, hark_bus *bus, hark_sub **ret)
{
    hark_sub_opts o = {.size = sizeof o,
                       .consumer = story_consumers[t->consumer],
                       .workers = t->consumer ? 1 : 2,
                       .start = HARK_START_FIRST,
                       .retry_delay_ms = 10,
                       .dead_policy = t->consumer ? HARK_DEAD_PARK : HARK_DEAD_CONTINUE,
                       .max_interruptions = 1000,
                       .max_attempts = STORY_ATTEMPTS};
    return hark_subscribe(bus, STORY_SMALL, handle, t, &o, ret, NULL);
}

/* ---- waiting ---- */

/* After a fatal error of the store nothing moves until it is opened again. */
static bool read_only(const story *s)
{
    hark_bus_info info = {.size = sizeof info};
    return s->bus && hark_bus_info_get(s->bus, &info) == HARK_OK && info.read_only;
}

bool story_await(story *s, bool (*done)(story *s, void *ud), void *ud, const char *what)
{
    int64_t end = kit_ms() + s->patience_ms;
    for (;;) {
        story_lock();
        bool ok = done(s, ud);
        story_unlock();
        if (ok)
            return true;
        if ((s->over && s->over()) || read_only(s))
            return false;
        if (kit_ms() > end) {
            (void)snprintf(s->stuck, sizeof s->stuck, "%s", what);
            return false;
        }
        (void)sched_yield(); /* nothing tells of every change that is waited for here */
    }
}
