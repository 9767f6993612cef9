/* kit: see kit.h. The guard is a parent process that does nothing but wait and clean up, so that a
 * test that crashes, hangs or is told to stop leaves as little behind as one that passes. */
#include "kit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char scratch[96];
static pid_t worker;
static char *kept[128]; /* paths */

_Noreturn void kit_fail(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)fflush(stdout);
    (void)fputs("FAILED: ", stderr);
    (void)vfprintf(stderr, fmt, ap);
    (void)fputs("\n", stderr);
    va_end(ap);
    exit(1);
}

/* ---- the guard ---- */

static void stop_worker(int sig)
{
    (void)sig;
    kill(worker, SIGKILL);
}

/* Descendants of a dead parent come to the guard, their subreaper. */
static void kill_orphans(void)
{
    for (;;) {
        char path[64];
        long pid;
        (void)snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
        FILE *f = fopen(path, "r");
        while (f && fscanf(f, "%ld", &pid) == 1)
            kill((pid_t)pid, SIGKILL);
        if (f)
            (void)fclose(f);
        if (waitpid(-1, NULL, 0) < 0 && errno == ECHILD)
            return;
    }
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st;
    (void)kind;
    (void)at;
    return remove(path);
}

static int guard(void)
{
    struct sigaction sa = {.sa_handler = stop_worker};
    int status = 0;
    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGHUP, &sa, NULL);
    while (waitpid(worker, &status, 0) < 0 && errno == EINTR)
        continue;
    kill_orphans();
    if (nftw(scratch, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0)
        (void)fprintf(stderr, "cannot remove %s: %s\n", scratch, strerror(errno));
    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    (void)fprintf(stderr, "FAILED: the test was ended by signal %d\n", WTERMSIG(status));
    return 1;
}

void kit_guard(void)
{
    const char *base = getenv("TMPDIR");
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    (void)snprintf(scratch, sizeof scratch, "%.60s/hark-XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(scratch))
        kit_fail("cannot make a scratch directory: %s", strerror(errno));
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    pid_t parent = getpid();
    worker = fork();
    if (worker < 0)
        kit_fail("cannot fork: %s", strerror(errno));
    if (worker > 0)
        _exit(guard());
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    (void)signal(SIGPIPE, SIG_IGN);
}

/* ---- small things ---- */

const char *kit_dir(void)
{
    return scratch;
}

const char *kit_path(const char *name)
{
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        if (!kept[i])
            KIT_CHECK(asprintf(&kept[i], "%s/%s", scratch, name) > 0, "out of memory");
        if (strcmp(kept[i] + strlen(scratch) + 1, name) == 0)
            return kept[i];
    }
    kit_fail("too many paths");
}

const char *kit_program(const char *path)
{
    static char all[4][4096];
    static size_t n;
    KIT_CHECK(n < 4 && realpath(path, all[n]), "no program %s", path);
    return all[n++];
}

static bool is_set(const char *name)
{
    const char *s = getenv(name);
    return s && *s && strcmp(s, "0") != 0;
}

bool kit_long(void)
{
    return is_set("HARK_TEST_LONG");
}

bool kit_brief(void)
{
    return is_set("HARK_TEST_BRIEF") && !kit_long();
}

uint64_t kit_seed(void)
{
    const char *given = getenv("HARK_TEST_SEED");
    uint64_t seed = 0;
    if (given && *given)
        seed = strtoull(given, NULL, 10);
    else if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed)
        kit_fail("no random numbers");
    seed &= 0xffffffff;
    printf("seed %llu (repeat with HARK_TEST_SEED)\n", (unsigned long long)seed);
    return seed;
}

uint64_t kit_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t kit_hash(const void *p, size_t n)
{
    const unsigned char *c = p;
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ c[i]) * 0x100000001b3u;
    return h;
}

int64_t kit_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void *kit_grow(void *p, size_t n, size_t *cap, size_t size)
{
    if (n < *cap)
        return p;
    size_t more = n < 65536 ? 65536 : 2 * n;
    p = realloc(p, more * size);
    KIT_CHECK(p != NULL, "out of memory");
    memset((char *)p + *cap * size, 0, (more - *cap) * size);
    *cap = more;
    return p;
}

void kit_await_locked(pthread_cond_t *changed, pthread_mutex_t *lock)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_nsec += 2000000;
    t.tv_sec += t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    (void)pthread_cond_timedwait(changed, lock, &t);
}

/* ---- files ---- */

char *kit_slurp(const char *path, size_t *ret_len)
{
    FILE *f = fopen(path, "rb");
    char *all = NULL;
    size_t len = 0, n;
    if (!f)
        return NULL;
    do {
        all = realloc(all, len + 65537);
        KIT_CHECK(all != NULL, "out of memory");
        n = fread(all + len, 1, 65536, f);
        len += n;
    } while (n > 0);
    (void)fclose(f);
    all[len] = '\0';
    if (ret_len)
        *ret_len = len;
    return all;
}

void kit_write_file(const char *path, const void *data, size_t len)
{
    FILE *f = fopen(path, "wb");
    KIT_CHECK(f && fwrite(data, 1, len, f) == len && fclose(f) == 0, "cannot write %s", path);
}

static int visible(const struct dirent *e)
{
    return strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
}

char *kit_list(const char *dir)
{
    struct dirent **names;
    char *all = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&all, &len);
    int n = scandir(dir, &names, visible, alphasort);
    KIT_CHECK(f && n >= 0, "cannot list %s", dir);
    for (int i = 0; i < n; i++) {
        (void)fprintf(f, "%s ", names[i]->d_name);
        free(names[i]);
    }
    free(names);
    (void)fclose(f);
    return all;
}
