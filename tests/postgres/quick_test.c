/* Groups whose verdicts come with the commit, in one flush: the same verdicts as where each is given at once, whatever is
 * refused, and the same log, whenever the connection is lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "store/store_test_i.h"

#include "proxy.h"
#include "servers.h"

static server *the_server;
static unsigned n_logs;

enum { UNITS = 12, ITEMS = 4 };

/* A group of units, each with its verdict. */
typedef struct batch {
    size_t n;
    struct {
        hark_store_append items[ITEMS];
        size_t n;
        hark_err late;
        hark_errinfo ei;
    } unit[UNITS];
} batch;

typedef struct quick {
    fixture f;
    proxy *proxy;
} quick;

static int set_up_quick(void **state)
{
    quick *q = calloc(1, sizeof *q);
    assert_non_null(q);
    q->proxy = proxy_new(server_port(the_server));
    (void)snprintf(q->f.url, sizeof q->f.url, "postgresql://hark@127.0.0.1:%d/hark?log=quick%u",
                   proxy_port(q->proxy), ++n_logs);
    open_store(&q->f);
    *state = q;
    return 0;
}

static int tear_down_quick(void **state)
{
    quick *q = *state;
    q->f.ops->close(q->f.store);
    proxy_free(q->proxy);
    free(q);
    return 0;
}

/* ---- groups ------------------------------------------------------------------------------------ */

typedef struct want {
    const char *id, *subject, *data;
    int64_t expected;
    bool first_stands;
} want;

static hark_store_append item_of(const fixture *f, const want *w)
{
    hark_store_append a = {
        .event = event_of(HARK_OPTS(hark_event_spec, .type = w->data ? "t.x" : "t", .id = w->id,
                                    .source = "/test", .subject = w->subject, .data = w->data,
                                    .data_len = w->data ? strlen(w->data) : 0)),
        .fresh_id = !w->id,
        .first_stands = w->first_stands,
        .expected = w->expected};
    hk_event_digest(a.event, f->info.log_id, a.digest);
    return a;
}

static void put(const fixture *f, batch *b, const want *w, size_t n)
{
    size_t at = b->n++;
    b->unit[at].n = n;
    b->unit[at].late = HARK_EINTERNAL;
    b->unit[at].ei.text[0] = '\0';
    for (size_t i = 0; i < n; i++)
        b->unit[at].items[i] = item_of(f, &w[i]);
    b->unit[at].items[0].late = &b->unit[at].late;
}

static void assert_ends_at(fixture *f, uint64_t last)
{
    hark_store_info now;
    f->ops->info(f->store, &now);
    assert_int_equal(now.last_sequence, last);
    assert_int_equal(now.epoch, f->info.epoch);
}

static void put_one(const fixture *f, batch *b, want w)
{
    put(f, b, &w, 1);
}

static void batch_free(batch *b)
{
    for (size_t i = 0; i < b->n; i++)
        for (size_t k = 0; k < b->unit[i].n; k++)
            (void)hark_event_unref(b->unit[i].items[k].event);
    b->n = 0;
}

static void append_all(fixture *f, batch *b)
{
    for (size_t i = 0; i < b->n; i++) {
        hark_err err = f->ops->append(f->store, b->unit[i].items, b->unit[i].n, &b->unit[i].ei);
        assert_true(!err || hark_err_class(err) == HARK_CLASS_REFUSED);
        if (err) /* at once, too */
            b->unit[i].late = err;
    }
}

static hark_err try_group(fixture *f, batch *b)
{
    int64_t until = hk_mono_ns() + INT64_C(20000000000);
    hark_err err;
    while ((err = f->ops->begin(f->store, &f->ei)) == HARK_ESTORE && hk_mono_ns() < until)
        (void)f->ops->maintain(f->store, 0);
    assert_ok(f, err);
    append_all(f, b);
    return f->ops->commit(f->store, &f->ei);
}

static void group(fixture *f, batch *b)
{
    assert_ok(f, try_group(f, b));
}

/* "1 2:v3 3=" and so on: places, versions, repeats; or the error's name. */
static const char *verdicts(const batch *b, char ret[1024])
{
    size_t len = 0;
    ret[0] = '\0';
    for (size_t i = 0; i < b->n; i++) {
        const char *between = i ? " | " : "";
        len += (size_t)snprintf(ret + len, 1024 - len, "%s", between);
        if (b->unit[i].late)
            len += (size_t)snprintf(ret + len, 1024 - len, "%s", hark_err_name(b->unit[i].late));
        for (size_t k = 0; k < b->unit[i].n && !b->unit[i].late; k++) {
            const hark_store_append *a = &b->unit[i].items[k];
            len += (size_t)snprintf(ret + len, 1024 - len, "%s%llu", k ? " " : "",
                                    (unsigned long long)a->ret_sequence);
            if (a->ret_subject_version)
                len += (size_t)snprintf(ret + len, 1024 - len, ":v%lld",
                                        (long long)a->ret_subject_version);
            if (a->ret_duplicate)
                len += (size_t)snprintf(ret + len, 1024 - len, "=");
        }
    }
    return ret;
}

/* Each event that was accepted carries its place, and is read there as it was given. */
static void assert_in_log(fixture *f, const batch *b)
{
    for (size_t i = 0; i < b->n; i++)
        for (size_t k = 0; k < b->unit[i].n && !b->unit[i].late; k++) {
            const hark_store_append *a = &b->unit[i].items[k];
            hark_event *e = NULL;
            hark_store_page page = {.events = &e};
            const hark_store_query q = {.size = sizeof q, .after = a->ret_sequence - 1, .limit = 1};
            assert_ok(f, f->ops->read(f->store, &q, &page, &f->ei));
            assert_int_equal(page.n, 1);
            assert_int_equal(hark_event_sequence(e), a->ret_sequence);
            assert_string_equal(hark_event_id(e), hark_event_id(a->event));
            assert_int_equal(hark_event_subject_version(e), a->ret_subject_version);
            if (!a->ret_duplicate) {
                assert_int_equal(hark_event_sequence(a->event), a->ret_sequence);
                assert_int_equal(hark_event_recorded_ns(a->event), hark_event_recorded_ns(e));
                assert_int_equal(hark_event_subject_version(a->event), a->ret_subject_version);
            }
            (void)hark_event_unref(e);
        }
}

/* ---- verdicts ---------------------------------------------------------------------------------- */

static void test_the_server_gives_places_and_versions(void **state)
{
    quick *q = *state;
    fixture *f = &q->f;
    char told[1024];
    batch b = {0};
    for (int i = 1; i <= 3; i++) {
        put_one(f, &b, (want){.data = "\"x\""});
        put(f, &b,
            (want[]){{.subject = "s"},
                     {.id = i == 1   ? "a"
                            : i == 2 ? "b"
                                     : "c"},
                     {.subject = "s"}},
            3);
        put_one(f, &b, (want){.subject = "r", .expected = i == 1 ? HARK_EXPECT_NONE : i - 1});
        group(f, &b);
        assert_string_equal(i == 1   ? "1 | 2:v1 3 4:v2 | 5:v1"
                            : i == 2 ? "6 | 7:v3 8 9:v4 | 10:v2"
                                     : "11 | 12:v5 13 14:v6 | 15:v3",
                            verdicts(&b, told));
        assert_in_log(f, &b);
        batch_free(&b);
    }
}

static void test_one_that_is_refused_leaves_the_others_alone(void **state)
{
    quick *q = *state;
    fixture *f = &q->f;
    char told[1024];
    batch b = {0};
    put_one(f, &b, (want){.id = "a", .subject = "s"});
    group(f, &b);
    batch_free(&b);
    put_one(f, &b, (want){.id = "a", .subject = "s"});  /* a repeat */
    put_one(f, &b, (want){.id = "a", .data = "\"x\""}); /* a conflict */
    put_one(f, &b, (want){.id = "a", .data = "\"x\"", .first_stands = true});
    put(f, &b, (want[]){{.id = "n"}, {.subject = "s"}, {.subject = "s", .expected = 1}}, 3);
    put_one(f, &b, (want){.id = "n", .subject = "s", .expected = 1}); /* nothing of that is left */
    put_one(f, &b, (want){.id = "n", .subject = "s", .expected = 1}); /* a repeat in the group */
    put_one(f, &b, (want){.subject = "t", .expected = 7});
    put_one(f, &b, (want){.id = "m"});
    group(f, &b);
    assert_string_equal("1:v1= | HARK_ECONFLICT | 1:v1= | HARK_EVERSION | 2:v2 | 2:v2= | "
                        "HARK_EVERSION | 3",
                        verdicts(&b, told));
    assert_non_null(strstr(b.unit[1].ei.text, "sequence 1"));
    assert_int_equal(b.unit[6].items[0].ret_subject_version, 0);
    assert_in_log(f, &b);
    batch_free(&b);
}

static void random_unit(const fixture *f, batch *b, unsigned *seed)
{
    static const char *const ids[] = {"a", "b", "c", "d", "e", "f", "g", "h", NULL, NULL, NULL};
    static const char *const subjects[] = {"s", "t", NULL, NULL};
    want w[ITEMS];
    size_t n = rand_r(seed) % 3 ? 1 : 1 + (size_t)rand_r(seed) % ITEMS;
    for (size_t i = 0; i < n; i++) {
        w[i] = (want){.id = ids[(size_t)rand_r(seed) % HK_COUNTOF(ids)],
                      .subject = subjects[rand_r(seed) % 4],
                      .data = rand_r(seed) % 8 ? NULL : "\"x\"",
                      .first_stands = rand_r(seed) % 4 == 0};
        if (w[i].subject && rand_r(seed) % 4 == 0)
            w[i].expected = rand_r(seed) % 3 ? rand_r(seed) % 12 + 1 : HARK_EXPECT_NONE;
    }
    put(f, b, w, n);
}

/* The same groups, of which one store tells the verdicts at once. */
static void test_verdicts_are_those_that_come_at_once(void **state)
{
    quick *q = *state;
    fixture *f = &q->f, at_once = {0};
    char late[1024], early[1024];
    (void)snprintf(at_once.url, sizeof at_once.url, "postgresql://hark@127.0.0.1:%d/hark?log=at%u",
                   server_port(the_server), n_logs);
    open_store(&at_once);
    for (unsigned i = 0; i < 150; i++) {
        batch b = {0}, c = {0};
        unsigned seed = i * 7919, same = seed;
        for (unsigned k = 0; k < 1 + i % UNITS; k++) {
            random_unit(f, &b, &seed);
            random_unit(f, &c, &same);
            c.unit[k].items[0].late = NULL;
            c.unit[k].late = HARK_OK;
        }
        group(f, &b);
        group(&at_once, &c);
        if (strcmp(verdicts(&b, late), verdicts(&c, early)) != 0)
            fail_msg("group %u: late %s, at once %s", i, late, early);
        for (size_t k = 0; k < b.n; k++)
            assert_string_equal(b.unit[k].ei.text, c.unit[k].ei.text);
        batch_free(&b);
        batch_free(&c);
        if (i % 50 == 49) { /* groups that are careful are as many after a refusal */
            for (int k = 0; k < 32; k++) {
                put_one(f, &b, (want){0});
                put_one(&at_once, &c, (want){0});
                group(f, &b);
                group(&at_once, &c);
                batch_free(&b);
                batch_free(&c);
            }
        }
    }
    at_once.ops->close(at_once.store);
}

static void test_saves_go_with_it_and_a_stale_one_alone_is_refused(void **state)
{
    quick *q = *state;
    fixture *f = &q->f;
    hark_err late[2] = {HARK_EINTERNAL, HARK_EINTERNAL};
    char told[1024];
    batch b = {0};
    add_some(f, 3);
    hark_store_save v = save_of(f, "c");
    v.floor = v.highest = 2;
    for (int stale = 0; stale < 2; stale++) {
        const held *h = hold(f, v.consumer, v.generation);
        put_one(f, &b, (want){.subject = "s"});
        begin(f);
        append_all(f, &b);
        for (uint32_t i = 0; i < 2; i++) {
            hark_store_save part = part_of(f, h, &v, i);
            part.token += stale && i == 0;
            part.late = &late[i];
            assert_ok(f, f->ops->consumer_save(f->store, &part, &f->ei));
            free((void *)(uintptr_t)part.put);
            free((void *)(uintptr_t)part.drop);
        }
        commit(f);
        assert_string_equal(stale ? "5:v2" : "4:v1", verdicts(&b, told));
        assert_int_equal(late[0], stale ? HARK_ESTALE : HARK_OK);
        assert_int_equal(late[1], HARK_OK);
        batch_free(&b);
    }
}

/* ---- connections that are lost ------------------------------------------------------------------ */

static void test_a_commit_without_an_answer_is_found_out_with_its_places(void **state)
{
    quick *q = *state;
    fixture *f = &q->f;
    char told[1024];
    batch b = {0};
    for (int i = 0; i < 4; i++) {
        put_one(f, &b, (want){.subject = "s"});
        put(f, &b, (want[]){{.subject = i % 2 ? NULL : "s"}, {.id = NULL}}, 2);
        size_t cuts = proxy_counted(q->proxy).cuts;
        proxy_cut_reply(q->proxy, PROXY_TO_CLIENT, "COMMIT", 1);
        group(f, &b);
        assert_true(proxy_counted(q->proxy).cuts > cuts);
        static const char *const expected[] = {"1:v1 | 2:v2 3", "4:v3 | 5 6", "7:v4 | 8:v5 9",
                                               "10:v6 | 11 12"};
        assert_string_equal(expected[i], verdicts(&b, told));
        assert_in_log(f, &b);
        assert_ends_at(f, 3 * (uint64_t)i + 3);
        batch_free(&b);
    }
}

/* Wherever it is cut, on the way there or back: it is told truly. */
static void test_a_group_that_is_cut_anywhere_is_there_or_is_not(void **state)
{
    quick *q = *state;
    fixture *f = &q->f;
    uint64_t last = 0;
    unsigned stored = 0, refused = 0;
    for (size_t at = 1; at < 2400; at += at < 400 ? 37 : 331) {
        for (int way = 0; way < 2; way++) {
            batch b = {0};
            put_one(f, &b, (want){.subject = "s"});
            put(f, &b, (want[]){{.id = NULL}, {.id = NULL}}, 2);
            proxy_cut_after(q->proxy, way ? PROXY_TO_CLIENT : PROXY_TO_SERVER, at);
            hark_err err = try_group(f, &b);
            proxy_pass(q->proxy);
            if (err && err != HARK_ESTORE)
                fail_msg("cut %s after %zu: %s: %s", way ? "back" : "there", at, hark_err_name(err),
                         f->ei.text);
            stored += !err;
            refused += err != 0;
            if (!err) {
                assert_int_equal(b.unit[0].items[0].ret_sequence, last + 1);
                assert_int_equal(b.unit[1].items[1].ret_sequence, last + 3);
                assert_int_equal(b.unit[0].items[0].ret_subject_version, last / 3 + 1);
                last += 3;
                assert_in_log(f, &b);
            }
            batch_free(&b);
        }
    }
    assert_true(stored > 0 && refused > 0);
    batch b = {0};
    put_one(f, &b, (want){.id = "end"});
    group(f, &b);
    assert_int_equal(b.unit[0].items[0].ret_sequence, last + 1);
    assert_ends_at(f, last + 1);
    batch_free(&b);
}

static void test_a_server_that_restarts_within_a_group_has_nothing_of_it(void **state)
{
    quick *q = *state;
    fixture *f = &q->f;
    batch b = {0};
    put_one(f, &b, (want){.id = "before"});
    group(f, &b);
    batch_free(&b);
    put_one(f, &b, (want){.id = "within"});
    begin(f);
    append_all(f, &b);
    server_kill(the_server);
    server_start(the_server);
    assert_err(f, HARK_ESTORE, f->ops->commit(f->store, &f->ei));
    group(f, &b);
    assert_int_equal(b.unit[0].late, HARK_OK);
    assert_int_equal(b.unit[0].items[0].ret_sequence, 2);
    assert_false(b.unit[0].items[0].ret_duplicate);
    assert_in_log(f, &b);
    batch_free(&b);
}

/* What others have saved before is not part of it. */
static void test_a_closure_that_is_undone_takes_no_save_with_it(void **state)
{
    quick *q = *state;
    fixture *f = &q->f;
    hark_err late = HARK_EINTERNAL;
    hark_store_fate fate;
    add_some(f, 3);
    hark_store_save v = save_of(f, "c");
    const held *h = hold(f, v.consumer, v.generation);
    v.floor = v.highest = 2;
    v.late = &late;
    begin(f);
    assert_ok(f, f->ops->consumer_save(f->store, &v, &f->ei));
    assert_ok(f, f->ops->tx_begin(f->store, hk_mono_ns() + INT64_C(5000000000), true, &f->ei));
    assert_ok(f, f->ops->ack(f->store, v.consumer, v.generation,
                             (hark_store_owned){.share = 1, .token = h->token[1]}, 3, &f->ei));
    assert_ok(f, f->ops->tx_end(f->store, false, &fate, &f->ei));
    assert_int_equal(fate, HARK_STORE_STAYS);
    commit(f);
    assert_int_equal(late, HARK_OK);
    hark_store_consumer c = {.size = sizeof c, .name = "c", .find = 1};
    assert_ok(f, load(f, &c));
    assert_int_equal(c.ret_floor, 2);
    hark_store_consumer_clear(&c);
}

/* Of two processes that append at once, each group is whole, and the sequences have no hole. */
static void test_groups_of_two_processes_do_not_mix(void **state)
{
    quick *q = *state;
    fixture *f[2] = {&q->f, calloc(1, sizeof(fixture))};
    uint64_t last = 0;
    (void)snprintf(f[1]->url, sizeof f[1]->url, "%s", q->f.url);
    open_store(f[1]);
    for (int i = 0; i < 20; i++) {
        batch b[2] = {{0}};
        for (int k = 0; k < 2; k++) {
            put(f[k], &b[k], (want[]){{.subject = "s"}, {.subject = "s"}}, 2);
            begin(f[k]);
            append_all(f[k], &b[k]);
        }
        for (int k = 0; k < 2; k++) {
            commit(f[k]);
            assert_int_equal(b[k].unit[0].items[0].ret_sequence, last + 1);
            assert_int_equal(b[k].unit[0].items[1].ret_subject_version, last + 2);
            last += 2;
            assert_in_log(f[k], &b[k]);
            batch_free(&b[k]);
        }
    }
    f[1]->ops->close(f[1]->store);
    free(f[1]);
}

#define QUICK(test) cmocka_unit_test_setup_teardown(test, set_up_quick, tear_down_quick)

int main(void)
{
    const struct CMUnitTest tests[] = {
        QUICK(test_the_server_gives_places_and_versions),
        QUICK(test_one_that_is_refused_leaves_the_others_alone),
        QUICK(test_verdicts_are_those_that_come_at_once),
        QUICK(test_saves_go_with_it_and_a_stale_one_alone_is_refused),
        QUICK(test_a_commit_without_an_answer_is_found_out_with_its_places),
        QUICK(test_a_group_that_is_cut_anywhere_is_there_or_is_not),
        QUICK(test_a_server_that_restarts_within_a_group_has_nothing_of_it),
        QUICK(test_a_closure_that_is_undone_takes_no_save_with_it),
        QUICK(test_groups_of_two_processes_do_not_mix),
    };
    (void)setenv("HARK_LOG", "error", 0);
    the_server = server_postgres(NULL);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    server_free(the_server);
    return failed;
}
