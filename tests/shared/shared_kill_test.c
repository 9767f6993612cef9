/* Four processes share one consumer over 1000 keys; again and again one of them is killed -9 and started
 * anew, while the test publishes. At the end nothing is lost, order in every key was kept, what came
 * again came of a kill, and what handlers published is there once. trail.c says what is looked at. */
#include "trail.h"

#include <stdio.h>

enum { CREW = 4, KEYS = 1000, BACKLOG = 1500, BATCH = 40 };

static crew team;
static crew_speaker speaker = {.keys = KEYS};
static trail seen;

/* Publishes until the time is over, no faster than they handle it. */
static void publish_for(int64_t ms)
{
    for (int64_t end = kit_ms() + ms; kit_ms() < end;) {
        trail_read(&seen);
        if (speaker.total - seen.handled < BACKLOG)
            crew_say(&team, &speaker, BATCH);
        else
            crew_wait(&team, 2);
    }
}

static void kill_them(unsigned kills, int64_t every_ms)
{
    for (unsigned i = 0; i < kills; i++) {
        publish_for(every_ms);
        size_t victim = kit_random(&speaker.random) % CREW;
        crew_kill(&team, victim);
        crew_start(&team, victim);
    }
}

int main(int argc, char **argv)
{
    KIT_CHECK(argc == 3, "usage: shared_kill_test postgresql|redis VICTIM");
    kit_guard();
    speaker.random = kit_seed();
    unsigned kills = kit_long() ? 90 : 10;
    crew_open(&team, argv[1], argv[2],
              &(crew_how){.workers = 4, .work_us = 1000, .retry_every = 29, .echo_every = 8});
    trail_open(&seen, &team, &speaker);
    for (size_t i = 0; i < CREW; i++)
        crew_start(&team, i);
    for (size_t i = 0; i < CREW; i++)
        crew_up(&team, i);
    int64_t begin = kit_ms();
    kill_them(kills, kit_long() ? 1000 : 300);
    int64_t killed = kit_ms();
    trail_all_handled(&seen, &team);
    crew_all_settled(&team, seen.newest);
    int64_t done = kit_ms();
    for (size_t i = 0; i < CREW; i++) {
        crew_up(&team, i);
        crew_stop(&team, i);
    }
    trail_read(&seen);
    crew_check_log(&team, CREW_TYPE, speaker.total);
    crew_check_log(&team, CREW_ECHO, seen.echoes);
    printf("%u kills in %lld ms, the rest was through %lld ms later\n", kills,
           (long long)(killed - begin), (long long)(done - killed));
    trail_print(&seen, "kill");
    trail_close(&seen);
    crew_close(&team);
    return 0;
}
