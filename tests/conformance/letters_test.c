/* Dead letters: what they hold, how they are found, announced and discarded; parked keys. How they are
 * redriven is in redrive_test.c. */
#include "patient.h"

static void test_a_dead_letter_tells_every_attempt(void **state)
{
    fixture *f = *state;
    patient *p = patient_new(f, OPTS(.max_attempts = 3));
    p->verdict = HARK_RETRY;
    uint64_t seq = say(f, "k", "bad");
    WAIT_UNTIL(letters(f, NULL).n == 1);
    found x = letters(f, NULL), y = {0};
    assert_u64(x.sequence, seq);
    assert_int_equal(x.attempts, 3);
    assert_string_equal(x.reason, "max_attempts");
    assert_string_equal(x.error, "cannot treat k");
    assert_string_equal(x.key, "k");
    assert_ok(f, hark_dead_letter_get(f->bus, x.id, note, &y, &f->ei));
    assert_string_equal(y.outcomes, "1 retry;2 retry;3 retry;");
    assert_err(f, HARK_ENOTFOUND, hark_dead_letter_get(f->bus, x.id + 1000, note, &y, &f->ei));
    assert_says(f, "no dead letter");
    patient_end(p);
}

static void test_letters_are_found_by_consumer_type_reason_and_time(void **state)
{
    fixture *f = *state;
    patient *p = patient_new(f, OPTS(.max_attempts = 3));
    (void)bury(f, 5);
    int64_t now = hk_wall_ns();
    assert_u64(letters(f, FILTER(.consumer = "c")).n, 5);
    assert_u64(letters(f, FILTER(.type = "t")).n, 5);
    assert_u64(letters(f, FILTER(.type = "u:**")).n, 0);
    assert_u64(letters(f, FILTER(.reason = "rejected")).n, 5);
    assert_u64(letters(f, FILTER(.reason = "crash")).n, 0);
    assert_err(f, HARK_EINVAL,
               hark_redrive_all(f->bus, FILTER(.reason = "reject"), 0, NULL, &f->ei));
    assert_says(f, "rejected");
    assert_u64(letters(f, FILTER(.to_ns = now + 1)).n, 5);
    assert_u64(letters(f, FILTER(.from_ns = now + 1)).n, 0);
    assert_u64(letters(f, FILTER(.limit = 2)).n, 2);
    assert_u64(letters(f, FILTER(.after_id = letters(f, FILTER(.limit = 2)).id)).n, 3);
    patient_end(p);
}

static void test_a_consumer_that_nobody_knows_is_not_one_without_letters(void **state)
{
    fixture *f = *state;
    patient *p = patient_new(f, OPTS(.workers = 1));
    found x = {0};
    uint64_t n = 1;
    const hark_dead_filter *strange = FILTER(.consumer = "d"), *known = FILTER(.consumer = "c");
    for (int i = 0; i < 2; i++) { /* open here, then known to the store only */
        assert_u64(letters(f, known).n, 0);
        assert_ok(f, hark_redrive_all(f->bus, known, 0, &n, &f->ei));
        assert_ok(f, hark_discard_all(f->bus, known, &n, &f->ei));
        assert_err(f, HARK_ENOTFOUND, hark_dead_letters(f->bus, strange, note, &x, &f->ei));
        assert_says(f, "hark_consumers");
        assert_err(f, HARK_ENOTFOUND, hark_redrive_all(f->bus, strange, 0, &n, &f->ei));
        assert_says(f, "'d'");
        assert_err(f, HARK_ENOTFOUND, hark_discard_all(f->bus, strange, &n, &f->ei));
        assert_says(f, "hark_consumers");
        assert_u64(n, 0);
        if (i == 0)
            end_sub(p->sub);
    }
    patient_free(p);
}

static void test_each_dead_letter_is_announced_once_and_its_own_death_is_not(void **state)
{
    fixture *f = *state;
    patient *p = patient_new(f, OPTS(.workers = 1));
    hark_sub *live, *of_letters;
    patient q = {.sick = 1, .verdict = HARK_REJECT, .r = recorder_new()};
    assert_ok(f, hark_subscribe(f->bus, "dead_letter", NULL, NULL, NULL, &live, &f->ei));
    assert_ok(f, hark_subscribe(f->bus, "dead_letter", treat, &q,
                                HARK_OPTS(hark_sub_opts, .consumer = "d"), &of_letters, &f->ei));
    say(f, "k", "bad");
    hark_delivery *d;
    assert_ok(f, hark_next(live, HUNG_MS, &d));
    size_t len;
    const char *data = hark_event_data(hark_delivery_event(d), &len);
    const char *parts[] = {"\"reason\":\"rejected\"", "\"consumer\":\"c\"", "\"attempts\":1",
                           "\"error\":\"cannot treat k\"", "\"subject\":\"k\""};
    for (size_t i = 0; i < HK_COUNTOF(parts); i++)
        if (!memmem(data, len, parts[i], strlen(parts[i])))
            fail_msg("%s is not in %.*s", parts[i], (int)len, data);
    assert_ok(f, hark_settle(&d, NULL));
    WAIT_UNTIL(atomic_load(&q.r->n) == 1);
    assert_err(f, HARK_ETIMEDOUT, hark_next(live, 50, &d));
    end_sub(live);
    end_sub(of_letters);
    patient_end(p);
    recorder_free(q.r);
}

static void test_a_discarded_letter_is_gone(void **state)
{
    fixture *f = *state;
    patient *p = patient_new(f, OPTS(.workers = 1));
    (void)bury(f, 5);
    uint64_t id = letters(f, FILTER(.limit = 1)).id, n = 0;
    assert_ok(f, hark_discard(f->bus, id, &f->ei));
    assert_err(f, HARK_ENOTFOUND, hark_discard(f->bus, id, &f->ei));
    assert_err(f, HARK_ENOTFOUND, hark_redrive(f->bus, id, &f->ei));
    assert_ok(f, hark_discard_all(f->bus, FILTER(.consumer = "c"), &n, &f->ei));
    assert_u64(n, 4);
    assert_u64(letters(f, NULL).n, 0);
    patient_end(p);
}

/* A parked key "k" with `n` events behind its dead letter, and a free key beside it. */
static patient *park(fixture *f, size_t n)
{
    patient *p = patient_new(f, OPTS(.workers = 4, .dead_policy = HARK_DEAD_PARK));
    (void)bury(f, 1);
    for (size_t i = 0; i < n; i++) {
        say(f, "k", "good");
        say(f, "free", "good");
    }
    WAIT_UNTIL(stats_of(p->sub).acked == n);
    return p;
}

static void test_a_parked_key_waits_for_its_redrive_in_order(void **state)
{
    fixture *f = *state;
    patient *p = park(f, 20);
    WAIT_UNTIL(consumer_now(f).parked == 20);
    assert_u64(consumer_now(f).parked_keys, 1);
    assert_u64(consumer_now(f).dead_letters, 1);
    atomic_store(&p->sick, 0);
    assert_u64(atomic_load(&p->r->n), 21);
    assert_ok(f, hark_redrive(f->bus, letters(f, NULL).id, &f->ei));
    WAIT_UNTIL(stats_of(p->sub).acked == 41);
    for (size_t i = 22; i < 42; i++)
        assert_true(p->r->seen[i].seq > p->r->seen[i - 1].seq);
    assert_u64(p->r->seen[21].seq, p->r->seen[0].seq);
    patient_end(p);
}

static void test_a_parked_key_goes_on_when_its_letter_is_discarded(void **state)
{
    fixture *f = *state;
    patient *p = park(f, 5);
    assert_ok(f, hark_discard(f->bus, letters(f, NULL).id, &f->ei));
    WAIT_UNTIL(stats_of(p->sub).acked == 10);
    assert_u64(atomic_load(&p->r->n), 11);
    patient_end(p);
}

/* The event that parks "k" died once before a reset, and that dead letter is still there. */
static void test_discarding_an_older_letter_of_an_event_leaves_its_key_parked(void **state)
{
    fixture *f = *state;
    patient *p = patient_new(f, OPTS(.workers = 1, .dead_policy = HARK_DEAD_PARK));
    found older = bury(f, 1);
    (void)reset_to_first(f);
    WAIT_UNTIL(letters(f, NULL).n == 2);
    uint64_t newer = letters(f, FILTER(.after_id = older.id)).id;
    uint64_t behind = say(f, "k", "good");
    WAIT_UNTIL(consumer_now(f).parked == 1);
    assert_ok(f, hark_discard(f->bus, older.id, &f->ei));
    uint64_t free_one = say(f, "free", "good"); /* one worker takes what may start in order */
    WAIT_UNTIL(stats_of(p->sub).acked >= 1);
    assert_u64(p->r->seen[1].seq, older.sequence);
    assert_u64(p->r->seen[2].seq, free_one);
    assert_u64(consumer_now(f).parked_keys, 1);
    assert_ok(f, hark_discard(f->bus, newer, &f->ei));
    WAIT_UNTIL(stats_of(p->sub).acked == 2);
    assert_u64(p->r->seen[3].seq, behind);
    assert_u64(atomic_load(&p->r->n), 4);
    patient_end(p);
}

static void test_a_parked_key_stays_parked_over_a_restart(void **state)
{
    fixture *f = *state;
    patient *p = park(f, 5);
    end_sub(p->sub);
    if (f->store->survives)
        reopen_bus(f, NULL);
    patient_subscribe(f, p, OPTS(.workers = 4, .dead_policy = HARK_DEAD_PARK));
    say(f, "k", "good");
    say(f, "free", "good");
    WAIT_UNTIL(stats_of(p->sub).acked == 1);
    assert_u64(atomic_load(&p->r->n), 7);
    atomic_store(&p->sick, 0);
    assert_ok(f, hark_redrive(f->bus, letters(f, NULL).id, &f->ei));
    WAIT_UNTIL(stats_of(p->sub).acked == 8);
    assert_u64(p->r->seen[7].seq, p->r->seen[0].seq);
    patient_end(p);
}

static const struct CMUnitTest tests[] = {
    TEST(test_a_dead_letter_tells_every_attempt),
    TEST(test_letters_are_found_by_consumer_type_reason_and_time),
    TEST(test_a_consumer_that_nobody_knows_is_not_one_without_letters),
    TEST(test_each_dead_letter_is_announced_once_and_its_own_death_is_not),
    TEST(test_a_discarded_letter_is_gone),
    TEST(test_a_parked_key_waits_for_its_redrive_in_order),
    TEST(test_a_parked_key_goes_on_when_its_letter_is_discarded),
    TEST(test_discarding_an_older_letter_of_an_event_leaves_its_key_parked),
    TEST(test_a_parked_key_stays_parked_over_a_restart),
};

CONFORMANCE_MAIN("letters")
