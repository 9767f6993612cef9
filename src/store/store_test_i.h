/* store_test_i.h: what the tests of the stores' contract share. Each test runs on every store that
 * EACH names: a fresh log, consumers by name, and the ledger's content as text. <cmocka.h> comes
 * before it. Stores that are a server's are tested instead of the others when HARK_TEST_SERVER has the
 * URL of one (tests/servers/with_server sets it). */
#ifndef HK_STORE_TEST_I_H
#define HK_STORE_TEST_I_H

#include "event/event.h"
#include "store/store.h"
#include "store/store_merge_i.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One behaviour, on one store or on each of them. */
#define ON(store, test)                                                                            \
    {                                                                                              \
#test " on " store, test, set_up, tear_down, (void *)store                                 \
    }
#define EACH(test) ON("memory", test), ON("sqlite", test), ON("postgresql", test), ON("redis", test)

enum { RETAINED = 1024 }; /* events, by a store that keeps the newest */

enum { CONSUMERS = 8 }; /* of a test on a shared store */

/* The shares of a consumer, all of which the test has, on a shared store. */
typedef struct held {
    uint64_t consumer, generation;
    uint32_t n;
    uint64_t token[HARK_SHARES_MAX];
} held;

typedef struct fixture {
    char dir[64];
    char url[112];
    const hark_store_ops *ops;
    hark_store *store;
    hark_store_info info;
    hark_errinfo ei;
    held held[CONSUMERS];
    size_t n_held;
} fixture;

/* Asserts success and shows the error's text when it isn't. */
#define assert_ok(f, call)                                                                         \
    do {                                                                                           \
        hark_err err_ = (call);                                                                    \
        if (err_)                                                                                  \
            fail_msg("%s: %s: %s", #call, hark_err_name(err_), (f)->ei.text);                      \
    } while (0)

#define assert_err(f, expected, call)                                                              \
    do {                                                                                           \
        (f)->ei.text[0] = '\0';                                                                    \
        hark_err err_ = (call);                                                                    \
        if (err_ != (expected))                                                                    \
            fail_msg("%s: expected %s, got %s: %s", #call, hark_err_name(expected),                \
                     hark_err_name(err_), (f)->ei.text);                                           \
        if (!(f)->ei.text[0])                                                                      \
            fail_msg("%s: %s without a text", #call, hark_err_name(err_));                         \
    } while (0)

#define assert_says(f, part)                                                                       \
    do {                                                                                           \
        if (!strstr((f)->ei.text, part))                                                           \
            fail_msg("expected '%s' in: %s", part, (f)->ei.text);                                  \
    } while (0)

/* ---- a log ------------------------------------------------------------------------------------- */

static inline void drop_events(void *ud, hark_event *const *events, size_t n)
{
    (void)ud;
    for (size_t i = 0; i < n; i++)
        (void)hark_event_unref(events[i]);
}

static inline void open_store(fixture *f)
{
    const hark_store_opts opts = {
        .size = sizeof opts, .retain_events = RETAINED, .retain_bytes = (size_t)256 << 20};
    const hark_store_host host = {.size = sizeof host, .committed = drop_events};
    const char *rest = NULL;
    assert_ok(f, hk_store_find(f->url, &f->ops, &rest, &f->ei));
    assert_ok(f, f->ops->open(rest, &opts, &host, &f->store, &f->ei));
    f->ops->info(f->store, &f->info);
}

/* What is durable must be the same after a restart; memory's lasts as long as its process. */
static inline void restart(fixture *f)
{
    if (f->info.durability == HARK_MEMORY)
        return;
    f->ops->close(f->store);
    f->n_held = 0;
    open_store(f);
}

/* The URL of the server to test on; NULL = the stores without one are tested. */
static inline const char *tested_server(void)
{
    const char *url = getenv("HARK_TEST_SERVER");
    return url && *url ? url : NULL;
}

static unsigned fresh_logs;

static inline int set_up(void **state)
{
    const char *scheme = *state, *base = getenv("TMPDIR");
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    (void)snprintf(f->dir, sizeof f->dir, "%.40s/hark-XXXXXX", base ? base : "/tmp");
    assert_non_null(mkdtemp(f->dir));
    if (tested_server())
        (void)snprintf(f->url, sizeof f->url, "%.90s?log=t%u", tested_server(), ++fresh_logs);
    else if (strcmp(scheme, "sqlite") == 0)
        (void)snprintf(f->url, sizeof f->url, "sqlite:%s/log.db", f->dir);
    else
        (void)snprintf(f->url, sizeof f->url, "%s:", scheme);
    open_store(f);
    *state = f;
    return 0;
}

static inline int tear_down(void **state)
{
    fixture *f = *state;
    char command[128];
    f->ops->close(f->store);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", f->dir);
    assert_int_equal(system(command), 0);
    free(f);
    return 0;
}

/* Is a test on this store to be run now? */
static inline bool is_wanted(const char *store)
{
    const char *url = tested_server();
    if (!url)
        return strcmp(store, "memory") == 0 || strcmp(store, "sqlite") == 0;
    return strncmp(url, store, strlen(store)) == 0 && url[strlen(store)] == ':';
}

static inline int run_contract(const struct CMUnitTest *tests, size_t n)
{
    struct CMUnitTest *wanted = calloc(n, sizeof *wanted);
    size_t n_wanted = 0;
    assert_non_null(wanted);
    for (size_t i = 0; i < n; i++)
        if (is_wanted(tests[i].initial_state))
            wanted[n_wanted++] = tests[i];
    if (n_wanted == 0)
        (void)fprintf(stderr, "no test here is for %s %s\n",
                      tested_server() ? "the server" : "a store without a server",
                      tested_server() ? tested_server() : "");
    int nothing = tested_server() ? 64 : 77; /* 77: meson's "skipped" */
    int failed =
        n_wanted == 0 ? nothing : _cmocka_run_group_tests("contract", wanted, n_wanted, NULL, NULL);
    free(wanted);
    return failed;
}
#define RUN_CONTRACT(tests) run_contract(tests, sizeof(tests) / sizeof *(tests))

static inline void begin(fixture *f)
{
    assert_ok(f, f->ops->begin(f->store, &f->ei));
}

static inline void commit(fixture *f)
{
    assert_ok(f, f->ops->commit(f->store, &f->ei));
}

/* A call that writes, in a group of its own. */
#define write_ok(f, call)                                                                          \
    do {                                                                                           \
        begin(f);                                                                                  \
        assert_ok(f, call);                                                                        \
        commit(f);                                                                                 \
    } while (0)

#define write_err(f, expected, call)                                                               \
    do {                                                                                           \
        begin(f);                                                                                  \
        assert_err(f, expected, call);                                                             \
        commit(f);                                                                                 \
    } while (0)

/* ---- events ------------------------------------------------------------------------------------ */

static inline hark_event *event_of(const hark_event_spec *spec)
{
    hark_event *e = NULL;
    hark_errinfo ei = {0};
    if (hark_event_new(spec, &e, &ei))
        fail_msg("event: %s", ei.text);
    return e;
}

/* Appends one event; its sequence. */
static inline uint64_t add_spec(fixture *f, const hark_event_spec *spec)
{
    hark_store_append a = {.event = event_of(spec)};
    hk_event_digest(a.event, f->info.log_id, a.digest);
    if (f->info.direct)
        hk_event_ref_n(a.event, 2);
    write_ok(f, f->ops->append(f->store, &a, 1, &f->ei));
    assert_false(a.ret_duplicate);
    (void)hark_event_unref(a.event);
    return a.ret_sequence;
}

static inline uint64_t add(fixture *f, const char *type, const char *id, const char *key)
{
    return add_spec(f, HARK_OPTS(hark_event_spec, .type = type, .id = id, .source = "/test",
                                 .key = key, .json = "{\"n\":1}"));
}

/* Appends n events of type "t" without a key. */
static inline void add_some(fixture *f, size_t n)
{
    for (size_t i = 0; i < n; i++)
        (void)add(f, "t", NULL, NULL);
}

/* The event at a place; a reference. */
static inline hark_event *event_at(fixture *f, uint64_t seq)
{
    hark_event *e = NULL;
    const hark_store_query q = {.size = sizeof q, .after = seq - 1, .before = seq + 1, .limit = 1};
    hark_store_page page = {.events = &e};
    assert_ok(f, f->ops->read(f->store, &q, &page, &f->ei));
    assert_int_equal(page.n, 1);
    return e;
}

/* ---- consumers --------------------------------------------------------------------------------- */

enum { NOW, FIRST, SEQUENCE, TIME }; /* hark_start */

static inline hark_store_consumer consumer(const char *name)
{
    return (hark_store_consumer){.size = sizeof(hark_store_consumer),
                                 .name = name,
                                 .pattern = "t",
                                 .policy = "{}",
                                 .start = FIRST};
}

static inline hark_err load(fixture *f, hark_store_consumer *c)
{
    begin(f);
    hark_err err = f->ops->consumer_open(f->store, c, &f->ei);
    commit(f);
    return err;
}

/* ---- shares ------------------------------------------------------------------------------------ */

/* Where the shares of a consumer are kept; a place for it if there is none. */
static inline held *place_of(fixture *f, uint64_t consumer)
{
    size_t i = 0;
    while (i < f->n_held && f->held[i].consumer != consumer)
        i++;
    if (i == f->n_held) {
        assert_true(f->n_held < CONSUMERS);
        f->held[f->n_held++] = (held){.consumer = consumer};
    }
    return &f->held[i];
}

/* Takes all shares of a consumer. Not within a group. */
static inline void take_shares(fixture *f, uint64_t consumer, uint64_t generation)
{
    held *h = place_of(f, consumer);
    hark_store_shares x = {.size = sizeof x, .consumer = consumer, .generation = generation};
    assert_ok(f, f->ops->shares(f->store, &x, &f->ei));
    assert_int_equal(x.ret_generation, generation);
    for (size_t i = 0; i < x.n_owned; i++)
        h->token[x.owned[i].share] = x.owned[i].token;
    for (size_t i = 0; i < x.n_claimed; i++)
        h->token[x.claimed[i].share] = x.claimed[i].token;
    h->generation = generation;
    h->n = (uint32_t)(x.n_owned + x.n_claimed);
    hark_store_shares_clear(&x);
}

/* The test's shares of a consumer; NULL where stores are not shared. */
static inline const held *hold(fixture *f, uint64_t consumer, uint64_t generation)
{
    if (!f->info.shared)
        return NULL;
    held *h = place_of(f, consumer);
    if (h->generation != generation)
        take_shares(f, consumer, generation);
    return h;
}

/* The share of what may be in the log at this place. */
static inline uint32_t share_of(fixture *f, const held *h, uint64_t seq)
{
    hark_event *e = NULL;
    const hark_store_query q = {.size = sizeof q, .after = seq - 1, .before = seq + 1, .limit = 1};
    hark_store_page page = {.events = &e};
    hark_store_info info = {.size = sizeof info};
    f->ops->info(f->store, &info);
    if (seq <= info.last_sequence)
        assert_ok(f, f->ops->read(f->store, &q, &page, &f->ei));
    uint32_t share = hark_store_share_of(e ? hark_event_key(e) : NULL, seq, h->n);
    (void)hark_event_unref(e);
    return share;
}

/* By which right the test has what is at this place. Not within a group. */
static inline hark_store_owned owned_at(fixture *f, const hark_store_save *v, uint64_t seq)
{
    const held *h = hold(f, v->consumer, v->generation);
    hark_store_owned of = {.share = h ? share_of(f, h, seq) : 0};
    of.token = h ? h->token[of.share] : 0;
    return of;
}

/* ---- saves ------------------------------------------------------------------------------------- */

/* An empty save of a consumer, which is registered from the first event on if it is not there. */
static inline hark_store_save save_of(fixture *f, const char *name)
{
    hark_store_consumer c = consumer(name);
    c.update = 1;
    assert_ok(f, load(f, &c));
    hark_store_save v = {.size = sizeof v,
                         .consumer = c.ret_id,
                         .generation = c.ret_generation,
                         .floor = c.ret_floor,
                         .highest = c.ret_highest};
    const held *h = hold(f, v.consumer, v.generation);
    v.token = h ? h->token[0] : 0;
    hark_store_consumer_clear(&c);
    return v;
}

/* What a save has for one share: rows by their places; attempts and dead letters go with the first of them. */
static inline hark_store_save part_of(fixture *f, const held *h, const hark_store_save *v,
                                      uint32_t share)
{
    hark_store_row *put = calloc(v->n_put + 1, sizeof *put);
    uint64_t *drop = calloc(v->n_drop + 1, sizeof *drop);
    hark_store_save part = *v;
    assert_true(put && drop);
    part.share = share;
    part.token = h->token[share];
    part.n_put = part.n_drop = 0;
    for (size_t i = 0; i < v->n_put; i++)
        if (share_of(f, h, v->put[i].sequence) == share)
            put[part.n_put++] = v->put[i];
    for (size_t i = 0; i < v->n_drop; i++)
        if (share_of(f, h, v->drop[i]) == share)
            drop[part.n_drop++] = v->drop[i];
    uint64_t first = v->n_dead       ? hark_event_sequence(v->dead[0].event)
                     : v->n_attempts ? v->attempts[0].sequence
                                     : 1;
    if (share_of(f, h, first) != share)
        part.n_dead = part.n_attempts = 0;
    part.put = put;
    part.drop = drop;
    return part;
}

/* The same floor and settled set for all shares; verdicts may be late. */
static inline void save_in_shares(fixture *f, const held *h, const hark_store_save *v)
{
    hark_store_save parts[HARK_SHARES_MAX];
    hark_err late[HARK_SHARES_MAX] = {HARK_OK};
    for (uint32_t i = 0; i < h->n; i++)
        parts[i] = part_of(f, h, v, i);
    begin(f);
    for (uint32_t i = 0; i < h->n; i++) {
        parts[i].late = &late[i];
        assert_ok(f, f->ops->consumer_save(f->store, &parts[i], &f->ei));
    }
    commit(f);
    for (uint32_t i = 0; i < h->n; i++) {
        assert_int_equal(late[i], HARK_OK);
        free((void *)(uintptr_t)parts[i].put);
        free((void *)(uintptr_t)parts[i].drop);
    }
}

static inline void save(fixture *f, const hark_store_save *v)
{
    const held *h = hold(f, v->consumer, v->generation);
    if (h)
        save_in_shares(f, h, v);
    else
        write_ok(f, f->ops->consumer_save(f->store, v, &f->ei));
}

static inline void put_row(fixture *f, const char *name, hark_store_row row)
{
    hark_store_save v = save_of(f, name);
    v.put = &row;
    v.n_put = 1;
    save(f, &v);
}

static inline void drop_row(fixture *f, const char *name, uint64_t seq)
{
    hark_store_save v = save_of(f, name);
    v.drop = &seq;
    v.n_drop = 1;
    save(f, &v);
}

/* A dead letter of an event of the log, with one attempt; `parks` also leaves its row. Its id. */
static inline uint64_t bury(fixture *f, const char *name, uint64_t seq, bool parks)
{
    hark_event *e = event_at(f, seq);
    hark_store_save v = save_of(f, name);
    hark_store_attempt a = {.sequence = seq,
                            .number = 1,
                            .started_ns = 5,
                            .ended_ns = 6,
                            .outcome = "reject",
                            .error = "no"};
    hark_store_dead d = {.event = e,
                         .reason = "rejected",
                         .error = "no",
                         .attempts = 1,
                         .first_ns = 5,
                         .dead_ns = (int64_t)seq * 1000};
    hark_store_row row = {.sequence = seq,
                          .state = HARK_ROW_DEAD,
                          .attempts = 1,
                          .first_ns = 5,
                          .key = hark_event_key(e),
                          .error = "no"};
    v.highest = v.highest > seq ? v.highest : seq;
    v.attempts = &a;
    v.dead = &d;
    v.put = &row;
    v.n_attempts = v.n_dead = 1;
    v.n_put = parks;
    v.drop = &seq;
    v.n_drop = !parks;
    save(f, &v);
    (void)hark_event_unref(e);
    assert_int_not_equal(d.ret_id, 0);
    return d.ret_id;
}

/* ---- what was saved ---------------------------------------------------------------------------- */

/* A consumer as it was saved: that of all its shares together. */
static inline hark_store_consumer look_at(fixture *f, const char *name)
{
    hark_store_consumer c = {.size = sizeof c, .name = name, .find = 1};
    if (!f->info.shared) {
        assert_ok(f, load(f, &c));
        return c;
    }
    hark_store_consumer all = c;
    for (c.share = 0; c.share == 0 || c.share < c.ret_shares; c.share++) {
        assert_ok(f, load(f, &c));
        if (c.share == 0) {
            all.ret_generation = c.ret_generation;
            all.ret_rerun = c.ret_rerun;
        }
        add_share(&all, &c);
        hark_store_consumer_clear(&c);
    }
    join_ranges(&all);
    return all;
}

/* ---- what is there, as text -------------------------------------------------------------------- */

typedef struct text {
    char s[1024];
    size_t len, most; /* most: stops after so many; 0 = never */
    size_t n;
} text;

static inline void say(text *t, const char *fmt, ...) HARK_PRINTF(2, 3);
static inline void say(text *t, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(t->s + t->len, sizeof t->s - t->len, fmt, args);
    va_end(args);
    t->len += n > 0 ? (size_t)n : 0;
    t->len = t->len < sizeof t->s ? t->len : sizeof t->s - 1;
}

/* Between two entries. */
static inline bool entry_ends(text *t)
{
    say(t, "; ");
    return ++t->n != t->most;
}

static inline const char *text_end(text *t)
{
    if (t->len >= 2)
        t->s[t->len - 2] = '\0';
    return t->s;
}

/* "3 retry; 5 parked". */
static inline const char *rows_text(fixture *f, const char *name, text *t)
{
    static const char *const states[] = {"?", "retry", "behind", "parked", "dead", "counts"};
    hark_store_consumer c = look_at(f, name);
    for (size_t i = 0; i < c.ret_n_rows; i++) {
        say(t, "%llu %s", (unsigned long long)c.ret_rows[i].sequence, states[c.ret_rows[i].state]);
        (void)entry_ends(t);
    }
    hark_store_consumer_clear(&c);
    return text_end(t);
}

#define assert_rows(f, expected, name)                                                             \
    do {                                                                                           \
        text t_ = {.n = 0};                                                                        \
        assert_string_equal(expected, rows_text(f, name, &t_));                                    \
    } while (0)

/* "3 of c redriven". */
static inline bool say_letter(void *ud, const hark_store_letter *l)
{
    text *t = ud;
    say(t, "%llu of %s%s", (unsigned long long)l->sequence, l->consumer,
        l->state == HARK_LETTER_REDRIVEN ? " redriven" : "");
    return entry_ends(t);
}

static inline const char *letters_text(fixture *f, hark_store_letters_query q, text *t)
{
    q.size = sizeof q;
    assert_ok(f, f->ops->letters(f->store, &q, say_letter, t, &f->ei));
    return text_end(t);
}

#define assert_letters_of(f, expected, ...)                                                        \
    do {                                                                                           \
        text t_ = {.n = 0};                                                                        \
        assert_string_equal(expected,                                                              \
                            letters_text(f, (hark_store_letters_query){__VA_ARGS__}, &t_));        \
    } while (0)

#define assert_letters(f, expected) assert_letters_of(f, expected, .after_id = 0)

static inline bool say_attempt(void *ud, const hark_store_attempt *a)
{
    text *t = ud;
    say(t, "%lld %s %s", (long long)a->number, a->outcome, a->error ? a->error : "-");
    return entry_ends(t);
}

static inline const char *attempts_text(fixture *f, const char *name, uint64_t seq, text *t)
{
    hark_store_save v = save_of(f, name);
    assert_ok(f, f->ops->attempts(f->store, v.consumer, seq, say_attempt, t, &f->ei));
    return text_end(t);
}

#define assert_attempts(f, expected, name, seq)                                                    \
    do {                                                                                           \
        text t_ = {.n = 0};                                                                        \
        assert_string_equal(expected, attempts_text(f, name, seq, &t_));                           \
    } while (0)

#endif
