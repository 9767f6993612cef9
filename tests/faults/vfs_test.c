/* A log whose disk loses power, at every operation of a story: what the disk may hold then opens
 * again, has what was acknowledged, and nothing that was not asked for. Of one recorded story all
 * moments are tried; in others the power fails while it is lived, so that the library sees every call
 * to the disk fail from there on. */
#include "crash_vfs.h"
#include "kit.h"
#include "story.h"

#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* Every so many operations, where nothing but writes is near. */
enum { STEP = 211, LIVES = 40, GO_ON = 24 };

static story s;
static size_t off_at;

static size_t now(void)
{
    return crash_ops();
}

static bool over(void)
{
    return crash_ops() >= off_at;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st;
    (void)kind;
    return at->level ? remove(path) : 0;
}

static const char *fresh_dir(const char *name)
{
    const char *dir = kit_path(name);
    (void)mkdir(dir, 0755);
    KIT_CHECK(nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0, "cannot empty %s", dir);
    return dir;
}

/* Lives a story whose power fails before operation `op`. */
static void live(size_t op, bool big)
{
    static char url[256];
    (void)snprintf(url, sizeof url, "sqlite:%s/x.db", fresh_dir("live"));
    s = (story){.url = url, .now = now, .over = over, .big = big, .patience_ms = KIT_HUNG_MS};
    off_at = op;
    crash_vfs_on();
    crash_power_fails_at(op);
    story_live(&s);
    crash_vfs_off();
    KIT_CHECK(!*s.stuck, "power off at %zu: waited in vain for %s", op, s.stuck);
}

static void audit(crash_disk *d, size_t op, crash_way way, uint64_t seed, bool go_on)
{
    static const char *const ways[] = {"none", "all", "prefix", "some", "torn", "pages", "garbage"};
    static char path[256];
    static story copy;
    char what[128];
    const char *dir = fresh_dir("disk");
    crash_disk_write(d, op, way, seed, dir);
    (void)snprintf(path, sizeof path, "%s/x.db", dir);
    (void)snprintf(what, sizeof what, "unsynced writes: %s, seed %llu", ways[way],
                   (unsigned long long)seed);
    copy = s; /* going on adds answers */
    copy.over = NULL;
    crash_vfs_hurry();
    story_audit(&copy, path, op, what, go_on);
    crash_vfs_off();
}

/* Beside a sync, a cut, a removal or a new name, where the order of things shows. */
static bool is_edge(size_t op, size_t n)
{
    return op == n || crash_op_get(op)->kind != CRASH_WRITE ||
           (op && crash_op_get(op - 1)->kind != CRASH_WRITE);
}

/* The story must be one in which the write-ahead log is started over in place, cut or removed, and
 * pages are copied out of it while it lives. */
static void story_has_it_all(size_t n)
{
    size_t copied = 0, restarts = 0, removed = 0, wal = SIZE_MAX;
    for (size_t i = 0; i < n; i++) {
        const crash_op *op = crash_op_get(i);
        bool is_wal = strcmp(op->name, "x.db-wal") == 0;
        copied += op->kind == CRASH_WRITE && !strcmp(op->name, "x.db") && wal != SIZE_MAX;
        restarts += op->kind == CRASH_WRITE && op->at == 0 && op->file == wal;
        removed += is_wal && op->kind == CRASH_DELETE;
        if (is_wal)
            wal = op->kind == CRASH_WRITE ? op->file : op->kind == CRASH_DELETE ? SIZE_MAX : wal;
    }
    KIT_CHECK(copied && restarts && removed > 1,
              "the story is too short: %zu copies, %zu restarts, %zu ends of the write-ahead log",
              copied, restarts, removed);
}

static void every_moment(uint64_t seed)
{
    int64_t begin = kit_ms();
    size_t points = 0, audits = 0;
    live(SIZE_MAX, true);
    size_t n = crash_ops();
    story_has_it_all(n);
    crash_disk *d = crash_disk_new();
    int64_t lived = kit_ms();
    for (size_t op = 0; op <= n; op++) {
        if (!kit_long() && !is_edge(op, n) && op % STEP)
            continue;
        points++;
        size_t ways = kit_long() ? 2 * CRASH_WAYS : is_edge(op, n) ? 2 : 3;
        for (size_t i = 0; i < ways; i++, audits++)
            audit(d, op, (crash_way)((audits + i / CRASH_WAYS) % CRASH_WAYS), kit_random(&seed),
                  audits % GO_ON == 0);
    }
    crash_disk_free(d);
    printf("%zu operations in %lld ms, %zu moments, %zu audits in %lld ms\n", n,
           (long long)(lived - begin), points, audits, (long long)(kit_ms() - lived));
}

static void power_fails_while_it_lives(uint64_t seed)
{
    int64_t begin = kit_ms();
    size_t lives = 0;
    live(SIZE_MAX, false);
    size_t n = crash_ops(), step = kit_long() ? 1 : n / LIVES + 1;
    for (size_t op = kit_random(&seed) % step; op < n; op += step, lives++) {
        live(op, false);
        crash_disk *d = crash_disk_new();
        size_t reached = op < crash_ops() ? op : crash_ops();
        audit(d, reached, (crash_way)(kit_random(&seed) % CRASH_WAYS), kit_random(&seed), true);
        crash_disk_free(d);
    }
    printf("%zu lives cut short in %lld ms\n", lives, (long long)(kit_ms() - begin));
}

int main(void)
{
    kit_guard();
    uint64_t seed = kit_seed();
    every_moment(kit_random(&seed));
    power_fails_while_it_lives(kit_random(&seed));
    return 0;
}
