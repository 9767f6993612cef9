/* A program to be killed while eight consumers retry, give up, park and are mended. It says what it
 * does, one line one write:
 *
 *     S n                             before event n is published
 *     R n sequence                    its receipt
 *     D consumer sequence n attempt v before the handler answers v: A, R or X (ledger_work.h)
 *     M consumer sequence             before the redrive of a dead letter, after which all is acked
 *     m consumer sequence             it has returned
 *     X, x consumer sequence          likewise of a discard
 *     A                               from now on everything is acked
 *
 *   kill_ledger_victim URL MENDED FIRST COUNT  publishes COUNT events from number FIRST on, consumes
 *                                              and mends for ever; MENDED is the file in which it
 *                                              remembers what was redriven
 *   kill_ledger_victim URL --settle SEQUENCE   redrives everything, and ends when all up to SEQUENCE
 *                                              is settled
 */
#include "ledger_work.h"
#include "lines.h"

#include <errno.h>
#include <fcntl.h>
#include <hark/hark.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SEQUENCES = 1 << 21, LISTED = 64, BATCH = 8 };

static hark_bus *bus;
static hark_sub *subs[LEDGER_CONSUMERS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned char mended[SEQUENCES]; /* a bit for each consumer */
static bool all_mended;
static int mended_fd;

/* ---- consuming ---- */

static hark_verdict handle(hark_delivery *d, void *ud)
{
    int c = (int)(uintptr_t)ud;
    uint64_t seq = hark_delivery_sequence(d);
    uint64_t n = strtoull(hark_event_id(hark_delivery_event(d)) + 2, NULL, 10);
    int64_t attempt = hark_delivery_attempt(d);
    pthread_mutex_lock(&lock);
    bool ok = all_mended || (mended[seq % SEQUENCES] & 1u << c);
    pthread_mutex_unlock(&lock);
    char v = ok ? 'A' : ledger_fate(c, n, attempt);
    line_say("D %d %llu %llu %lld %c", c, (unsigned long long)seq, (unsigned long long)n,
             (long long)attempt, v);
    return v == 'A' ? HARK_ACK : v == 'R' ? HARK_RETRY : HARK_REJECT;
}

static void consume(void)
{
    hark_errinfo ei;
    for (int c = 0; c < LEDGER_CONSUMERS; c++) {
        const ledger_policy *p = &ledger_policies[c];
        const hark_sub_opts o = {.size = sizeof o,
                                 .consumer = p->name,
                                 .workers = p->workers,
                                 .max_deferred = p->max_deferred,
                                 .dead_policy = p->park ? HARK_DEAD_PARK : HARK_DEAD_CONTINUE,
                                 .start = HARK_START_FIRST,
                                 .retry_delay_ms = 10,
                                 .max_attempts = LEDGER_ATTEMPTS,
                                 .max_interruptions = 1000000};
        if (hark_subscribe(bus, LEDGER_TYPE, handle, (void *)(uintptr_t)c, &o, &subs[c], &ei))
            kit_fail("hark_subscribe: %s", ei.text);
    }
}

/* ---- mending ---- */

typedef struct letter {
    uint64_t id, seq;
    int consumer;
} letter;

typedef struct letters {
    letter list[LISTED];
    size_t n;
} letters;

static bool take_letter(const hark_dead_letter *l, void *ud)
{
    letters *all = ud;
    int c = 0;
    while (c < LEDGER_CONSUMERS && strcmp(ledger_policies[c].name, l->consumer) != 0)
        c++;
    KIT_CHECK(c < LEDGER_CONSUMERS, "a dead letter of %s", l->consumer);
    all->list[all->n++] = (letter){l->id, l->sequence, c};
    return all->n < LISTED;
}

static void remember(const letter *l)
{
    char line[64];
    int n = snprintf(line, sizeof line, "%d %llu\n", l->consumer, (unsigned long long)l->seq);
    KIT_CHECK(write(mended_fd, line, (size_t)n) == n, "cannot write: %s", strerror(errno));
    pthread_mutex_lock(&lock);
    mended[l->seq % SEQUENCES] |= (unsigned char)(1u << l->consumer);
    pthread_mutex_unlock(&lock);
}

static void mend(const letter *l, bool discard)
{
    hark_errinfo ei = {.text = ""};
    if (!discard)
        remember(l);
    line_say("%c %d %llu", discard ? 'X' : 'M', l->consumer, (unsigned long long)l->seq);
    hark_err err = discard ? hark_discard(bus, l->id, &ei) : hark_redrive(bus, l->id, &ei);
    if (err)
        kit_fail("%s: %s", discard ? "hark_discard" : "hark_redrive", ei.text);
    line_say("%c %d %llu", discard ? 'x' : 'm', l->consumer, (unsigned long long)l->seq);
}

static void mend_some(uint64_t *random)
{
    letters all = {.n = 0};
    hark_errinfo ei;
    int c = (int)(kit_random(random) % LEDGER_CONSUMERS);
    if (hark_dead_letters(bus, HARK_OPTS(hark_dead_filter, .consumer = ledger_policies[c].name),
                          take_letter, &all, &ei))
        kit_fail("hark_dead_letters: %s", ei.text);
    for (size_t i = 0; i < all.n; i++)
        if (kit_random(random) % 3 == 0)
            mend(&all.list[i], kit_random(random) % 6 == 0);
}

static void load_mended(const char *path)
{
    int c;
    unsigned long long seq;
    mended_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    FILE *f = fopen(path, "r");
    KIT_CHECK(mended_fd >= 0 && f, "cannot open %s", path);
    while (fscanf(f, "%d %llu\n", &c, &seq) == 2)
        mended[seq % SEQUENCES] |= (unsigned char)(1u << c);
    (void)fclose(f);
}

/* ---- publishing ---- */

static void publish(uint64_t from, unsigned count)
{
    char id[BATCH][32], key[BATCH][16];
    hark_event_spec s[BATCH];
    const hark_event_spec *p[BATCH] = {NULL};
    hark_receipt r[BATCH];
    hark_errinfo ei;
    for (unsigned i = 0; i < count; i++) {
        (void)snprintf(id[i], sizeof id[i], "n-%llu", (unsigned long long)(from + i));
        (void)snprintf(key[i], sizeof key[i], "k%u", ledger_key(from + i));
        s[i] = (hark_event_spec){.size = sizeof *s,
                                 .type = LEDGER_TYPE,
                                 .id = id[i],
                                 .source = "/victim",
                                 .key = key[i],
                                 .json = "{}"};
        p[i] = &s[i];
        line_say("S %llu", (unsigned long long)(from + i));
    }
    if (hark_publish_batch(bus, p, count, r, &ei))
        kit_fail("hark_publish_batch: %s", ei.text);
    for (unsigned i = 0; i < count; i++)
        line_say("R %llu %llu", (unsigned long long)(from + i), (unsigned long long)r[i].sequence);
}

static void live(uint64_t n, uint64_t end)
{
    uint64_t random = n;
    for (;;) {
        unsigned count = 1 + (unsigned)(kit_random(&random) % BATCH);
        if (n + count <= end)
            publish(n, count);
        n += count;
        if (kit_random(&random) % 4 == 0)
            mend_some(&random);
        if (n > end)
            (void)sched_yield(); /* there is only mending left */
    }
}

/* ---- to the end ---- */

static bool all_settled(uint64_t sequence)
{
    hark_sub_stats st = {.size = sizeof st};
    for (int c = 0; c < LEDGER_CONSUMERS; c++)
        if (hark_sub_stats_get(subs[c], &st) || st.position < sequence || st.pending)
            return false;
    return true;
}

static void settle(uint64_t sequence)
{
    hark_errinfo ei;
    uint64_t count = 0;
    int64_t end = kit_ms() + 3 * KIT_HUNG_MS;
    line_say("A");
    do {
        if (hark_redrive_all(bus, NULL, 0, &count, &ei))
            kit_fail("hark_redrive_all: %s", ei.text);
        if (kit_ms() > end)
            for (int c = 0; c < LEDGER_CONSUMERS; c++) {
                hark_why_info why = {.size = sizeof why};
                (void)!hark_why(bus, ledger_policies[c].name, &why, &ei);
                (void)fprintf(stderr, "%s: %s\n", ledger_policies[c].name, why.text);
            }
        KIT_CHECK(kit_ms() < end, "not everything is settled up to %llu",
                  (unsigned long long)sequence);
        if (!count)
            (void)sched_yield();
    } while (count || !all_settled(sequence));
    if (hark_drain(bus, 5000, &ei))
        kit_fail("hark_drain: %s", ei.text);
    for (int c = 0; c < LEDGER_CONSUMERS; c++)
        hark_sub_unref(subs[c]);
    hark_bus_unref(bus);
}

int main(int argc, char **argv)
{
    hark_errinfo ei;
    bool to_the_end = argc == 4 && strcmp(argv[2], "--settle") == 0;
    KIT_CHECK(to_the_end || argc == 5,
              "usage: kill_ledger_victim URL MENDED FIRST COUNT | URL --settle SEQUENCE");
    if (!to_the_end)
        load_mended(argv[2]);
    all_mended = to_the_end;
    if (hark_open(argv[1], NULL, &bus, &ei))
        kit_fail("hark_open: %s", ei.text);
    consume();
    if (to_the_end) {
        settle(strtoull(argv[3], NULL, 10));
        return 0;
    }
    uint64_t first = strtoull(argv[3], NULL, 10);
    live(first, first + strtoull(argv[4], NULL, 10));
    return 0;
}
