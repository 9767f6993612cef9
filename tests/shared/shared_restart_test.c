/* The server is killed and started again (and, the second time, stopped in good order) in the middle of
 * publishing by four threads, and of handling and retrying by two processes. Nothing that has a receipt is lost,
 * nothing is there twice, order is kept in every key, and nothing comes again, since no process died. What had an
 * unknown outcome is published again with the same id, and is there once. */
#include "trail.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { PUBLISHERS = 4, KEYS = 200, CREW = 2, UNTIL = 600 };

static crew team;
static crew_speaker speaker = {.keys = KEYS};
static trail seen;

/* A publisher has the keys that are its number modulo all. */
typedef struct publisher {
    pthread_t thread;
    uint32_t number;
    uint64_t receipts, transient, unknown, duplicates;
    char unknown_text[512], transient_text[512];
} publisher;

static publisher publishers[PUBLISHERS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* speaker, receipts, enough */
static bool enough;

static void note_failure(publisher *p, hark_err err, const hark_errinfo *ei)
{
    hark_class class = hark_err_class(err);
    KIT_CHECK(class == HARK_CLASS_TRANSIENT || class == HARK_CLASS_UNKNOWN,
              "a restart of the server should be transient or unknown to a publisher, not %s: %s",
              hark_err_name(err), ei->text);
    bool unknown = class == HARK_CLASS_UNKNOWN;
    p->unknown += unknown;
    p->transient += !unknown;
    (void)snprintf(unknown ? p->unknown_text : p->transient_text, sizeof p->unknown_text, "%s: %s",
                   hark_err_name(err), ei->text);
}

/* Until there is a receipt, always with the same id; the events of a key one after the other. */
static void publish_one(publisher *p, const crew_word *w)
{
    hark_errinfo ei = {.text = ""};
    hark_receipt r;
    hark_err err;
    int64_t end = kit_ms() + KIT_HUNG_MS;
    while ((err = hark_publish_ei(team.bus, &w->spec, &r, &ei)) != HARK_OK) {
        note_failure(p, err, &ei);
        KIT_CHECK(kit_ms() < end, "%s cannot be published for %d s: %s: %s", w->id,
                  KIT_HUNG_MS / 1000, hark_err_name(err), ei.text);
        pthread_mutex_lock(&lock);
        pthread_cond_t nobody = PTHREAD_COND_INITIALIZER;
        kit_await_locked(&nobody, &lock);
        pthread_mutex_unlock(&lock);
    }
    pthread_mutex_lock(&lock);
    p->receipts++;
    p->duplicates += r.duplicate != 0;
    pthread_mutex_unlock(&lock);
}

static void *publish(void *arg)
{
    publisher *p = arg;
    crew_word w;
    for (uint32_t i = p->number;; i += PUBLISHERS) {
        pthread_mutex_lock(&lock);
        bool stop = enough;
        if (!stop)
            crew_next_word(&speaker, i % KEYS, &w);
        pthread_mutex_unlock(&lock);
        if (stop)
            return NULL;
        publish_one(p, &w);
    }
}

static uint64_t receipts(void)
{
    uint64_t n = 0;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < PUBLISHERS; i++)
        n += publishers[i].receipts;
    pthread_mutex_unlock(&lock);
    return n;
}

/* So many more are published and so many more handled: it goes on. */
static void go_on(uint64_t more, const char *when)
{
    int64_t end = kit_ms() + KIT_HUNG_MS;
    uint64_t published = receipts() + more, handled = seen.handled + more;
    for (;;) {
        pthread_mutex_lock(&lock); /* `said` is looked at */
        trail_read(&seen);
        pthread_mutex_unlock(&lock);
        if (receipts() >= published && seen.handled >= handled)
            return;
        KIT_CHECK(kit_ms() < end,
                  "%s: %llu events should be published and %llu handled by now; there are %llu and "
                  "%llu",
                  when, (unsigned long long)published, (unsigned long long)handled,
                  (unsigned long long)receipts(), (unsigned long long)seen.handled);
        crew_wait(&team, 2);
    }
}

static void restart(bool in_order)
{
    int64_t begin = kit_ms();
    if (in_order)
        server_stop(team.server);
    else
        server_kill(team.server);
    server_start(team.server);
    printf("the server was %s, and answered again after %lld ms\n", in_order ? "stopped" : "killed",
           (long long)(kit_ms() - begin));
}

static void tell(void)
{
    for (int i = 0; i < PUBLISHERS; i++) {
        const publisher *p = &publishers[i];
        printf(
            "publisher %d: %llu receipts, %llu of them duplicates, %llu transient and %llu unknown "
            "errors\n",
            i, (unsigned long long)p->receipts, (unsigned long long)p->duplicates,
            (unsigned long long)p->transient, (unsigned long long)p->unknown);
        if (p->transient)
            printf("  transient, the last: %s\n", p->transient_text);
        if (p->unknown)
            printf("  unknown, the last: %s\n", p->unknown_text);
        KIT_CHECK(p->duplicates <= p->unknown,
                  "publisher %d got %llu duplicates of %llu unknown outcomes", i,
                  (unsigned long long)p->duplicates, (unsigned long long)p->unknown);
    }
}

int main(int argc, char **argv)
{
    (void)setenv("HARK_LOG", "error", 0); /* what every refused publish says, is counted */
    KIT_CHECK(argc == 3, "usage: shared_restart_test postgresql|redis VICTIM");
    kit_guard();
    speaker.random = kit_seed();
    crew_open(&team, argv[1], argv[2],
              &(crew_how){.workers = 4, .work_us = 500, .retry_every = 5, .lease_ms = 60000});
    trail_open(&seen, &team, &speaker);
    for (size_t i = 0; i < CREW; i++)
        crew_start(&team, i);
    for (size_t i = 0; i < CREW; i++)
        crew_up(&team, i);
    for (uint32_t i = 0; i < PUBLISHERS; i++) {
        publishers[i].number = i;
        KIT_CHECK(pthread_create(&publishers[i].thread, NULL, publish, &publishers[i]) == 0,
                  "no thread");
    }
    go_on(UNTIL, "before the first restart");
    for (int i = 0; i < (kit_long() ? 20 : 2); i++) {
        restart(i % 2 == 1);
        go_on(UNTIL, "after a restart");
    }
    pthread_mutex_lock(&lock);
    enough = true;
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < PUBLISHERS; i++)
        pthread_join(publishers[i].thread, NULL);
    trail_all_handled(&seen, &team);
    crew_all_settled(&team, seen.newest);
    for (size_t i = 0; i < CREW; i++)
        crew_stop(&team, i);
    trail_read(&seen);
    tell();
    crew_check_log(&team, CREW_TYPE, speaker.total);
    KIT_CHECK(seen.repeats == 0, "no process died, and %llu events came again",
              (unsigned long long)seen.repeats);
    trail_print(&seen, "restart");
    trail_close(&seen);
    crew_close(&team);
    return 0;
}
