/* sim: runs seeds of the simulated world.
 *
 *     sim                30 s of seeds from 1 on; 10 min with HARK_TEST_LONG=1
 *     sim SEED           one seed, with its history
 *     sim FIRST N        N seeds
 *     sim --plants       each mistake planted in the core must be found within 10000 seeds
 *     sim --plant K [SEED]  one of them, or its history in one seed
 *
 * Seeds run in a child, so that a failed assertion of the core is a finding like any other. */
#include "shares.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { AUDITED = 3 };         /* how a child ends whose auditor found something */
enum { PLANT_SEEDS = 10000 }; /* a planted mistake is found within so many */

int hk_planted; /* see HK_BUG */

static const struct {
    int n;
    const char *what;
} plants[] = {
    {1, "a lane's next event is not woken"},
    {2, "the floor is one too high"},
    {3, "the row of an acked event is not dropped"},
    {4, "a retry is not urgent"},
    {5, "timeouts do not count as attempts"},
    {6, "crashes count as attempts"},
    {7, "lanes are loaded in the wrong order"},
    {8, "a stale lease is accepted"},
    {9, "a parked lane goes on"},
    {10, "the last settled range is left out"},
    {11, "settled ranges of an earlier run are not clipped"},
    {12, "a retry goes on though its save failed"},
    {13, "pauses exceed the policy's most"},
    {14, "max_deferred is ignored"},
    {15, "the window is ignored"},
    {16, "what arrives behind a dead letter stays in memory"},
    {17, "an unstarted event has had an attempt"},
    {18, "a redriven event keeps its attempts"},
    {19, "a discarded dead letter keeps its lane parked"},
    {20, "crashes of an event that is read again are forgotten"},
    {21, "a row that only counts outlives its event"},
    {22, "one attempt too many"},
    {23, "one crash too many"},
    {24, "leases cannot be extended"},
    {25, "retries come before their time"},
    {26, "what an earlier run settled is read again"},
    {27, "the end of a lease wakes nobody"},
    {28, "a retry that is due wakes nobody"},
    {29, "pause is ignored"},
    {30, "a replay's rate is ignored"},
    {31, "what changes while it is being saved is not saved again"},
    {32, "a failed save forgets the attempt log"},
    {33, "a redriven event behind its lane's head comes before its time"},
    {34, "dead rows are left when the policy becomes `continue`"},
    {35, "the highest sequence falls"},
    {36, "a dead letter is not urgent"},
    {37, "interruptions count as crashes"},
    {38, "what is queued behind a retry stays in memory"},
    {39, "a gap that is handed out while another is saved is forgotten"},
    {40, "a replay that keeps its pace holds up the others"},
    {41, "a dead row that is redriven is dropped"},
    {42, "a stored time is trusted though the clock was set"},
    {43, "the core is told of a discarded letter that parks nothing"},
    {44, "of what is queued behind a retry only the last goes to the ledger"},
    {45, "the row of a committed ack is not dropped"},
    {46, "a sealed attempt times out"},
    {47, "an unsealed attempt never times out"},
    {48, "an event that is postponed has had an attempt"},
    {49, "the attempt of a buried event is not logged"},
    {50, "the core is told of an ack of before a reset"},
    {51, "an ack of before a reset is committed"},
    {52, "a save of before an ack replaces its row"},
    {53, "the attempt of a buried event is not counted"},
    {54, "an effect is committed without its ack"},
    {55, "an event that was only postponed has a first attempt"},
    {56, "a sealed attempt that is extended times out"},
    {57, "what is parked is said to be open"},
    {58, "what an earlier run settled is said to be ahead"},
    {59, "an ack is committed without its effect"},
    {60, "what a transaction settled is forgotten when the consumer is loaded"},
    {61, "the letters that a committed ack answers for stay"},
    {62, "what is postponed waits out its pause in the next process, too"},
    {63, "a lease of an earlier life of a share is accepted"},
    {64, "a save's token is not compared"},
    {65, "a share is released before it is dry"},
    {66, "a page skips what a share that came meanwhile has not read"},
    {67, "each share has all the workers"},
    {68, "what starts first is not the lowest of all shares"},
    {69, "a share that is dropped while it is saved is never freed"},
    {70, "what was refused counts as saved"},
    {71, "a share whose save is stale goes on"},
    {72, "a share is claimed without its rows"},
    {73, "what was lost is kept"},
    {74, "a process that says again that it lives goes on before it was answered"},
    {75, "an ack's token is not compared"},
    {76, "what a claim has brought is told once more"},
    {77, "a share that came back is saved as it was before"},
    {78, "how far shares have read is never saved"},
    {79, "the shares of the dead stay theirs"},
    {80, "deliveries start though the lease is over"},
    {81, "what a dead process may have run is no suspect"},
    {82, "a suspect starts before its mark is committed"},
    {83, "a mark is kept after an orderly end"},
    {84, "deliveries start beyond what is claimed"},
    {85, "a claim counts before it is committed"},
    {86, "marks of what did not run stay when its share leaves"},
    {87, "what was interrupted often runs beside others"},
    {88, "others start before it is on record that what would run alone does not"},
    {89, "a share given up in order forgets what had killed an owner before"},
};
enum { FIRST_OF_SHARES = 63 }; /* those from here on are looked for in the world of shares */

int sim_memory_in = -1;

static bool memory_out(void)
{
    return sim_memory_in >= 0 && sim_memory_in-- == 0;
}

void *sim_malloc(size_t n)
{
    return memory_out() ? NULL : malloc(n);
}

void *sim_calloc(size_t n, size_t size)
{
    return memory_out() ? NULL : calloc(n, size);
}

void *sim_realloc(void *p, size_t n)
{
    return memory_out() ? NULL : realloc(p, n);
}

/* One seed in both worlds. */
static void run_seed(uint64_t seed, bool loud)
{
    if (hk_planted < FIRST_OF_SHARES)
        sim_run(seed, loud);
    if (!hk_planted || hk_planted >= FIRST_OF_SHARES)
        shares_run(seed, loud);
}

static uint64_t *seed_now; /* shared with the child */

void sim_say(const sim_world *w, const char *fmt, ...)
{
    if (!w->loud)
        return;
    va_list ap;
    va_start(ap, fmt);
    (void)printf("%10.3f ms  ", (double)w->mono / 1e6);
    (void)vprintf(fmt, ap);
    (void)printf("\n");
    (void)fflush(stdout);
    va_end(ap);
}

void sim_fail(const sim_world *w, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)fprintf(stderr, "seed %llu at %.3f ms: ", (unsigned long long)w->seed,
                  (double)w->mono / 1e6);
    (void)vfprintf(stderr, fmt, ap);
    (void)fprintf(stderr, "\n");
    va_end(ap);
    _exit(AUDITED);
}

static int64_t clock_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Runs seeds until one fails, `n` are done or the time is over; 0 = none failed. */
static uint64_t run_seeds(uint64_t first, uint64_t n, int64_t for_ns, bool quiet, int *ret_status)
{
    int64_t end = for_ns < 0 ? INT64_MAX : clock_ns() + for_ns;
    (void)fflush(NULL);
    pid_t child = fork();
    if (child < 0)
        return first;
    if (child == 0) {
        if (quiet && !freopen("/dev/null", "w", stderr))
            _exit(2);
        for (*seed_now = first; *seed_now < first + n && clock_ns() < end; ++*seed_now)
            run_seed(*seed_now, false);
        exit(0);
    }
    if (waitpid(child, ret_status, 0) != child)
        return first;
    return *ret_status == 0 ? 0 : *seed_now;
}

static int run_range(const char *me, uint64_t first, uint64_t n, int64_t for_ns)
{
    int status = 0;
    uint64_t failed = run_seeds(first, n, for_ns, false, &status);
    if (!failed) {
        (void)printf("%llu seeds, all promises kept\n", (unsigned long long)(*seed_now - first));
        return 0;
    }
    char plant[32] = "";
    if (hk_planted)
        (void)snprintf(plant, sizeof plant, "--plant %d ", hk_planted);
    (void)fprintf(stderr, "seed %llu failed; its history: %s %s%llu\n", (unsigned long long)failed,
                  me, plant, (unsigned long long)failed);
    return 1;
}

/* True when it was found. */
static bool run_plant(const char *me, size_t i)
{
    int status = 0;
    hk_planted = plants[i].n;
    uint64_t seed = run_seeds(1, PLANT_SEEDS, -1, true, &status);
    hk_planted = 0;
    bool audited = WIFEXITED(status) && WEXITSTATUS(status) == AUDITED;
    if (seed)
        (void)printf("plant %2d found by seed %5llu, %s: %s\n", plants[i].n,
                     (unsigned long long)seed,
                     audited ? "by the auditor" : "by an assertion or a sanitizer", plants[i].what);
    else
        (void)printf("plant %2d NOT FOUND in %d seeds: %s; try: %s --plant %d\n", plants[i].n,
                     PLANT_SEEDS, plants[i].what, me, plants[i].n);
    return seed != 0;
}

static int run_plants(const char *me)
{
    size_t n = sizeof plants / sizeof *plants, found = 0;
    for (size_t i = 0; i < n; i++)
        found += run_plant(me, i);
    (void)printf("%zu of %zu planted mistakes found\n", found, n);
    return found == n ? 0 : 1;
}

static uint64_t number(const char *s)
{
    char *end;
    uint64_t n = strtoull(s, &end, 10);
    if (*s && !*end)
        return n;
    (void)fprintf(stderr, "sim: '%s' is no number; give SEED, FIRST N, --plants or nothing\n", s);
    exit(64);
}

int main(int argc, char **argv)
{
    void *shared =
        mmap(NULL, sizeof *seed_now, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return 1;
    seed_now = shared;
    if (argc > 1 && strcmp(argv[1], "--plants") == 0)
        return run_plants(argv[0]);
    if (argc > 2 && strcmp(argv[1], "--plant") == 0) {
        hk_planted = (int)number(argv[2]);
        if (argc == 3)
            return run_range(argv[0], 1, PLANT_SEEDS, -1);
        run_seed(number(argv[3]), true);
        return 0;
    }
    if (argc == 2) {
        run_seed(number(argv[1]), true);
        (void)printf("seed %s: all promises kept\n", argv[1]);
        return 0;
    }
    if (argc > 2)
        return run_range(argv[0], number(argv[1]), number(argv[2]), -1);
    int64_t seconds = getenv("HARK_TEST_LONG") ? 600 : getenv("HARK_TEST_BRIEF") ? 15 : 30;
    return run_range(argv[0], 1, UINT64_MAX - 1, seconds * INT64_C(1000000000));
}
