/* Expected versions: of those who append to a subject at the same version one wins, and the others are told
 * where the subject is now. A store that keeps no versions says so. */
#include "fixture.h"

#include <pthread.h>

enum { RACERS = 8, ROUNDS = 50 };

static hark_err append(fixture *f, const char *subject, int64_t expected, hark_receipt *ret)
{
    f->ei = (hark_errinfo){0};
    return hark_publish_ei(f->bus,
                           HARK_OPTS(hark_event_spec, .type = "order:changed", .subject = subject,
                                     .expected_version = expected),
                           ret, &f->ei);
}

/* False, and asserted, on a store that has none. */
static bool keeps_versions(fixture *f)
{
    if (!f->store->direct)
        return true;
    assert_err(f, HARK_ENOTSUP, append(f, "o1", HARK_EXPECT_NONE, NULL));
    assert_says(f, "expected_version");
    assert_err(f, HARK_ENOTSUP, append(f, "o1", 1, NULL));
    return false;
}

static void test_only_the_expected_version_is_appended_to(void **state)
{
    fixture *f = *state;
    hark_receipt r;
    if (!keeps_versions(f))
        return;
    assert_ok(f, append(f, "o1", HARK_EXPECT_NONE, &r));
    assert_u64(r.subject_version, 1);
    assert_ok(f, append(f, "o1", 1, &r));
    assert_u64(r.subject_version, 2);
    assert_ok(f, append(f, "o1", 0, &r));
    assert_u64(r.subject_version, 3);
    assert_ok(f, append(f, "o2", HARK_EXPECT_NONE, &r));

    assert_err(f, HARK_EVERSION, append(f, "o1", 2, &r));
    assert_u64(r.subject_version, 3);
    assert_u64(r.sequence, 0);
    assert_says(f, "o1");
    assert_err(f, HARK_EVERSION, append(f, "o1", 4, &r));
    assert_u64(r.subject_version, 3);
    assert_err(f, HARK_EVERSION, append(f, "o1", HARK_EXPECT_NONE, &r));
    assert_u64(r.subject_version, 3);
    assert_err(f, HARK_EVERSION, append(f, "o3", 1, &r));
    assert_u64(r.subject_version, 0);
    assert_u64(publish(f, "next"), 5); /* what was refused has left no place */
}

static void test_what_cannot_be_expected_is_refused(void **state)
{
    fixture *f = *state;
    if (!keeps_versions(f))
        return;
    assert_err(f, HARK_EINVAL, append(f, "o1", -2, NULL));
    assert_says(f, "expected_version");
    assert_err(f, HARK_EINVAL, append(f, NULL, 1, NULL));
    assert_says(f, "subject");
    const hark_event_spec *later =
        HARK_OPTS(hark_event_spec, .type = "order:changed", .subject = "o1", .expected_version = 1);
    assert_err(f, HARK_EINVAL, hark_schedule(f->bus, later, hark_after(1), NULL, &f->ei));
    assert_says(f, "expected_version");
    assert_u64(publish(f, "next"), 1);
}

static void test_a_repeat_is_a_duplicate_whatever_it_expects(void **state)
{
    fixture *f = *state;
    hark_receipt r;
    if (!keeps_versions(f))
        return;
    const hark_event_spec *spec = HARK_OPTS(hark_event_spec, .type = "order:changed", .id = "once",
                                            .subject = "o1", .expected_version = HARK_EXPECT_NONE);
    assert_ok(f, hark_publish_ei(f->bus, spec, NULL, &f->ei));
    for (int64_t expected = HARK_EXPECT_NONE; expected <= 2; expected++) {
        hark_event_spec again = *spec;
        again.expected_version = expected;
        assert_ok(f, hark_publish_ei(f->bus, &again, &r, &f->ei));
        assert_int_equal(r.duplicate, 1);
        assert_u64(r.sequence, 1);
        assert_u64(r.subject_version, 1);
    }
    assert_u64(publish(f, "next"), 2);
}

typedef struct told {
    hk_gate gate;
    hark_err err;
    bool receipt;
    int64_t version;
} told;

static void on_told(hark_err err, const hark_receipt *receipt, void *ud)
{
    told *t = ud;
    t->err = err;
    t->receipt = receipt != NULL;
    t->version = receipt ? receipt->subject_version : 0;
    hk_gate_open(&t->gate);
}

static void test_the_present_version_is_told_without_waiting_too(void **state)
{
    fixture *f = *state;
    told t = {.err = HARK_OK};
    if (!keeps_versions(f))
        return;
    hk_gate_init(&t.gate);
    assert_ok(f, append(f, "o1", 0, NULL));
    assert_ok(f, append(f, "o1", 0, NULL));
    const hark_event_spec *late =
        HARK_OPTS(hark_event_spec, .type = "order:changed", .subject = "o1", .expected_version = 1);
    assert_ok(f, hark_publish_async(f->bus, late, on_told, &t));
    assert_true(hk_gate_wait(&t.gate, 0, hk_ms_to_ns(HUNG_MS)));
    assert_int_equal(t.err, HARK_EVERSION);
    assert_true(t.receipt);
    assert_u64(t.version, 2);
}

static void test_a_batch_is_refused_as_a_whole(void **state)
{
    fixture *f = *state;
    if (!keeps_versions(f))
        return;
    const hark_event_spec *specs[] = {
        HARK_OPTS(hark_event_spec, .type = "order:changed", .subject = "o1",
                  .expected_version = HARK_EXPECT_NONE),
        HARK_OPTS(hark_event_spec, .type = "order:changed", .subject = "o1", .expected_version = 1),
        HARK_OPTS(hark_event_spec, .type = "order:changed", .subject = "o1", .expected_version = 1),
    };
    hark_receipt r[3];
    assert_err(f, HARK_EVERSION, hark_publish_batch(f->bus, specs, 3, r, &f->ei));
    const hark_receipt none = {0}, at_two = {.subject_version = 2};
    assert_memory_equal(&r[0], &none, sizeof none);
    assert_memory_equal(&r[1], &none, sizeof none);
    assert_memory_equal(&r[2], &at_two, sizeof none); /* the batch's own events count */
    assert_u64(publish(f, "next"), 1);
    assert_ok(f, hark_publish_batch(f->bus, specs, 2, NULL, &f->ei));
}

/* ---- racing ------------------------------------------------------------------------------------ */

typedef struct race {
    fixture *f;
    atomic_int won[ROUNDS];
    atomic_int lost;
} race;

/* Appends until it has been first at every version. */
static void *racer(void *arg)
{
    race *x = arg;
    for (int i = 0; i < ROUNDS; i++) {
        hark_receipt r;
        const hark_event_spec *spec = HARK_OPTS(hark_event_spec, .type = "order:changed",
                                                .subject = "o1", .expected_version = i ? i : -1);
        hark_err err = hark_publish(x->f->bus, spec, &r);
        MUST(err == HARK_OK || err == HARK_EVERSION);
        if (err) {
            MUST(r.subject_version > i);
            atomic_fetch_add(&x->lost, 1);
        } else {
            MUST(r.subject_version == i + 1);
            atomic_fetch_add(&x->won[i], 1);
        }
    }
    return NULL;
}

static void test_of_racing_writers_one_wins_at_each_version(void **state)
{
    fixture *f = *state;
    race x = {.f = f};
    pthread_t threads[RACERS];
    if (!keeps_versions(f))
        return;
    for (int i = 0; i < RACERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, racer, &x), 0);
    for (int i = 0; i < RACERS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < ROUNDS; i++)
        assert_int_equal(x.won[i], 1);
    assert_int_equal(x.lost, (RACERS - 1) * ROUNDS);
    assert_u64(publish(f, "next"), ROUNDS + 1);
}

/* ---- histories --------------------------------------------------------------------------------- */

static void assert_history(fixture *f)
{
    hark_page *page;
    uint64_t after = 0, last = 0;
    size_t n = 0;
    do {
        const hark_read_opts *opts =
            HARK_OPTS(hark_read_opts, .subject = "o1", .after = after, .limit = 7);
        assert_ok(f, hark_read(f->bus, opts, &page, &f->ei));
        for (size_t i = 0; i < hark_page_count(page); i++, n++) {
            const hark_event *e = hark_page_event(page, i);
            assert_string_equal(hark_event_subject(e), "o1");
            assert_true(hark_event_sequence(e) > last);
            last = hark_event_sequence(e);
            assert_u64(hark_event_subject_version(e), f->store->direct ? 0 : n + 1);
        }
        after = hark_page_next(page);
        hark_page_free(page);
    } while (after);
    assert_u64(n, 20);
}

static void test_a_history_is_read_in_order_of_its_versions(void **state)
{
    fixture *f = *state;
    for (int i = 0; i < 30; i++)
        assert_ok(f, append(f, i % 3 ? "o1" : "o2", 0, NULL));
    assert_history(f); /* from memory */
    if (!f->store->survives)
        return;
    reopen_bus(f, NULL);
    assert_history(f);
}

static void test_retention_and_restart_keep_the_version(void **state)
{
    fixture *f = *state;
    hark_receipt r;
    if (!keeps_versions(f))
        return;
    for (int i = 0; i < 5; i++)
        assert_ok(f, append(f, "o1", 0, NULL));
    assert_ok(f, append(f, "o2", 0, NULL)); /* the newest event is always kept */
    const hark_retention *few = HARK_OPTS(hark_retention, .pattern = "order:*", .max_events = 1);
    hark_bus_info info = {.size = sizeof info};
    assert_ok(f, hark_retain(f->bus, few, &f->ei));
    assert_ok(f, hark_retain_now(f->bus, NULL, &f->ei)); /* or the writer, of its own accord */
    assert_ok(f, hark_bus_info_get(f->bus, &info));
    assert_u64(info.first_sequence, 6);
    reopen_bus(f, NULL);
    assert_err(f, HARK_EVERSION, append(f, "o1", HARK_EXPECT_NONE, &r));
    assert_u64(r.subject_version, 5);
    assert_ok(f, append(f, "o1", 5, &r));
    assert_u64(r.subject_version, 6);
}

static const struct CMUnitTest tests[] = {
    TEST(test_only_the_expected_version_is_appended_to),
    TEST(test_what_cannot_be_expected_is_refused),
    TEST(test_a_repeat_is_a_duplicate_whatever_it_expects),
    TEST(test_the_present_version_is_told_without_waiting_too),
    TEST(test_a_batch_is_refused_as_a_whole),
    TEST(test_of_racing_writers_one_wins_at_each_version),
    TEST(test_a_history_is_read_in_order_of_its_versions),
    TEST(test_retention_and_restart_keep_the_version),
};

CONFORMANCE_MAIN("expected versions")
