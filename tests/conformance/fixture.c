/* The fixture of the conformance tests, see fixture.h. */
#include "fixture.h"

#include "servers.h"

#include <dirent.h>
#include <sched.h>
#include <unistd.h>

enum { BATCH = 500 };

static const store_case *current;
static server *current_server;
static unsigned fresh_logs;

/* ---- a fresh bus in a scratch directory --------------------------------------------------------- */

void open_bus(fixture *f, const hark_bus_opts *opts)
{
    assert_null(f->bus);
    assert_ok(f, hark_open(f->url, opts, &f->bus, &f->ei));
}

void close_bus(fixture *f)
{
    f->bus = hark_bus_unref(f->bus);
}

void reopen_bus(fixture *f, const hark_bus_opts *opts)
{
    close_bus(f);
    open_bus(f, opts);
}

static void name_log(fixture *f)
{
    const char *url = current->url, *mark = url ? strstr(url, "%s") : NULL;
    if (current_server)
        (void)snprintf(f->url, sizeof f->url, "%.120s?log=t%u", server_url(current_server),
                       ++fresh_logs);
    else if (mark)
        (void)snprintf(f->url, sizeof f->url, "%.*s%s%s", (int)(mark - url), url, f->dir, mark + 2);
    else
        (void)snprintf(f->url, sizeof f->url, "%s", url);
}

int set_up(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    const char *base = getenv("TMPDIR");
    assert_non_null(f);
    f->store = current;
    f->server = current_server;
    f->live_blocks = hk_slab_live();
    (void)snprintf(f->dir, sizeof f->dir, "%.60s/hark-XXXXXX", base ? base : "/tmp");
    assert_non_null(mkdtemp(f->dir));
    name_log(f);
    open_bus(f, NULL);
    *state = f;
    return 0;
}

static void remove_dir(const char *dir)
{
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.')
            (void)unlinkat(dirfd(d), e->d_name, 0);
    if (d)
        closedir(d);
    (void)rmdir(dir);
}

int tear_down(void **state)
{
    fixture *f = *state;
    close_bus(f);
    WAIT_UNTIL(hk_slab_live() == f->live_blocks); /* threads may be in their last step */
    remove_dir(f->dir);
    free(f);
    return 0;
}

int conformance_main(int argc, char **argv, const char *subject, const struct CMUnitTest *tests,
                     size_t n)
{
    for (size_t i = 0; argc > 1 && i < n_stores; i++)
        if (strcmp(stores[i].name, argv[1]) == 0)
            current = &stores[i];
    if (!current) {
        (void)fprintf(stderr, "usage: %s STORE [TEST]; a STORE of stores.c\n", argv[0]);
        return 64;
    }
    if (argc > 2)
        cmocka_set_test_filter(argv[2]);
    (void)fprintf(stderr, "%s on %s\n", subject, current->name);
    current_server = current->start ? current->start() : NULL;
    int failed = _cmocka_run_group_tests(subject, tests, n, NULL, NULL);
    server_free(current_server);
    return failed;
}

/* ---- waiting ------------------------------------------------------------------------------------ */

void must_failed(const char *what, const char *file, int line)
{
    (void)fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
    abort();
}

void wait_yield(int64_t *until_ms, const char *what, const char *file, int line)
{
    int64_t now = hk_mono_ms();
    if (*until_ms == 0)
        *until_ms = now + HUNG_MS;
    if (now > *until_ms) {
        (void)fprintf(stderr, "%s:%d: hung, waiting for: %s\n", file, line, what);
        abort();
    }
    sched_yield();
}

void latch_init(latch *l)
{
    atomic_init(&l->arrived, 0);
    atomic_init(&l->open, 0);
    hk_gate_init(&l->gate);
}

void latch_wait(latch *l)
{
    atomic_fetch_add(&l->arrived, 1);
    for (;;) {
        unsigned seen = hk_gate_look(&l->gate);
        if (atomic_load(&l->open))
            return;
        (void)hk_gate_wait(&l->gate, seen, -1);
    }
}

void latch_open(latch *l)
{
    atomic_store(&l->open, 1);
    hk_gate_open(&l->gate);
}

/* ---- publishing --------------------------------------------------------------------------------- */

uint64_t publish_keyed(fixture *f, const char *type, const char *key)
{
    hark_receipt r;
    assert_ok(f, hark_publish_ei(f->bus, HARK_OPTS(hark_event_spec, .type = type, .key = key), &r,
                                 &f->ei));
    return r.sequence;
}

uint64_t publish(fixture *f, const char *type)
{
    return publish_keyed(f, type, NULL);
}

uint64_t publish_many(fixture *f, const char *type, size_t n)
{
    static char numbers[BATCH][24];
    static hark_event_spec specs[BATCH];
    static const hark_event_spec *list[BATCH];
    static hark_receipt receipts[BATCH];
    uint64_t first = 0;
    for (size_t done = 0; done < n;) {
        size_t batch = n - done < BATCH ? n - done : BATCH;
        for (size_t i = 0; i < batch; i++) {
            (void)snprintf(numbers[i], sizeof numbers[i], "%zu", done + i);
            specs[i] = (hark_event_spec){.size = sizeof specs[i], .type = type, .json = numbers[i]};
            list[i] = &specs[i];
        }
        assert_ok(f, hark_publish_batch(f->bus, list, batch, receipts, &f->ei));
        first = first ? first : receipts[0].sequence;
        done += batch;
    }
    return first;
}

/* ---- the recorder ------------------------------------------------------------------------------- */

recorder *recorder_new(void)
{
    recorder *r = calloc(1, sizeof *r);
    assert_non_null(r);
    r->seen = calloc(RECORD_MAX, sizeof *r->seen);
    assert_non_null(r->seen);
    pthread_mutex_init(&r->lock, NULL);
    return r;
}

recorder *recorder_at(latch *at)
{
    recorder *r = recorder_new();
    latch_init(at);
    r->at = at;
    return r;
}

void recorder_free(recorder *r)
{
    pthread_mutex_destroy(&r->lock);
    free(r->seen);
    free(r);
}

void record_only(recorder *r, const hark_delivery *d)
{
    pthread_mutex_lock(&r->lock);
    size_t n = atomic_load(&r->n);
    MUST(n < RECORD_MAX);
    recorded *x = &r->seen[n];
    const hark_event *e = hark_delivery_event(d);
    const char *key = e ? hark_event_key(e) : NULL;
    x->seq = hark_delivery_sequence(d);
    x->attempt = hark_delivery_attempt(d);
    (void)hark_delivery_gap(d, &x->gap_from, &x->gap_to);
    (void)snprintf(x->key, sizeof x->key, "%s", key ? key : "");
    atomic_store(&r->n, n + 1);
    pthread_mutex_unlock(&r->lock);
}

hark_verdict record(hark_delivery *d, void *ud)
{
    recorder *r = ud;
    record_only(r, d);
    if (r->at)
        latch_wait(r->at);
    return HARK_ACK;
}

void recorder_freed(void *ud)
{
    atomic_fetch_add(&((recorder *)ud)->freed, 1);
}

void assert_consecutive(recorder *r, uint64_t first, size_t n)
{
    assert_u64(atomic_load(&r->n), n);
    for (size_t i = 0; i < n; i++)
        if (r->seen[i].seq != first + i)
            fail_msg("delivery %zu is of sequence %llu, expected %llu", i,
                     (unsigned long long)r->seen[i].seq, (unsigned long long)(first + i));
}

void assert_ascending(recorder *r)
{
    for (size_t i = 1; i < atomic_load(&r->n); i++)
        if (r->seen[i].seq <= r->seen[i - 1].seq)
            fail_msg("delivery %zu is of sequence %llu, after %llu", i,
                     (unsigned long long)r->seen[i].seq, (unsigned long long)r->seen[i - 1].seq);
}

hark_sub_stats stats_of(hark_sub *s)
{
    hark_sub_stats stats = {.size = sizeof stats};
    MUST(hark_sub_stats_get(s, &stats) == HARK_OK);
    return stats;
}

static bool copy_info(const hark_consumer_info *info, void *ud)
{
    hark_consumer_info *copy = ud;
    *copy = *info;
    copy->name = copy->pattern = copy->policy = NULL;
    return true;
}

hark_consumer_info consumer_now(fixture *f)
{
    hark_consumer_info info = {0};
    assert_ok(f, hark_consumers(f->bus, copy_info, &info, &f->ei));
    return info;
}

hark_reset_result reset_to_first(fixture *f)
{
    hark_reset_result res = {.size = sizeof res};
    assert_ok(f, hark_consumer_reset(f->bus, "c",
                                     HARK_OPTS(hark_reset_opts, .start = HARK_START_FIRST), &res,
                                     &f->ei));
    return res;
}

void end_sub(hark_sub *s)
{
    hark_sub_close(s);
    MUST(hark_sub_join(s, HUNG_MS) == HARK_OK);
    hark_sub_unref(s);
}
