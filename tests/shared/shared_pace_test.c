/* How much faster two processes are than one on the same consumer: slow events of 1000 keys, all published
 * before the time is taken. Order is looked at too. */
#include "trail.h"

#include <stdio.h>

enum { KEYS = 1000, WORKERS = 4 };

static crew team;
static crew_speaker speaker;
static trail seen;

static void pause_it(bool on)
{
    hark_errinfo ei;
    hark_err err = on ? hark_consumer_pause(team.bus, CREW_CONSUMER, &ei)
                      : hark_consumer_resume(team.bus, CREW_CONSUMER, &ei);
    if (err)
        kit_fail("pause, resume: %s", ei.text);
}

/* All of them have keys. */
static void all_work(size_t n)
{
    int64_t end = kit_ms() + KIT_HUNG_MS;
    bool all;
    do {
        KIT_CHECK(kit_ms() < end, "%zu processes should all get keys within %d s", n,
                  KIT_HUNG_MS / 1000);
        crew_say(&team, &speaker, CREW_BATCH);
        trail_all_handled(&seen, &team);
        all = true;
        for (size_t i = 0; i < n; i++)
            all = all && seen.of[team.of[i].who].handled > 0;
    } while (!all);
}

/* The consumer is paused, but they may have to hear of it first. Returns how many were handled before. */
static uint64_t hold_back(unsigned events)
{
    int64_t end = kit_ms() + KIT_HUNG_MS;
    for (trail_read(&seen); speaker.total - seen.handled < events; trail_read(&seen)) {
        KIT_CHECK(kit_ms() < end,
                  "the consumer is paused, and goes on all the same: %llu of %llu "
                  "events were handled",
                  (unsigned long long)seen.handled, (unsigned long long)speaker.total);
        crew_say(&team, &speaker, CREW_BATCH);
    }
    seen.first_us = 0;
    return seen.handled;
}

/* us for 1000 events, from the first to the last. */
static int64_t time_of(size_t n, unsigned events, uint64_t seed)
{
    speaker = (crew_speaker){.keys = KEYS, .random = seed};
    trail_open(&seen, &team, &speaker);
    for (size_t i = 0; i < n; i++)
        crew_start(&team, i);
    for (size_t i = 0; i < n; i++)
        crew_up(&team, i);
    all_work(n);
    crew_all_settled(&team, seen.newest);
    pause_it(true);
    uint64_t before = hold_back(events);
    pause_it(false);
    trail_all_handled(&seen, &team);
    int64_t us = seen.last_us - seen.first_us;
    crew_all_settled(&team, seen.newest);
    for (size_t i = 0; i < n; i++)
        crew_stop(&team, i);
    trail_read(&seen);
    uint64_t handled = seen.handled - before;
    printf("%zu processes: %llu events in %lld ms\n", n, (unsigned long long)handled,
           (long long)(us / 1000));
    KIT_CHECK(seen.repeats == 0, "nothing died, and %llu events came again",
              (unsigned long long)seen.repeats);
    trail_print(&seen, "pace");
    trail_close(&seen);
    return us * 1000 / (int64_t)handled;
}

int main(int argc, char **argv)
{
    KIT_CHECK(argc == 3, "usage: shared_pace_test postgresql|redis VICTIM");
    kit_guard();
    uint64_t seed = kit_seed();
    unsigned events = kit_long() ? 100000 : 5000;
    double limit = kit_long() ? 0.6 : 0.75;
    const crew_how how = {.workers = WORKERS, .work_us = 1000};
    crew_open(&team, argv[1], argv[2], &how);
    int64_t one = time_of(1, events, seed);
    crew_afresh(&team, &how);
    int64_t two = time_of(2, events, seed);
    double ratio = (double)two / (double)one;
    printf("%u events of 1 ms, %d keys, %d workers each: one process takes %lld us for 1000, two "
           "%lld us: %.2f\n",
           events, KEYS, WORKERS, (long long)one, (long long)two, ratio);
    KIT_CHECK(kit_brief() || ratio <= limit,
              "two processes should take at most %.2f of the time of one; they took %.2f", limit,
              ratio);
    crew_close(&team);
    return 0;
}
