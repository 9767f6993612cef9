/* A program that has grown: upcasters of type "o" that write into the data which steps were taken, and
 * a handler that remembers in which version events came; shared by the tests of event versions. */
#ifndef HK_CONFORMANCE_GROWN_H
#define HK_CONFORMANCE_GROWN_H

#include "fixture.h"

#include <hark/versions.h>

/* An upcaster: to data "x" it adds ">2", the version that it makes. While it is sick it fails. */
typedef struct grower {
    int64_t to;
    atomic_int sick, freed, calls;
} grower;

/* They outlive a test, as its bus does; the test before this one is through with them. */
enum { GROWERS = 3 };
static grower growers[GROWERS];
static inline grower *growers_anew(void)
{
    for (size_t i = 0; i < GROWERS; i++) {
        atomic_store(&growers[i].sick, 0);
        atomic_store(&growers[i].freed, 0);
        atomic_store(&growers[i].calls, 0);
    }
    return growers;
}

static inline hark_err grow(const hark_event *event, hark_upcast *out, void *ud)
{
    grower *g = ud;
    char data[64];
    size_t len;
    const char *old = hark_event_data(event, &len);
    atomic_fetch_add(&g->calls, 1);
    if (atomic_load(&g->sick))
        return hark_upcast_fail(out, HARK_ESCHEMA, "cannot read %.*s", (int)len, old);
    (void)snprintf(data, sizeof data, "%.*s>%d", (int)len, old ? old : "", (int)g->to);
    return hark_upcast_data(out, data, strlen(data));
}

static inline void grower_freed(void *ud)
{
    grower *g = ud;
    atomic_fetch_add(&g->freed, 1);
}

static inline hark_err grower_add(fixture *f, grower *g, int64_t from, int64_t to)
{
    g->to = to;
    return hark_upcaster_add(f->bus,
                             HARK_OPTS(hark_upcaster, .type = "o", .from = from, .to = to,
                                       .fn = grow, .ud = g, .free_ud = grower_freed),
                             &f->ei);
}

/* The program knows version 3, by two steps. */
static inline void grow_to_3(fixture *f, grower *g)
{
    assert_ok(f, grower_add(f, &g[0], 1, 2));
    assert_ok(f, grower_add(f, &g[1], 2, 3));
}

static inline uint64_t put(fixture *f, int64_t version, const char *key, const char *data)
{
    hark_receipt r;
    assert_ok(f, hark_publish_ei(f->bus,
                                 HARK_OPTS(hark_event_spec, .type = "o", .subject = key,
                                           .dataversion = version, .data = data,
                                           .data_len = strlen(data)),
                                 &r, &f->ei));
    return r.sequence;
}

/* ---- what a handler saw ----------------------------------------------------------------------- */

enum { VIEW_MAX = 64 };
typedef struct view {
    pthread_mutex_t lock;
    atomic_size_t n;
    char seen[VIEW_MAX][48]; /* "k 1 v3 x>2>3": key, attempt, version, data */
} view;

static inline view *view_new(void)
{
    view *v = calloc(1, sizeof *v);
    assert_non_null(v);
    pthread_mutex_init(&v->lock, NULL);
    return v;
}

static inline void view_free(view *v)
{
    pthread_mutex_destroy(&v->lock);
    free(v);
}

static inline void view_note(view *v, const hark_delivery *d)
{
    const hark_event *e = hark_delivery_event(d);
    size_t len, n;
    const char *data = hark_event_data(e, &len), *key = hark_event_key(e);
    pthread_mutex_lock(&v->lock);
    n = atomic_load(&v->n);
    MUST(n < VIEW_MAX);
    (void)snprintf(v->seen[n], sizeof v->seen[n], "%s %d v%d %.*s", key ? key : "-",
                   (int)hark_delivery_attempt(d), (int)hark_event_dataversion(e), (int)len,
                   data ? data : "");
    atomic_store(&v->n, n + 1);
    pthread_mutex_unlock(&v->lock);
}

static inline hark_verdict look_at(hark_delivery *d, void *ud)
{
    view_note(ud, d);
    return HARK_ACK;
}

/* The i-th that was seen, waited for. */
static inline void assert_seen(view *v, size_t i, const char *expected)
{
    WAIT_UNTIL(atomic_load(&v->n) > i);
    assert_string_equal(v->seen[i], expected);
}

#define CONSUMER(...)                                                                              \
    HARK_OPTS(hark_sub_opts, .consumer = "c", .start = HARK_START_FIRST, __VA_ARGS__)

static inline hark_sub *consume(fixture *f, view *v, const hark_sub_opts *opts)
{
    hark_sub *s;
    assert_ok(f, hark_subscribe(f->bus, "o", v ? look_at : NULL, v, opts, &s, &f->ei));
    return s;
}

/* The event at the place `seq` as hark_read shows it: "v3 x>2>3". */
static inline const char *read_as(fixture *f, uint64_t seq, int64_t version, char ret[64])
{
    hark_page *page;
    size_t len;
    assert_ok(f, hark_read(f->bus,
                           HARK_OPTS(hark_read_opts, .after = seq - 1, .limit = 1,
                                     .dataversion = version),
                           &page, &f->ei));
    assert_u64(hark_page_count(page), 1);
    const hark_event *e = hark_page_event(page, 0);
    const char *data = hark_event_data(e, &len);
    assert_u64(hark_event_sequence(e), seq);
    (void)snprintf(ret, 64, "v%d %.*s", (int)hark_event_dataversion(e), (int)len, data);
    hark_page_free(page);
    return ret;
}

#endif
