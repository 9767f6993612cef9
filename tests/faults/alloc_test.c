/* Each allocation of a story fails once: those of the library, and new threads (the linker leads its
 * calls here), and those of SQLite. Every life runs in a process of its own and must end in order:
 * no crash, no hang, no leak, and what was acknowledged is in the log when it is opened again. */
#include "crash_vfs.h"
#include "kit.h"
#include "story.h"

#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FRAMES = 24, LIVE_MAX = 65536, PATIENCE_MS = 20000, REPORTS = 25 };
enum { OF_HARK, OF_SQLITE, DOMAINS };

/* A kind of failure: so many allocations in a row, and the number of lives in a short run. */
typedef struct plan {
    const char *what;
    int domain;
    size_t row, lives;
} plan;
static const plan plans[] = {{"an allocation of the library", OF_HARK, 1, 80},
                             {"an allocation of SQLite", OF_SQLITE, 1, 50},
                             {"40 allocations of the library", OF_HARK, 40, 20},
                             {"40 allocations of SQLite", OF_SQLITE, 40, 10}};
enum { PLANS = sizeof plans / sizeof *plans };
static const plan no_failure = {"none", OF_HARK, 0, 0};

/* ---- what fails ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    bool on;
    int domain;
    size_t n, row; /* the n-th fails, from 1, and so many in all */
    size_t count[DOMAINS];
} injection;

/* What a life without failure tells the others, and where one failed: in memory that all processes
 * share. */
typedef struct shared {
    size_t count[DOMAINS];
    const void *callers[256]; /* who keeps blocks for good: caches */
    size_t n_callers;
    sqlite3_int64 sqlite_used;
    void *frames[FRAMES];
    int n_frames;
} shared;
static shared *common;

static bool fails(int domain)
{
    pthread_mutex_lock(&lock);
    size_t n = injection.on ? ++injection.count[domain] : 0;
    bool now = injection.domain == domain && n >= injection.n && n < injection.n + injection.row;
    if (now && n == injection.n)
        common->n_frames = backtrace(common->frames, FRAMES);
    pthread_mutex_unlock(&lock);
    if (now)
        errno = ENOMEM;
    return now;
}

/* ---- blocks of the library that are not freed ---- */

typedef struct block {
    const void *p;
    const void *caller;
    size_t size;
} block;
static block blocks[LIVE_MAX]; /* a hash table */

static size_t slot_of(const void *p)
{
    return (size_t)(kit_hash(&p, sizeof p) % LIVE_MAX);
}

static void *keep(void *p, size_t size, const void *caller)
{
    if (!p)
        return p;
    pthread_mutex_lock(&lock);
    size_t i = slot_of(p), tries = 0;
    while (blocks[i].p && blocks[i].p != p && ++tries < LIVE_MAX)
        i = (i + 1) % LIVE_MAX;
    if (tries < LIVE_MAX)
        blocks[i] = (block){p, caller, size};
    pthread_mutex_unlock(&lock);
    return p;
}

/* Moves what comes after a hole into it, as such a table wants it. */
static void close_hole(size_t hole)
{
    blocks[hole].p = NULL;
    for (size_t i = (hole + 1) % LIVE_MAX; blocks[i].p; i = (i + 1) % LIVE_MAX) {
        size_t home = slot_of(blocks[i].p);
        bool stays = hole < i ? home > hole && home <= i : home > hole || home <= i;
        if (stays)
            continue;
        blocks[hole] = blocks[i];
        blocks[i].p = NULL;
        hole = i;
    }
}

static void drop(const void *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&lock);
    size_t i = slot_of(p);
    while (blocks[i].p && blocks[i].p != p)
        i = (i + 1) % LIVE_MAX;
    if (blocks[i].p)
        close_hole(i);
    pthread_mutex_unlock(&lock);
}

/* ---- the linker leads the library's calls here ---- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__real_aligned_alloc(size_t align, size_t size);
char *__real_strdup(const char *s);
void __real_free(void *p);
int __real_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*fn)(void *), void *arg);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_aligned_alloc(size_t align, size_t size);
char *__wrap_strdup(const char *s);
void __wrap_free(void *p);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*fn)(void *), void *arg);

#define CALLER __builtin_return_address(0)

void *__wrap_malloc(size_t size)
{
    return fails(OF_HARK) ? NULL : keep(__real_malloc(size), size, CALLER);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails(OF_HARK) ? NULL : keep(__real_calloc(n, size), n * size, CALLER);
}

void *__wrap_realloc(void *p, size_t size)
{
    if (fails(OF_HARK))
        return NULL;
    drop(p); /* before another thread can get the same place */
    return keep(__real_realloc(p, size), size, CALLER);
}

void *__wrap_aligned_alloc(size_t align, size_t size)
{
    return fails(OF_HARK) ? NULL : keep(__real_aligned_alloc(align, size), size, CALLER);
}

char *__wrap_strdup(const char *s)
{
    return fails(OF_HARK) ? NULL : keep(__real_strdup(s), strlen(s) + 1, CALLER);
}

void __wrap_free(void *p)
{
    drop(p);
    __real_free(p);
}

int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*fn)(void *), void *arg)
{
    return fails(OF_HARK) ? EAGAIN : __real_pthread_create(t, a, fn, arg);
}

/* ---- SQLite's allocator ---- */

static sqlite3_mem_methods sqlite_real;

static void *sqlite_malloc(int size)
{
    return fails(OF_SQLITE) ? NULL : sqlite_real.xMalloc(size);
}

static void *sqlite_realloc(void *p, int size)
{
    return fails(OF_SQLITE) ? NULL : sqlite_real.xRealloc(p, size);
}

static void lead_sqlite(void)
{
    KIT_CHECK(sqlite3_config(SQLITE_CONFIG_GETMALLOC, &sqlite_real) == SQLITE_OK, "SQLite");
    sqlite3_mem_methods mine = sqlite_real;
    mine.xMalloc = sqlite_malloc;
    mine.xRealloc = sqlite_realloc;
    KIT_CHECK(sqlite3_config(SQLITE_CONFIG_MALLOC, &mine) == SQLITE_OK &&
                  sqlite3_initialize() == SQLITE_OK,
              "SQLite does not take an allocator");
}

/* ---- one life ---- */

static size_t now(void)
{
    return 0;
}

static bool is_cache(const void *caller)
{
    for (size_t i = 0; i < common->n_callers; i++)
        if (common->callers[i] == caller)
            return true;
    return false;
}

static void note_caches(void)
{
    for (size_t i = 0; i < LIVE_MAX; i++)
        if (blocks[i].p && !is_cache(blocks[i].caller) &&
            common->n_callers < sizeof common->callers / sizeof *common->callers)
            common->callers[common->n_callers++] = blocks[i].caller;
    common->sqlite_used = sqlite3_memory_used();
}

static size_t count_leaks(bool show)
{
    size_t n = 0;
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < LIVE_MAX; i++) {
        void *at[1];
        if (!blocks[i].p || is_cache(blocks[i].caller))
            continue;
        n++;
        memcpy(at, &blocks[i].caller, sizeof *at);
        if (!show)
            continue;
        (void)fprintf(stderr, "%zu bytes of:\n", blocks[i].size);
        backtrace_symbols_fd(at, 1, STDERR_FILENO);
    }
    pthread_mutex_unlock(&lock);
    return n;
}

/* A thread of the bus that ends last frees it, and is not waited for to the last instruction. */
static void find_leaks(void)
{
    int64_t end = kit_ms() + 5000;
    while (count_leaks(false) > 0 && kit_ms() < end)
        (void)sched_yield();
    size_t n = count_leaks(true);
    KIT_CHECK(n == 0, "%zu blocks leak", n);
    KIT_CHECK(sqlite3_memory_used() <= common->sqlite_used, "SQLite keeps %lld bytes",
              (long long)sqlite3_memory_used());
}

static _Noreturn void live(const plan *p, size_t n, const char *path)
{
    static story s;
    static char url[300];
    void *warm[2];
    (void)backtrace(warm, 2); /* its first call allocates */
    (void)snprintf(url, sizeof url, "sqlite:%s", path);
    s = (story){.url = url, .now = now, .patience_ms = PATIENCE_MS};
    (void)alarm(5 * PATIENCE_MS / 1000);
    pthread_mutex_lock(&lock);
    injection.on = true;
    injection.domain = p->domain;
    injection.row = p->row;
    injection.n = n;
    pthread_mutex_unlock(&lock);
    story_live(&s);
    pthread_mutex_lock(&lock);
    injection.on = false;
    pthread_mutex_unlock(&lock);
    memcpy(common->count, injection.count, sizeof common->count);
    if (n == 0)
        note_caches();
    find_leaks();
    KIT_CHECK(!*s.stuck, "waited in vain for %s", s.stuck);
    story_audit(&s, path, 0, "afterwards", true);
    exit(0); /* where there is a leak checker it runs now */
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st;
    (void)kind;
    return at->level ? remove(path) : 0;
}

static int run(const plan *p, size_t n)
{
    char path[256];
    int status = 0;
    KIT_CHECK(nftw(kit_path("log"), remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0, "cannot empty %s",
              kit_path("log"));
    (void)snprintf(path, sizeof path, "%s/x.db", kit_path("log"));
    (void)fflush(stdout);
    common->n_frames = 0;
    pid_t pid = fork();
    KIT_CHECK(pid >= 0, "fork: %s", strerror(errno));
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        int err = open(kit_path("stderr"), O_WRONLY | O_CREAT | O_TRUNC, 0644);
        (void)dup2(err, STDERR_FILENO);
        live(p, n, path);
    }
    KIT_CHECK(waitpid(pid, &status, 0) == pid, "waitpid: %s", strerror(errno));
    return status;
}

/* ---- all of them ---- */

static void report(const plan *p, size_t n, int status)
{
    char *text = kit_slurp(kit_path("stderr"), NULL);
    size_t len = text ? strlen(text) : 0;
    printf("\n%s, from number %zu on (HARK_TEST_POINT=%zu:%zu): ", p->what, n, (size_t)(p - plans),
           n);
    if (WIFSIGNALED(status))
        printf("%s\n", WTERMSIG(status) == SIGALRM ? "it hangs" : strsignal(WTERMSIG(status)));
    else
        printf("exit code %d\n", WEXITSTATUS(status));
    printf("%s\nIt failed in:\n", text ? text + (len > 3000 ? len - 3000 : 0) : "");
    (void)fflush(stdout);
    backtrace_symbols_fd(common->frames, common->n_frames, STDOUT_FILENO);
    free(text);
}

static size_t fail_each(const plan *p, size_t total, uint64_t seed)
{
    int64_t begin = kit_ms();
    size_t step = kit_long() ? 1 : total / p->lives + 1, failures = 0, done = 0;
    for (size_t n = 1 + kit_random(&seed) % step; n <= total; n += step, done++) {
        int status = run(p, n);
        if (!kit_exited(status, 0) && ++failures <= REPORTS)
            report(p, n, status);
    }
    printf("%s failed: %zu lives, at every %zu. of %zu, in %lld ms; %zu did not end well\n",
           p->what, done, step, total, (long long)(kit_ms() - begin), failures);
    return failures;
}

/* HARK_TEST_POINT=plan:n repeats one life. */
static bool one_point(size_t *ret_plan, size_t *ret_n)
{
    const char *point = getenv("HARK_TEST_POINT");
    return point && sscanf(point, "%zu:%zu", ret_plan, ret_n) == 2 && *ret_plan < PLANS;
}

int main(void)
{
    size_t plan_number, n;
    kit_guard();
    uint64_t seed = kit_seed();
    lead_sqlite();
    common = mmap(NULL, sizeof *common, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    KIT_CHECK(common != MAP_FAILED && mkdir(kit_path("log"), 0755) == 0, "no memory or directory");
    crash_vfs_hurry();
    int status = run(&no_failure, 0);
    if (!kit_exited(status, 0)) {
        report(&plans[0], 0, status);
        kit_fail("the story does not end well without any failure");
    }
    if (one_point(&plan_number, &n)) {
        status = run(&plans[plan_number], n);
        report(&plans[plan_number], n, status);
        return kit_exited(status, 0) ? 0 : 1;
    }
    size_t total[DOMAINS], failures = 0;
    memcpy(total, common->count, sizeof total);
    for (size_t i = 0; i < PLANS; i++)
        failures += fail_each(&plans[i], total[plans[i].domain], kit_random(&seed));
    KIT_CHECK(failures == 0, "%zu lives with a failed allocation did not end well", failures);
    return 0;
}
