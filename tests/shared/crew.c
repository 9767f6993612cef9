/* The crew's processes and publishing to them, see crew.h. */
#include "crew.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 5000 };

/* ---- server, log and file ---------------------------------------------------------------------- */

void crew_afresh(crew *c, const crew_how *how)
{
    char name[32];
    hark_errinfo ei;
    c->how = *how;
    (void)hark_bus_unref(c->bus);
    if (c->file > 0)
        (void)close(c->file);
    (void)snprintf(c->url, sizeof c->url, "%.120s?log=c%u", server_url(c->server), c->n_who);
    (void)snprintf(name, sizeof name, "lines-%u", c->n_who);
    c->path = kit_path(name);
    c->file = open(c->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    KIT_CHECK(c->file >= 0, "cannot open %s: %s", c->path, strerror(errno));
    if (hark_open(c->url, NULL, &c->bus, &ei))
        kit_fail("hark_open: %s", ei.text);
}

void crew_open(crew *c, const char *scheme, const char *victim, const crew_how *how)
{
    *c = (crew){.victim = kit_program(victim), .server = server_of(scheme)};
    KIT_CHECK(c->server, "there is no server called %s", scheme);
    crew_afresh(c, how);
}

void crew_close(crew *c)
{
    c->bus = hark_bus_unref(c->bus);
    (void)close(c->file);
    server_free(c->server);
}

void crew_note(crew *c, char kind, uint32_t who)
{
    char line[32];
    int n = snprintf(line, sizeof line, "%c %u\n", kind, who);
    KIT_CHECK(write(c->file, line, (size_t)n) == n, "cannot write: %s", strerror(errno));
}

/* ---- processes --------------------------------------------------------------------------------- */

static const char *stderr_of(const crew *c, size_t i)
{
    char name[32];
    (void)c;
    (void)snprintf(name, sizeof name, "stderr-%zu", i);
    return kit_path(name);
}

static void show_stderr(const crew *c)
{
    for (size_t i = 0; i < CREW_MAX; i++) {
        char *text = kit_slurp(stderr_of(c, i), NULL);
        if (text && *text)
            (void)fprintf(stderr, "---- standard error of process %zu:\n%.8000s----\n", i, text);
        free(text);
    }
}

void crew_start(crew *c, size_t i)
{
    crew_member *m = &c->of[i];
    char arg[8][32];
    m->who = ++c->n_who;
    m->up = false;
    (void)snprintf(arg[0], sizeof arg[0], "%u", m->who);
    (void)snprintf(arg[1], sizeof arg[1], "workers=%u", c->how.workers);
    (void)snprintf(arg[2], sizeof arg[2], "work_us=%u", c->how.work_us);
    (void)snprintf(arg[3], sizeof arg[3], "lease_ms=%u", c->how.lease_ms);
    (void)snprintf(arg[4], sizeof arg[4], "retry_every=%u", c->how.retry_every);
    (void)snprintf(arg[5], sizeof arg[5], "echo_every=%u", c->how.echo_every);
    (void)snprintf(arg[6], sizeof arg[6], "pull=%d", c->how.pull);
    const char *argv[] = {c->victim, c->url, c->path, CREW_CONSUMER, CREW_TYPE, arg[0], arg[1],
                          arg[2],    arg[3], arg[4],  arg[5],        arg[6],    NULL};
    m->proc = kit_start(argv, &(kit_how){.err_path = stderr_of(c, i)});
}

/* It says one line, when it has subscribed; the end of its output is its own. */
static void hear(crew *c, size_t i)
{
    char text[64];
    crew_member *m = &c->of[i];
    if (read(m->proc.out, text, sizeof text) > 0) {
        m->up = true;
        return;
    }
    show_stderr(c);
    kit_fail("process %zu (%u) ended by itself, wait status %#x", i, m->who,
             (unsigned)kit_wait(&m->proc, KIT_HUNG_MS));
}

void crew_wait(crew *c, int ms)
{
    struct pollfd said[CREW_MAX];
    size_t of[CREW_MAX], n = 0;
    for (size_t i = 0; i < CREW_MAX; i++) {
        if (!c->of[i].who)
            continue;
        of[n] = i;
        said[n++] = (struct pollfd){.fd = c->of[i].proc.out, .events = POLLIN};
    }
    if (poll(said, (nfds_t)n, ms) > 0)
        for (size_t i = 0; i < n; i++)
            if (said[i].revents)
                hear(c, of[i]);
}

void crew_up(crew *c, size_t i)
{
    int64_t end = kit_ms() + KIT_HUNG_MS;
    while (!c->of[i].up) {
        if (kit_ms() > end)
            show_stderr(c);
        KIT_CHECK(kit_ms() < end, "process %zu has not subscribed within %d s", i,
                  KIT_HUNG_MS / 1000);
        crew_wait(c, 100);
    }
}

void crew_kill(crew *c, size_t i)
{
    crew_member *m = &c->of[i];
    crew_note(c, 'K', m->who);
    kit_kill(&m->proc);
    crew_note(c, 'G', m->who);
    m->who = 0;
}

void crew_stop(crew *c, size_t i)
{
    crew_member *m = &c->of[i];
    kill(m->proc.pid, SIGTERM);
    int status = kit_wait(&m->proc, KIT_HUNG_MS);
    if (!kit_exited(status, 0)) {
        show_stderr(c);
        kit_fail("process %zu (%u) was told to end, and did with wait status %#x", i, m->who,
                 (unsigned)status);
    }
    crew_note(c, 'G', m->who);
    m->who = 0;
}

void crew_freeze(crew *c, size_t i)
{
    int status;
    pid_t pid = c->of[i].proc.pid;
    kill(pid, SIGSTOP);
    KIT_CHECK(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status),
              "process %zu does not stand still", i);
    crew_note(c, 'P', c->of[i].who);
}

void crew_thaw(crew *c, size_t i)
{
    crew_note(c, 'C', c->of[i].who);
    kill(c->of[i].proc.pid, SIGCONT);
}

/* ---- publishing -------------------------------------------------------------------------------- */

void crew_next_word(crew_speaker *s, uint32_t key, crew_word *w)
{
    uint32_t n = ++s->said[key];
    s->total++;
    (void)snprintf(w->id, sizeof w->id, "%u-%u", key, n);
    (void)snprintf(w->key, sizeof w->key, "k%u", key);
    (void)snprintf(w->json, sizeof w->json, "%u", n);
    w->spec = (hark_event_spec){.size = sizeof w->spec,
                                .type = CREW_TYPE,
                                .source = "/crew",
                                .id = w->id,
                                .key = w->key,
                                .json = w->json};
}

static void publish(crew *c, crew_word *words, size_t n)
{
    const hark_event_spec *specs[CREW_BATCH];
    hark_errinfo ei;
    for (size_t i = 0; i < n; i++)
        specs[i] = &words[i].spec;
    if (hark_publish_batch(c->bus, specs, n, NULL, &ei))
        kit_fail("hark_publish_batch: %s", ei.text);
}

void crew_say(crew *c, crew_speaker *s, size_t n)
{
    crew_word words[CREW_BATCH];
    for (size_t i = 0; i < n; i++)
        crew_next_word(s, (uint32_t)(kit_random(&s->random) % s->keys), &words[i]);
    publish(c, words, n);
}

void crew_say_all_keys(crew *c, crew_speaker *s)
{
    crew_word words[CREW_BATCH];
    for (uint32_t key = 0; key < s->keys;) {
        size_t n = 0;
        while (n < CREW_BATCH && key < s->keys)
            crew_next_word(s, key++, &words[n++]);
        publish(c, words, n);
    }
}

/* ---- looking ----------------------------------------------------------------------------------- */

static bool look_at(const hark_consumer_info *info, void *ud)
{
    crew_state *x = ud;
    if (strcmp(info->name, CREW_CONSUMER) != 0)
        return true;
    *x = (crew_state){.floor = info->floor,
                      .open = info->retrying + info->behind + info->parked,
                      .dead_letters = info->dead_letters,
                      .found = true,
                      .paused = info->paused != 0};
    return false;
}

crew_state crew_look(crew *c)
{
    crew_state x = {0};
    hark_errinfo ei;
    if (hark_consumers(c->bus, look_at, &x, &ei))
        kit_fail("hark_consumers: %s", ei.text);
    return x;
}

void crew_all_settled(crew *c, uint64_t upto)
{
    int64_t end = kit_ms() + KIT_HUNG_MS;
    crew_state x = crew_look(c);
    while (!x.found || x.floor < upto || x.open) {
        KIT_CHECK(kit_ms() < end,
                  "everything up to sequence %llu was handled and should be settled, but the store "
                  "has it up to %llu, and %llu open rows",
                  (unsigned long long)upto, (unsigned long long)x.floor,
                  (unsigned long long)x.open);
        crew_wait(c, 10);
        x = crew_look(c);
    }
    KIT_CHECK(x.dead_letters == 0, "there should be no dead letters; there are %llu",
              (unsigned long long)x.dead_letters);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void no_twins(char **ids, size_t n, const char *type)
{
    qsort(ids, n, sizeof *ids, by_text);
    for (size_t i = 0; i < n; i++) {
        KIT_CHECK(i == 0 || strcmp(ids[i - 1], ids[i]) != 0,
                  "the log has an event of type %s twice: id %s", type, ids[i]);
        if (i > 0)
            free(ids[i - 1]);
    }
    if (n)
        free(ids[n - 1]);
    free(ids);
}

static uint64_t count_log(crew *c, const char *type)
{
    uint64_t n = 0, after = 0, last = 0;
    size_t of_type = 0, cap = 0;
    char **ids = NULL;
    hark_errinfo ei;
    do {
        hark_page *page;
        if (hark_read(c->bus,
                      HARK_OPTS(hark_read_opts, .type = "**|dead_letter|hark:**", .after = after,
                                .limit = PAGE),
                      &page, &ei))
            kit_fail("hark_read: %s", ei.text);
        for (size_t i = 0; i < hark_page_count(page); i++, n++) {
            const hark_event *e = hark_page_event(page, i);
            KIT_CHECK(hark_event_sequence(e) == last + 1, "after sequence %llu comes %llu",
                      (unsigned long long)last, (unsigned long long)hark_event_sequence(e));
            last = hark_event_sequence(e);
            if (strcmp(hark_event_type(e), type) != 0)
                continue;
            ids = kit_grow(ids, of_type, &cap, sizeof *ids);
            KIT_CHECK((ids[of_type++] = strdup(hark_event_id(e))) != NULL, "out of memory");
        }
        after = hark_page_next(page);
        hark_page_free(page);
    } while (after);
    no_twins(ids, of_type, type);
    return of_type;
}

/* The test's own bus hears of what others published a moment later. */
void crew_check_log(crew *c, const char *type, uint64_t expected)
{
    int64_t end = kit_ms() + KIT_HUNG_MS / 4;
    uint64_t n = count_log(c, type);
    while (n < expected && kit_ms() < end) {
        crew_wait(c, 5);
        n = count_log(c, type);
    }
    KIT_CHECK(n == expected, "the log should have %llu events of type %s; it has %llu",
              (unsigned long long)expected, type, (unsigned long long)n);
}
