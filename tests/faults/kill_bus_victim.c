/* A program to be killed: it publishes from several threads in every way there is, consumes with
 * retries and rejects, and says what it does, one line one write:
 *
 *     S n first count      before event n is published
 *     R n sequence         its receipt
 *     D sequence n attempt before the handler answers
 *
 *   kill_bus_victim URL FIRST [AGAIN...]   publishes for ever numbers from FIRST on, after it has
 *                                          published AGAIN: n:first:count without a receipt
 *   kill_bus_victim URL --settle SEQUENCE  only consumes, until all up to SEQUENCE is settled
 */
#include "lines.h"
#include "work.h"

#include <hark/hark.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 4, PER_THREAD = 250000, IN_FLIGHT = 64 };

static hark_bus *bus;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t moved = PTHREAD_COND_INITIALIZER;
static int in_flight;

static void say_sent(uint64_t n, uint64_t first, unsigned count)
{
    line_say("S %llu %llu %u", (unsigned long long)n, (unsigned long long)first, count);
}

static void say_receipt(uint64_t n, const hark_receipt *r)
{
    line_say("R %llu %llu", (unsigned long long)n, (unsigned long long)r->sequence);
}

static hark_event_spec spec_of(const work *w)
{
    return (hark_event_spec){.size = sizeof(hark_event_spec),
                             .type = WORK_TYPE,
                             .id = w->id,
                             .source = "/victim",
                             .key = w->key,
                             .json = w->data};
}

static void must(hark_err err, const char *what)
{
    if (err)
        kit_fail("%s: %s", what, hark_err_name(err));
}

/* ---- publishing ---- */

static void publish_one(uint64_t n, uint64_t first, unsigned count)
{
    work w;
    hark_receipt r;
    work_make(n, first, count, &w);
    hark_event_spec s = spec_of(&w);
    say_sent(n, first, count);
    must(hark_publish(bus, &s, &r), "hark_publish");
    say_receipt(n, &r);
}

static void on_published(hark_err err, const hark_receipt *r, void *ud)
{
    must(err, "receipt");
    say_receipt((uint64_t)(uintptr_t)ud, r);
    pthread_mutex_lock(&lock);
    in_flight--;
    pthread_cond_broadcast(&moved);
    pthread_mutex_unlock(&lock);
}

static void publish_async(uint64_t n)
{
    work w;
    work_make(n, n, 1, &w);
    hark_event_spec s = spec_of(&w);
    pthread_mutex_lock(&lock);
    while (in_flight >= IN_FLIGHT)
        pthread_cond_wait(&moved, &lock);
    in_flight++;
    pthread_mutex_unlock(&lock);
    say_sent(n, n, 1);
    must(hark_publish_async(bus, &s, on_published, (void *)(uintptr_t)n), "hark_publish_async");
}

static void publish_batch(uint64_t first, unsigned count)
{
    work w[WORK_BATCH];
    hark_event_spec s[WORK_BATCH];
    const hark_event_spec *p[WORK_BATCH] = {NULL};
    hark_receipt r[WORK_BATCH];
    for (unsigned i = 0; i < count; i++) {
        work_make(first + i, first, count, &w[i]);
        s[i] = spec_of(&w[i]);
        p[i] = &s[i];
        say_sent(first + i, first, count);
    }
    must(hark_publish_batch(bus, p, count, r, NULL), "hark_publish_batch");
    for (unsigned i = 0; i < count; i++)
        say_receipt(first + i, &r[i]);
}

static void *publisher(void *arg)
{
    const uint64_t *first = arg;
    uint64_t n = *first, random = n;
    int kind = (int)(n / PER_THREAD % THREADS);
    while (n + WORK_BATCH < *first + PER_THREAD) {
        unsigned count = kind < 3 ? 1 : 2 + (unsigned)(kit_random(&random) % (WORK_BATCH - 1));
        if (kind == 3)
            publish_batch(n, count);
        else if (kind == 2)
            publish_async(n);
        else
            publish_one(n, n, 1);
        n += count;
    }
    return NULL;
}

/* ---- consuming ---- */

static hark_verdict handle(hark_delivery *d, void *ud)
{
    size_t len;
    const char *data = hark_event_data(hark_delivery_event(d), &len);
    uint64_t n = strtoull(data + strlen("{\"n\":"), NULL, 10);
    int64_t attempt = hark_delivery_attempt(d);
    (void)ud;
    line_say("D %llu %llu %lld", (unsigned long long)hark_delivery_sequence(d),
             (unsigned long long)n, (long long)attempt);
    switch (work_fate_of(n)) {
    case WORK_REJECT:
        hark_delivery_explain(d, "rejected on purpose");
        return HARK_REJECT;
    case WORK_HOPELESS:
        return HARK_RETRY;
    case WORK_RETRY_ONCE:
        return attempt == 1 ? HARK_RETRY : HARK_ACK;
    case WORK_ACK:
        break;
    }
    return HARK_ACK;
}

static hark_sub *consume(void)
{
    hark_sub *sub = NULL;
    hark_errinfo ei;
    if (hark_subscribe(bus, WORK_TYPE, handle, NULL,
                       HARK_OPTS(hark_sub_opts, .consumer = WORK_CONSUMER, .workers = 4,
                                 .start = HARK_START_FIRST, .retry_delay_ms = 10,
                                 .max_attempts = WORK_ATTEMPTS, .max_interruptions = 1000000),
                       &sub, &ei))
        kit_fail("hark_subscribe: %s", ei.text);
    return sub;
}

static void settle_up_to(hark_sub *sub, uint64_t sequence)
{
    hark_sub_stats st = {.size = sizeof st};
    int64_t end = kit_ms() + KIT_HUNG_MS;
    pthread_mutex_lock(&lock);
    for (;;) {
        must(hark_sub_stats_get(sub, &st), "hark_sub_stats_get");
        if (st.position >= sequence && !st.pending)
            break;
        KIT_CHECK(kit_ms() < end, "the consumer stays at %llu of %llu, %llu pending",
                  (unsigned long long)st.position, (unsigned long long)sequence,
                  (unsigned long long)st.pending);
        struct timespec t;
        clock_gettime(CLOCK_REALTIME, &t);
        t.tv_nsec = t.tv_nsec / 10000000 * 10000000 + 9999999;
        (void)pthread_cond_timedwait(&moved, &lock, &t);
    }
    pthread_mutex_unlock(&lock);
}

int main(int argc, char **argv)
{
    hark_errinfo ei;
    KIT_CHECK(argc >= 3, "usage: kill_bus_victim URL FIRST [AGAIN...] | URL --settle SEQUENCE");
    if (hark_open(argv[1], NULL, &bus, &ei))
        kit_fail("hark_open: %s", ei.text);
    hark_sub *sub = consume();
    if (strcmp(argv[2], "--settle") == 0) {
        settle_up_to(sub, strtoull(argv[3], NULL, 10));
        if (hark_drain(bus, 5000, &ei))
            kit_fail("hark_drain: %s", ei.text);
        hark_sub_unref(sub);
        hark_bus_unref(bus);
        return 0;
    }
    pthread_t threads[THREADS];
    uint64_t first[THREADS];
    for (int i = 0; i < THREADS; i++) {
        first[i] = strtoull(argv[2], NULL, 10) + (uint64_t)i * PER_THREAD;
        KIT_CHECK(pthread_create(&threads[i], NULL, publisher, &first[i]) == 0, "no thread");
    }
    for (int i = 3; i < argc; i++) {
        unsigned long long n, of;
        unsigned count;
        KIT_CHECK(sscanf(argv[i], "%llu:%llu:%u", &n, &of, &count) == 3, "'%s'", argv[i]);
        publish_one(n, of, count);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
