/* Crashes and kills of a supervised consumer: a handler that dereferences NULL on one order of a
 * thousand, with 16 workers busy, and somebody who kills the process -9 from outside every so
 * often. In the end every other order was handled, and each poisonous one is one dead letter that
 * names its signal: no innocent has died because a neighbour did. */
#include "crash_kit.h"
#include "crash_work.h"
#include "kit.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { BATCH = 500, CUSTOMERS = 97, CRASHES = 3 };

typedef struct campaign {
    const char *victim, *url, *handled;
    uint64_t random, orders;
    int64_t kill_min_ms, kill_max_ms, kill_at;
    uint64_t *seq; /* of each order */
    int child;     /* a pidfd; -1 = none is known to live */
    char line[64];
    size_t n_line, starts, kills;
    bool done;
} campaign;

/* ---- before ---- */

static void publish_batch(campaign *c, hark_bus *bus, uint64_t first)
{
    static char data[BATCH][24], key[BATCH][24];
    static hark_event_spec specs[BATCH];
    static const hark_event_spec *list[BATCH];
    static hark_receipt receipts[BATCH];
    hark_errinfo ei;
    for (uint64_t i = 0; i < BATCH; i++) {
        uint64_t n = first + i;
        int len = snprintf(data[i], sizeof data[i], "%llu", (unsigned long long)n);
        (void)snprintf(key[i], sizeof key[i], "customer-%llu", (unsigned long long)(n % CUSTOMERS));
        specs[i] = *HARK_OPTS(hark_event_spec, .type = CRASH_TYPE, .subject = key[i],
                              .data = data[i], .data_len = (size_t)len);
        list[i] = &specs[i];
    }
    if (hark_publish_batch(bus, list, BATCH, receipts, &ei))
        kit_fail("hark_publish_batch: %s", ei.text);
    for (uint64_t i = 0; i < BATCH; i++)
        c->seq[first + i] = receipts[i].sequence;
}

static void publish_orders(campaign *c)
{
    hark_bus *bus = NULL;
    hark_errinfo ei;
    if (hark_open(c->url, NULL, &bus, &ei))
        kit_fail("hark_open: %s", ei.text);
    for (uint64_t n = 0; n < c->orders; n += BATCH)
        publish_batch(c, bus, n);
    hark_bus_unref(bus);
}

/* ---- crashes and kills ---- */

static void plan_kill(campaign *c)
{
    int64_t span = c->kill_max_ms - c->kill_min_ms + 1;
    c->kill_at = kit_ms() + c->kill_min_ms + (int64_t)(kit_random(&c->random) % (uint64_t)span);
}

static void take_line(campaign *c)
{
    int pid = 0;
    char what[8] = "";
    KIT_CHECK(sscanf(c->line, "%7s %d", what, &pid) == 2, "a strange line: %s", c->line);
    c->done = strcmp(what, "done") == 0;
    if (c->done)
        return;
    if (c->child >= 0)
        close(c->child);
    c->child = (int)syscall(SYS_pidfd_open, pid, 0); /* or gone already */
    c->starts++;
}

static void read_lines(campaign *c, kit_proc *p)
{
    char ch;
    KIT_CHECK(read(p->out, &ch, 1) == 1, "the parent ended: %s",
              kit_slurp(kit_path("stderr"), NULL));
    KIT_CHECK(c->n_line < sizeof c->line - 1, "an endless line");
    c->line[c->n_line++] = ch;
    if (ch != '\n')
        return;
    c->line[c->n_line] = '\0';
    c->n_line = 0;
    take_line(c);
}

static void kill_child(campaign *c)
{
    if (c->child >= 0 && syscall(SYS_pidfd_send_signal, c->child, SIGKILL, NULL, 0) == 0)
        c->kills++;
    plan_kill(c);
}

static void run(campaign *c, int64_t limit_ms)
{
    char last[24];
    (void)snprintf(last, sizeof last, "%llu", (unsigned long long)c->seq[c->orders - 1]);
    const char *argv[] = {c->victim, c->url, c->handled, last, NULL};
    int64_t end = kit_ms() + limit_ms;
    kit_proc p = kit_start(argv, &(kit_how){.err_path = kit_path("stderr")});
    plan_kill(c);
    while (!c->done) {
        struct pollfd out = {.fd = p.out, .events = POLLIN};
        int64_t now = kit_ms(), left = c->kill_at - now;
        KIT_CHECK(now < end, "it is not done after %lld ms, %zu starts, %zu kills; see %s",
                  (long long)limit_ms, c->starts, c->kills, kit_slurp(kit_path("stderr"), NULL));
        if (left <= 0)
            kill_child(c);
        else if (poll(&out, 1, (int)left) > 0)
            read_lines(c, &p);
    }
    kill(p.pid, SIGTERM);
    int status = kit_wait(&p, KIT_HUNG_MS);
    if (!kit_exited(status, 0))
        kit_fail("wait status %#x: %s", status, kit_slurp(kit_path("stderr"), NULL));
}

/* ---- the audit ---- */

static void audit_handled(campaign *c)
{
    size_t len, twice = 0;
    char *all = kit_slurp(c->handled, &len);
    uint8_t *times = calloc(c->orders, 1);
    KIT_CHECK(all && times && len % 8 == 0, "the file of what was handled has %zu bytes", len);
    for (size_t i = 0; i < len / 8; i++) {
        uint64_t n;
        memcpy(&n, all + i * 8, 8);
        KIT_CHECK(n < c->orders, "order %llu was invented", (unsigned long long)n);
        twice += times[n] == 1;
        times[n] = times[n] < 2 ? (uint8_t)(times[n] + 1) : 2;
    }
    for (uint64_t n = 0; n < c->orders; n++)
        KIT_CHECK((times[n] > 0) != crash_is_poison(n), "order %llu was %s", (unsigned long long)n,
                  times[n] ? "handled" : "never handled");
    printf("%zu orders were handled more than once\n", twice);
    free(all);
    free(times);
}

typedef struct letters {
    campaign *c;
    size_t n;
} letters;

static bool audit_letter(const hark_dead_letter *l, void *ud)
{
    letters *all = ud;
    size_t len;
    uint64_t n = strtoull(hark_event_data(l->event, &len), NULL, 10);
    KIT_CHECK(crash_is_poison(n),
              "order %llu, an innocent, died: %s, %s, %lld attempts, %lld "
              "crashes, %lld interruptions",
              (unsigned long long)n, l->reason, l->error ? l->error : "-", (long long)l->attempts,
              (long long)l->crashes, (long long)l->interruptions);
    KIT_CHECK(l->sequence == all->c->seq[n], "order %llu is the dead letter of %llu",
              (unsigned long long)n, (unsigned long long)l->sequence);
    KIT_CHECK(strcmp(l->reason, "crash") == 0, "order %llu: its reason is %s",
              (unsigned long long)n, l->reason);
    KIT_CHECK(l->error && strstr(l->error, "SIGSEGV"), "order %llu: its error is %s",
              (unsigned long long)n, l->error ? l->error : "missing");
    KIT_CHECK(l->crashes == CRASHES, "order %llu: %lld crashes", (unsigned long long)n,
              (long long)l->crashes);
    all->c->seq[n] = 0; /* a second one would not match */
    all->n++;
    return true;
}

static void audit_letters(campaign *c)
{
    hark_bus *bus = NULL;
    hark_errinfo ei;
    letters all = {.c = c};
    if (hark_open(c->url, NULL, &bus, &ei))
        kit_fail("hark_open: %s", ei.text);
    if (hark_dead_letters(bus, HARK_OPTS(hark_dead_filter, .consumer = CRASH_CONSUMER),
                          audit_letter, &all, &ei))
        kit_fail("hark_dead_letters: %s", ei.text);
    hark_bus_unref(bus);
    KIT_CHECK(all.n == c->orders / 1000, "%zu dead letters, expected %llu", all.n,
              (unsigned long long)(c->orders / 1000));
}

int main(int argc, char **argv)
{
    KIT_CHECK(argc == 2, "usage: crash_test VICTIM");
    kit_guard();
    crash_environment(1);
    bool is_long = kit_long();
    campaign c = {.victim = kit_program(argv[1]),
                  .handled = kit_path("handled"),
                  .orders = is_long ? 100000 : 3000,
                  .child = -1,
                  .kill_min_ms = is_long ? 5000 : 200,
                  .kill_max_ms = is_long ? 5000 : 1500};
    char url[128];
    (void)snprintf(url, sizeof url, "sqlite:%s", kit_path("x.db"));
    c.url = url;
    c.random = kit_seed();
    c.seq = calloc(c.orders, sizeof *c.seq);
    KIT_CHECK(c.seq != NULL, "out of memory");
    publish_orders(&c);
    int64_t begin = kit_ms();
    run(&c, is_long ? 1000000 : 300000);
    printf("%llu orders in %lld ms: %zu starts, %zu kills from outside\n",
           (unsigned long long)c.orders, (long long)(kit_ms() - begin), c.starts, c.kills);
    KIT_CHECK(c.kills > 0, "nothing was killed");
    audit_handled(&c);
    audit_letters(&c);
    free(c.seq);
    return 0;
}
