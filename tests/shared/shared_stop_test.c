/* Two processes share a consumer; one of them stands still (SIGSTOP) for longer than its lease, with
 * deliveries in hand. The other one goes on with its keys, in order. When the first goes on (SIGCONT), it rejects
 * what it still has in hand, and that changes nothing: no dead letter comes of it. Then it gets
 * keys again. With handlers, and with deliveries that are pulled: there hark_settle says HARK_ESTALE. */
#include "trail.h"

#include <stdio.h>

enum { KEYS = 64, WORKERS = 4, LEASE_MS = 1000, STILL = 0, OTHER = 1 };

static crew team;
static crew_speaker speaker;
static trail seen;

/* Both have handled something since. */
static void both_work(void)
{
    int64_t end = kit_ms() + KIT_HUNG_MS;
    uint32_t a = team.of[STILL].who, b = team.of[OTHER].who;
    uint64_t before[2] = {seen.of[a].handled, seen.of[b].handled};
    do {
        KIT_CHECK(kit_ms() < end,
                  "both should get keys within %d s; of %llu events process %u handled %llu, "
                  "process %u %llu",
                  KIT_HUNG_MS / 1000, (unsigned long long)speaker.total, a,
                  (unsigned long long)(seen.of[a].handled - before[0]), b,
                  (unsigned long long)(seen.of[b].handled - before[1]));
        crew_say(&team, &speaker, 16);
        trail_all_handled(&seen, &team);
    } while (seen.of[a].handled == before[0] || seen.of[b].handled == before[1]);
}

/* It stands still with something in hand. */
static uint32_t freeze(void)
{
    int64_t end = kit_ms() + KIT_HUNG_MS;
    for (;;) {
        crew_say_all_keys(&team, &speaker);
        trail_read(&seen);
        while (trail_in_hand(&seen, team.of[STILL].who) == 0 && seen.handled < speaker.total) {
            crew_wait(&team, 1);
            trail_read(&seen);
        }
        crew_freeze(&team, STILL);
        trail_read(&seen);
        uint32_t in_hand = trail_in_hand(&seen, team.of[STILL].who);
        if (in_hand)
            return in_hand;
        KIT_CHECK(kit_ms() < end, "it never had anything in hand when it was stopped");
        crew_thaw(&team, STILL);
        trail_all_handled(&seen, &team);
    }
}

static void stop_and_go_on(bool pull)
{
    seen.said = &speaker;
    crew_start(&team, STILL);
    crew_start(&team, OTHER);
    crew_up(&team, STILL);
    crew_up(&team, OTHER);
    both_work();
    uint32_t in_hand = freeze();
    int64_t stopped = kit_ms();
    crew_say_all_keys(&team, &speaker);
    trail_all_handled(&seen, &team); /* by the other one: the first stands still */
    int64_t taken_ms = kit_ms() - stopped;
    uint64_t before = seen.of[team.of[STILL].who].handled;
    crew_thaw(&team, STILL);
    both_work();
    crew_all_settled(&team, seen.newest);
    crew_stop(&team, STILL);
    crew_stop(&team, OTHER);
    trail_read(&seen);
    crew_all_settled(&team, seen.newest);
    crew_check_log(&team, CREW_TYPE, speaker.total);
    KIT_CHECK(!pull || seen.stale,
              "of %u in hand when it was stopped, none was refused with HARK_ESTALE", in_hand);
    printf("%u in hand when it was stopped; the other was through %lld ms later (lease %d ms); "
           "%llu handled by the first before, %llu after it went on\n",
           in_hand, (long long)taken_ms, LEASE_MS, (unsigned long long)before,
           (unsigned long long)(seen.of[team.n_who - 1].handled - before));
    trail_print(&seen, pull ? "pulled" : "handlers");
}

int main(int argc, char **argv)
{
    KIT_CHECK(argc == 3, "usage: shared_stop_test postgresql|redis VICTIM");
    kit_guard();
    uint64_t seed = kit_seed();
    crew_how how = {.workers = WORKERS, .work_us = 20000, .lease_ms = LEASE_MS};
    crew_open(&team, argv[1], argv[2], &how);
    for (int round = 0; round < (kit_long() ? 12 : 2); round++) {
        how.pull = round % 2 == 1;
        if (round)
            crew_afresh(&team, &how);
        speaker = (crew_speaker){.keys = KEYS, .random = seed + (uint64_t)round};
        trail_open(&seen, &team, &speaker);
        stop_and_go_on(how.pull);
        trail_close(&seen);
    }
    crew_close(&team);
    return 0;
}
