/* The quickstart under 64 connections, killed -9 again and again, on one log. Kept outside: every
 * request that was sent, every 201 that came back, every line that a consumer printed. In the end
 * the log holds each 201 once, byte for byte, and nothing that was never sent; and each consumer has
 * printed every event, in order and without a gap, though after a kill some lines come again. */
#include "client.h"
#include "kit.h"
#include "load.h"

#include <hark/hark.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONNECTIONS 64

/* A line of a consumer. */
typedef struct line {
    size_t run;
    bool user;
    char text[32]; /* an order's id, or a user's name */
} line;

typedef struct campaign {
    const char *program;
    const char *url;
    uint64_t random;
    load *load;
    line *lines;
    size_t n_lines, cap_lines, run;
    kit_lines partial;
    int port; /* once it listens */
    int64_t slowest_start;
    size_t early; /* kills before it listened */
    size_t count[2];
} campaign;

/* ---- what the consumers print ---- */

static void add_line(void *ud, const char *text)
{
    campaign *c = ud;
    static const char *const starts[2] = {"Order placed: ", "User created: "};
    for (int user = 0; user < 2; user++) {
        size_t n = strlen(starts[user]);
        if (strncmp(text, starts[user], n) != 0)
            continue;
        c->lines = kit_grow(c->lines, c->n_lines, &c->cap_lines, sizeof *c->lines);
        line *l = &c->lines[c->n_lines++];
        *l = (line){.run = c->run, .user = user == 1};
        (void)snprintf(l->text, sizeof l->text, "%.31s", text + n);
        return;
    }
    KIT_CHECK(sscanf(text, "listening on port %d,", &c->port) == 1, "a strange line: %s", text);
}

static bool read_lines(campaign *c, int fd)
{
    return kit_read_lines(&c->partial, fd, add_line, c);
}

/* ---- one run, ended by kill -9 ---- */

static kit_proc start(campaign *c)
{
    const char *argv[] = {c->program, "--listen", "127.0.0.1:0", "--store", c->url, NULL};
    c->port = 0;
    return kit_start(argv, &(kit_how){.err_path = kit_path("stderr")});
}

static void await_listening(campaign *c, kit_proc *p)
{
    struct pollfd out = {.fd = p->out, .events = POLLIN};
    while (!c->port) {
        KIT_CHECK(poll(&out, 1, KIT_HUNG_MS) == 1, "the quickstart does not start");
        if (!read_lines(c, p->out))
            kit_fail("the quickstart did not start: %s", kit_slurp(kit_path("stderr"), NULL));
    }
}

/* When to kill: at this time, or after so many answers in all. */
typedef struct moment {
    int64_t at;
    size_t acked;
} moment;

static void run_until(campaign *c, kit_proc *p, const moment *m)
{
    struct pollfd fds[2] = {{.fd = p->out, .events = POLLIN},
                            {.fd = load_poller(c->load), .events = POLLIN}};
    while (kit_ms() < m->at && load_acked(c->load) < m->acked) {
        int64_t left = m->at - kit_ms();
        if (poll(fds, 2, left > 0 ? (int)left : 0) <= 0)
            continue;
        if (fds[0].revents)
            KIT_CHECK(read_lines(c, p->out), "the quickstart ended by itself");
        if (fds[1].revents)
            load_step(c->load);
    }
}

static void kill_now(campaign *c, kit_proc *p)
{
    kill(p->pid, SIGKILL);
    while (read_lines(c, p->out))
        continue;
    kit_kill(p);
    load_disconnect(c->load);
    c->partial.n = 0;
}

/* Some are killed while they start, some at a random time, some right after an answer. */
static void run_and_kill(campaign *c)
{
    uint64_t r = kit_random(&c->random);
    int64_t begin = kit_ms();
    kit_proc p = start(c);
    if (r % 8 == 0) {
        run_until(c, &p, &(moment){.at = begin + (int64_t)((r >> 8) % 40), .acked = SIZE_MAX});
        kill_now(c, &p);
        c->early++;
        return;
    }
    await_listening(c, &p);
    int64_t now = kit_ms();
    c->slowest_start = now - begin > c->slowest_start ? now - begin : c->slowest_start;
    moment m = {.at = now + (int64_t)((r >> 8) % 400), .acked = SIZE_MAX};
    if (r % 2)
        m = (moment){.at = now + 2000, .acked = load_acked(c->load) + 1 + (r >> 8) % 2000};
    load_connect(c->load, c->port);
    run_until(c, &p, &m);
    kill_now(c, &p);
}

/* ---- the audit ---- */

static void audit_event(campaign *c, const hark_event *e)
{
    const char *type = hark_event_type(e);
    bool user = strcmp(type, "user:created") == 0;
    size_t len, n;
    request *all = load_requests(c->load, &n);
    if (strcmp(type, "request:completed") == 0)
        return;
    KIT_CHECK(user || strcmp(type, "order:placed") == 0, "an event of type %s was invented", type);
    const char *data = hark_event_data(e, &len);
    long i = load_number(data, user);
    KIT_CHECK(i >= 0 && (size_t)i < n && all[i].user == user, "event %llu was never sent: %.200s",
              (unsigned long long)hark_event_sequence(e), data);
    request *r = &all[i];
    KIT_CHECK(r->seq == 0, "request %ld is in the log twice, at %llu and %llu", i,
              (unsigned long long)r->seq, (unsigned long long)hark_event_sequence(e));
    r->seq = hark_event_sequence(e);
    r->place = (uint32_t)c->count[user]++;
    const char *id = strstr(data, "\"id\":\""), *subject = hark_event_subject(e);
    KIT_CHECK(subject && id && strncmp(id + 6, subject, strlen(subject)) == 0,
              "event %llu: subject and id differ: %.200s", (unsigned long long)r->seq, data);
    if (r->acked)
        KIT_CHECK(strcmp(r->id, subject) == 0 && r->len == len && r->hash == kit_hash(data, len),
                  "event %llu is not what the 201 said: %.200s", (unsigned long long)r->seq, data);
    (void)snprintf(r->id, sizeof r->id, "%s", subject);
}

/* Reads the whole log; what was answered must be there. */
static void audit_log(campaign *c)
{
    hark_bus *bus = NULL;
    hark_errinfo ei;
    hark_page *page = NULL;
    uint64_t last = 0, after = 0;
    size_t n;
    if (hark_open(c->url, NULL, &bus, &ei))
        kit_fail("the log does not open: %s", ei.text);
    do {
        if (hark_read(bus, HARK_OPTS(hark_read_opts, .after = after, .limit = 10000), &page, &ei))
            kit_fail("the log cannot be read: %s", ei.text);
        for (size_t i = 0; i < hark_page_count(page); i++) {
            const hark_event *e = hark_page_event(page, i);
            uint64_t seq = hark_event_sequence(e);
            KIT_CHECK(seq > last, "sequence %llu after %llu", (unsigned long long)seq,
                      (unsigned long long)last);
            last = seq;
            audit_event(c, e);
        }
        after = hark_page_next(page);
        hark_page_free(page);
    } while (after);
    hark_bus_unref(bus);
    request *all = load_requests(c->load, &n);
    for (size_t i = 0; i < n; i++)
        KIT_CHECK(!all[i].acked || all[i].seq, "request %zu (%s) got its 201 and is not in the log",
                  i, all[i].id);
}

/* Runs until both consumers have printed the newest of their events; SIGTERM ends it well. */
static void run_to_the_end(campaign *c)
{
    size_t n;
    char newest[2][32] = {"", ""};
    bool seen[2];
    const request *all = load_requests(c->load, &n);
    for (size_t i = 0; i < n; i++)
        if (all[i].seq && all[i].place + 1 == c->count[all[i].user])
            (void)(all[i].user ? snprintf(newest[1], sizeof newest[1], "usr-%zu.", i)
                               : snprintf(newest[0], sizeof newest[0], "%s", all[i].id));
    for (int k = 0; k < 2; k++)
        seen[k] = !newest[k][0];
    size_t looked = 0; /* what was printed in earlier runs counts too */
    kit_proc p = start(c);
    await_listening(c, &p);
    for (;;) {
        for (; looked < c->n_lines; looked++)
            if (strcmp(c->lines[looked].text, newest[c->lines[looked].user]) == 0)
                seen[c->lines[looked].user] = true;
        if (seen[0] && seen[1])
            break;
        struct pollfd out = {.fd = p.out, .events = POLLIN};
        KIT_CHECK(poll(&out, 1, KIT_HUNG_MS) == 1, "the consumers never came to %s and %s",
                  newest[0], newest[1]);
        KIT_CHECK(read_lines(c, p.out), "the last quickstart ended by itself");
    }
    reply r;
    client_do(c->port, "GET", "/", NULL, NULL, &r); /* it serves */
    kill(p.pid, SIGTERM);
    while (read_lines(c, p.out))
        continue;
    int status = kit_wait(&p, KIT_HUNG_MS);
    KIT_CHECK(kit_exited(status, 0), "SIGTERM: wait status %d", status);
}

static int by_id(const void *a, const void *b)
{
    const request *const *x = a, *const *y = b;
    return strcmp((*x)->id, (*y)->id);
}

static const request *find_line(campaign *c, const line *l, const request **by_ids, size_t n_ids)
{
    size_t n;
    const request *all = load_requests(c->load, &n);
    if (l->user) {
        long i = load_number(l->text, true);
        return i >= 0 && (size_t)i < n && all[i].seq ? &all[i] : NULL;
    }
    request key;
    const request *at = &key, **found;
    memcpy(key.id, l->text, sizeof key.id);
    found = bsearch(&at, by_ids, n_ids, sizeof(*by_ids), by_id);
    return found ? *found : NULL;
}

/* The lines around one that is wrong, by their place in the log. */
static void show_lines(campaign *c, size_t at, const request **by_ids, size_t n_ids)
{
    for (size_t i = at > 12 ? at - 12 : 0; i < c->n_lines && i < at + 12; i++) {
        const request *r = find_line(c, &c->lines[i], by_ids, n_ids);
        (void)fprintf(stderr, "%s run %zu: %s, sequence %llu, place %u\n", i == at ? ">" : " ",
                      c->lines[i].run, c->lines[i].text, r ? (unsigned long long)r->seq : 0,
                      r ? r->place : 0);
    }
}

/* One consumer's lines: in each run neighbours of the log one after another, each run beginning not
 * after what is still to come, all of them in the end. */
static size_t audit_lines(campaign *c, bool user, const request **by_ids, size_t n_ids)
{
    size_t run = SIZE_MAX, next = 0, done = 0, lines = 0;
    for (size_t i = 0; i < c->n_lines; i++) {
        const line *l = &c->lines[i];
        if (l->user != user)
            continue;
        const request *r = find_line(c, l, by_ids, n_ids);
        KIT_CHECK(r != NULL, "run %zu: a consumer got %s, which is not in the log", l->run,
                  l->text);
        if (l->run == run ? r->place != next : r->place > done)
            show_lines(c, i, by_ids, n_ids);
        if (l->run == run)
            KIT_CHECK(r->place == next, "run %zu: expected event %zu of its type, got %u (%s)", run,
                      next, r->place, l->text);
        else
            KIT_CHECK(r->place <= done, "run %zu begins with event %u of its type, %zu left out",
                      l->run, r->place, r->place - done);
        run = l->run;
        next = (size_t)r->place + 1;
        done = next > done ? next : done;
        lines++;
    }
    KIT_CHECK(done == c->count[user], "consumer of %s: %zu events came, %zu are in the log",
              user ? "users" : "orders", done, c->count[user]);
    return lines;
}

static void audit_consumers(campaign *c)
{
    size_t n, m = 0;
    const request *all = load_requests(c->load, &n);
    const request **by_ids = calloc(n + 1, sizeof(*by_ids));
    KIT_CHECK(by_ids != NULL, "out of memory");
    for (size_t i = 0; i < n; i++)
        if (all[i].seq && !all[i].user)
            by_ids[m++] = &all[i];
    qsort(by_ids, m, sizeof(*by_ids), by_id);
    size_t orders = audit_lines(c, false, by_ids, m), users = audit_lines(c, true, by_ids, m);
    printf("delivered: %zu orders in %zu lines, %zu users in %zu lines\n", c->count[0], orders,
           c->count[1], users);
    free(by_ids);
}

int main(int argc, char **argv)
{
    KIT_CHECK(argc == 2, "usage: kill_quickstart_test QUICKSTART");
    kit_guard();
    uint64_t seed = kit_seed();
    size_t n, runs = kit_long() ? 1000 : 50;
    int64_t begin = kit_ms();
    campaign c = {.program = kit_program(argv[1]), .random = seed};
    char url[128];
    (void)snprintf(url, sizeof url, "sqlite:%s/x.db", kit_dir());
    c.url = url;
    c.load = load_new(seed ^ 0x5eed, CONNECTIONS);
    for (c.run = 0; c.run < runs; c.run++)
        run_and_kill(&c);
    int64_t killed = kit_ms();
    audit_log(&c);
    run_to_the_end(&c);
    audit_consumers(&c);
    (void)load_requests(c.load, &n);
    printf("%zu kills (%zu before it listened) in %lld ms, slowest start %lld ms; audit %lld ms\n",
           runs, c.early, (long long)(killed - begin), (long long)c.slowest_start,
           (long long)(kit_ms() - killed));
    printf("sent %zu, answered 201 %zu, in the log %zu\n", n, load_acked(c.load),
           c.count[0] + c.count[1]);
    load_free(c.load);
    free(c.lines);
    return 0;
}
