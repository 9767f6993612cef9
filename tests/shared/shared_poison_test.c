/* Two processes share a consumer, and one of its events kills whoever handles it. The test starts again what dies. At the end
 * that event is a dead letter ("interrupted"), everything else was handled, also what was in hand beside it each time
 * and what comes after it in its key, and no other is dead.
 *
 *   shared_poison_test postgresql|redis SELF
 *
 * SELF is this program, which is its own victim: `SELF URL FILE CONSUMER PATTERN WHO ...`, as crew.c starts it. */
#include "crew.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CREW = 2, WORKERS = 4, KEYS = 12, EVENTS = 600, LIMIT = 6, DRAIN_MS = 20000 };
enum { BAD_KEY = 5, BAD_NUMBER = 3 };

/* ---- who handles ------------------------------------------------------------------------------- */

static int file;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void say(char kind, const char *key, unsigned n)
{
    char line[64];
    int len = snprintf(line, sizeof line, "%c %s %u\n", kind, key, n);
    KIT_CHECK(write(file, line, (size_t)len) == len, "cannot write: %s", strerror(errno));
}

static void work(void)
{
    pthread_cond_t nobody = PTHREAD_COND_INITIALIZER;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < 3; i++)
        kit_await_locked(&nobody, &lock);
    pthread_mutex_unlock(&lock);
}

static hark_verdict handle(hark_delivery *d, void *ud)
{
    const hark_event *e = hark_delivery_event(d);
    char bad[16], text[16] = "";
    size_t len;
    const void *data = hark_event_data(e, &len);
    (void)ud;
    KIT_CHECK(data && len < sizeof text && hark_event_key(e), "a strange event %s",
              hark_event_id(e));
    memcpy(text, data, len);
    unsigned n = (unsigned)strtoul(text, NULL, 10);
    (void)snprintf(bad, sizeof bad, "k%d", BAD_KEY);
    say('H', hark_event_key(e), n);
    if (n == BAD_NUMBER && strcmp(hark_event_key(e), bad) == 0)
        abort();
    work();
    say('A', hark_event_key(e), n);
    return HARK_ACK;
}

static int victim(char **argv)
{
    const struct rlimit no_core = {0};
    hark_errinfo ei;
    hark_bus *bus;
    hark_sub *sub;
    sigset_t end;
    int sig;
    (void)setrlimit(RLIMIT_CORE, &no_core);
    sigemptyset(&end);
    sigaddset(&end, SIGTERM);
    sigprocmask(SIG_BLOCK, &end, NULL);
    file = open(argv[2], O_WRONLY | O_APPEND | O_CLOEXEC);
    KIT_CHECK(file >= 0, "cannot open %s: %s", argv[2], strerror(errno));
    const hark_sub_opts o = {.size = sizeof o,
                             .consumer = argv[3],
                             .start = HARK_START_FIRST,
                             .workers = WORKERS,
                             .in_flight = WORKERS,
                             .max_interruptions = LIMIT};
    if (hark_open(argv[1], NULL, &bus, &ei))
        kit_fail("hark_open: %s", ei.text);
    if (hark_subscribe(bus, argv[4], handle, NULL, &o, &sub, &ei))
        kit_fail("hark_subscribe: %s", ei.text);
    (void)!write(STDOUT_FILENO, "up\n", 3);
    (void)sigwait(&end, &sig);
    if (hark_drain(bus, DRAIN_MS, &ei))
        kit_fail("hark_drain: %s", ei.text);
    hark_sub_unref(sub);
    hark_bus_unref(bus);
    return 0;
}

/* ---- who looks after them ---------------------------------------------------------------------- */

static crew team;
static crew_speaker speaker = {.keys = KEYS};
static unsigned deaths;

/* Starts again whoever has died; waits a moment. */
static void tend(int ms)
{
    struct pollfd said[CREW];
    char text[64];
    for (size_t i = 0; i < CREW; i++)
        said[i] = (struct pollfd){.fd = team.of[i].proc.out, .events = POLLIN};
    if (poll(said, CREW, ms) <= 0)
        return;
    for (size_t i = 0; i < CREW; i++) {
        if (!said[i].revents || read(said[i].fd, text, sizeof text) > 0)
            continue;
        int status = kit_wait(&team.of[i].proc, KIT_HUNG_MS);
        KIT_CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT,
                  "process %zu ended with wait status %#x", i, (unsigned)status);
        deaths++;
        crew_start(&team, i);
    }
}

static void await_the_end(void)
{
    int64_t end = kit_ms() + 2 * KIT_HUNG_MS;
    crew_state x = {0};
    do {
        KIT_CHECK(kit_ms() < end,
                  "after %u deaths: settled up to %llu, %llu open rows, %llu dead letters", deaths,
                  (unsigned long long)x.floor, (unsigned long long)x.open,
                  (unsigned long long)x.dead_letters);
        tend(20);
        x = crew_look(&team);
    } while (!x.found || x.floor < EVENTS || x.open || !x.dead_letters);
    KIT_CHECK(x.dead_letters == 1, "there are %llu dead letters",
              (unsigned long long)x.dead_letters);
}

static bool check_letter(const hark_dead_letter *l, void *ud)
{
    *(unsigned *)ud += 1;
    KIT_CHECK(strcmp(l->reason, "interrupted") == 0, "the dead letter's reason is %s", l->reason);
    KIT_CHECK(l->interruptions == LIMIT && l->crashes == 0 && l->attempts == 0,
              "it had %lld interruptions, %lld crashes, %lld attempts", (long long)l->interruptions,
              (long long)l->crashes, (long long)l->attempts);
    return true;
}

static void check_letters(void)
{
    unsigned n = 0;
    hark_errinfo ei;
    if (hark_dead_letters(team.bus, NULL, check_letter, &n, &ei))
        kit_fail("hark_dead_letters: %s", ei.text);
    KIT_CHECK(n == 1, "there are %u dead letters", n);
}

/* ---- what they wrote --------------------------------------------------------------------------- */

static unsigned acked[KEYS][EVENTS + 1], started[KEYS][EVENTS + 1];

static void take_line(const char *line, unsigned last[KEYS])
{
    char kind;
    unsigned key, n;
    if (line[0] == 'G') /* of crew_stop */
        return;
    KIT_CHECK(sscanf(line, "%c k%u %u", &kind, &key, &n) == 3 && key < KEYS && n <= EVENTS,
              "a strange line: %s", line);
    started[key][n] += kind == 'H';
    if (kind != 'A')
        return;
    acked[key][n]++;
    bool after_dead = key == BAD_KEY && n == BAD_NUMBER + 1 && last[key] == BAD_NUMBER - 1;
    KIT_CHECK(n <= last[key] + 1 || after_dead, "key %u: %u is handled after %u", key, n,
              last[key]);
    last[key] = n;
}

static void check_lines(void)
{
    unsigned last[KEYS] = {0};
    char *text = kit_slurp(team.path, NULL), *rest = NULL;
    KIT_CHECK(text, "there are no lines");
    for (char *l = strtok_r(text, "\n", &rest); l; l = strtok_r(NULL, "\n", &rest))
        take_line(l, last);
    free(text);
    for (unsigned key = 0; key < KEYS; key++)
        for (unsigned n = 1; n <= speaker.said[key]; n++) {
            bool bad = key == BAD_KEY && n == BAD_NUMBER;
            KIT_CHECK((acked[key][n] == 0) == bad, "number %u of key %u was handled %u times", n,
                      key, acked[key][n]);
        }
    /* at first it is no suspect */
    unsigned runs = started[BAD_KEY][BAD_NUMBER];
    KIT_CHECK(runs == LIMIT + 1, "it ran %u times", runs);
    KIT_CHECK(runs == deaths, "it ran %u times and %u processes died", runs, deaths);
    printf("it ran %u times\n", runs);
}

int main(int argc, char **argv)
{
    if (argc > 5)
        return victim(argv);
    KIT_CHECK(argc == 3, "usage: shared_poison_test postgresql|redis SELF");
    kit_guard();
    speaker.random = kit_seed();
    crew_open(&team, argv[1], argv[2], &(crew_how){.workers = WORKERS});
    for (unsigned i = 0; i < BAD_NUMBER; i++)
        crew_say_all_keys(&team, &speaker);
    while (speaker.total < EVENTS)
        crew_say(&team, &speaker, 12);
    KIT_CHECK(speaker.total == EVENTS, "%llu events", (unsigned long long)speaker.total);
    for (size_t i = 0; i < CREW; i++)
        crew_start(&team, i);
    await_the_end();
    for (size_t i = 0; i < CREW; i++)
        crew_stop(&team, i);
    check_lines();
    check_letters();
    crew_close(&team);
    return 0;
}
