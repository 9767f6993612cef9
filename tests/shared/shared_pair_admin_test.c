/* Two buses on one log: what one of them does to a consumer, its dead letters and its place counts for the
 * other, whose it is to handle. */
#include "pair.h"

/* A consumer "c" on A that rejects while it is sick; "bad" is the only key that it has. */
typedef struct patient {
    recorder *r;
    atomic_int sick;
    hark_sub *sub;
} patient;

static hark_verdict treat(hark_delivery *d, void *ud)
{
    patient *x = ud;
    const char *key = hark_event_key(hark_delivery_event(d));
    record_only(x->r, d);
    return atomic_load(&x->sick) && key && strcmp(key, "bad") == 0 ? HARK_REJECT : HARK_ACK;
}

static void patient_open(pair *p, hark_bus *bus, patient *x, recorder *r, int64_t policy)
{
    x->r = r;
    atomic_store(&x->sick, 1);
    assert_ok(p->f,
              hark_subscribe(bus, "t", treat, x,
                             OPTS(.start = HARK_START_FIRST, .workers = 2, .dead_policy = policy),
                             &x->sub, &p->f->ei));
}

typedef struct letters {
    size_t n;
    uint64_t id;
} letters;

static bool take_letter(const hark_dead_letter *l, void *ud)
{
    letters *x = ud;
    x->n++;
    x->id = l->id;
    return true;
}

static letters letters_on(pair *p, hark_bus *bus)
{
    letters x = {0};
    assert_ok(p->f, hark_dead_letters(bus, NULL, take_letter, &x, &p->f->ei));
    return x;
}

/* ---- dead letters ------------------------------------------------------------------------------ */

static void test_the_other_bus_redrives_a_dead_letter(void **state)
{
    pair p = pair_open(state);
    recorder *r = recorder_new();
    patient x;
    patient_open(&p, p.a, &x, r, HARK_DEAD_CONTINUE);
    uint64_t seq = say_on(&p, p.b, "t", "bad");
    WAIT_UNTIL(letters_on(&p, p.b).n == 1);
    atomic_store(&x.sick, 0);
    assert_ok(p.f, hark_redrive(p.b, letters_on(&p, p.b).id, &p.f->ei));
    WAIT_UNTIL(atomic_load(&r->n) == 2);
    assert_u64(r->seen[1].seq, seq);
    assert_int_equal(r->seen[1].attempt, 1);
    WAIT_UNTIL(letters_on(&p, p.a).n == 0);
    WAIT_UNTIL(consumer_on(&p, p.b).dead_letters == 0);
    assert_u64(atomic_load(&r->n), 2);
    end_sub(x.sub);
    recorder_free(r);
    pair_close(&p);
}

static void mend_a_parked_key(pair *p, hark_err (*mend)(hark_bus *, uint64_t, hark_errinfo *),
                              size_t calls_of_first)
{
    recorder *r = recorder_new();
    patient x;
    patient_open(p, p->a, &x, r, HARK_DEAD_PARK);
    uint64_t first = say_on(p, p->b, "t", "bad");
    WAIT_UNTIL(letters_on(p, p->b).n == 1);
    uint64_t second = say_on(p, p->b, "t", "bad"), third = say_on(p, p->a, "t", "bad");
    WAIT_UNTIL(consumer_on(p, p->b).parked >= 2);
    assert_u64(atomic_load(&r->n), 1);
    atomic_store(&x.sick, 0);
    assert_ok(p->f, mend(p->b, letters_on(p, p->b).id, &p->f->ei));
    WAIT_UNTIL(atomic_load(&r->n) == calls_of_first + 2);
    const uint64_t expected[] = {first, calls_of_first == 2 ? first : second,
                                 calls_of_first == 2 ? second : third, third};
    for (size_t i = 0; i < calls_of_first + 2; i++)
        assert_u64(r->seen[i].seq, expected[i]);
    WAIT_UNTIL(consumer_on(p, p->b).parked == 0);
    WAIT_UNTIL(letters_on(p, p->a).n == 0);
    end_sub(x.sub);
    recorder_free(r);
}

static void test_a_parked_key_goes_on_when_the_other_bus_redrives(void **state)
{
    pair p = pair_open(state);
    mend_a_parked_key(&p, hark_redrive, 2);
    pair_close(&p);
}

static void test_a_parked_key_goes_on_when_the_other_bus_discards(void **state)
{
    pair p = pair_open(state);
    mend_a_parked_key(&p, hark_discard, 1);
    pair_close(&p);
}

static void test_a_letter_is_redriven_by_one_bus_only(void **state)
{
    pair p = pair_open(state);
    recorder *r = recorder_new();
    patient x;
    patient_open(&p, p.a, &x, r, HARK_DEAD_CONTINUE);
    (void)say_on(&p, p.a, "t", "bad");
    WAIT_UNTIL(letters_on(&p, p.b).n == 1);
    assert_ok(p.f, hark_consumer_pause(p.a, "c", &p.f->ei));
    uint64_t id = letters_on(&p, p.b).id;
    assert_ok(p.f, hark_redrive(p.b, id, &p.f->ei));
    assert_err(p.f, HARK_ECONFLICT, hark_redrive(p.a, id, &p.f->ei));
    end_sub(x.sub);
    recorder_free(r);
    pair_close(&p);
}

static void test_a_dead_letter_is_counted_and_announced_once(void **state)
{
    enum { N = 20 };
    pair p = pair_open(state);
    recorder *r = recorder_new();
    side a = {.verdict = HARK_REJECT}, b = {.verdict = HARK_REJECT};
    side_open(&p, p.a, &a, r, OPTS(.start = HARK_START_FIRST, .workers = 2));
    side_open(&p, p.b, &b, r, OPTS(.start = HARK_START_FIRST, .workers = 2));
    size_t said = until_both_work(&p, &a, &b);
    WAIT_UNTIL(letters_on(&p, p.a).n == said);
    WAIT_UNTIL(count_on(&p, p.b, "dead_letter") == said);
    for (int i = 0; i < N; i++)
        (void)say_on(&p, i % 2 ? p.a : p.b, "t", "one");
    WAIT_UNTIL(letters_on(&p, p.a).n >= said + N);
    WAIT_UNTIL(consumer_on(&p, p.b).lag == 0 || consumer_on(&p, p.b).dead_letters >= said + N);
    assert_u64(letters_on(&p, p.b).n, said + N);
    assert_u64(consumer_on(&p, p.a).dead_letters, said + N);
    WAIT_UNTIL(count_on(&p, p.a, "dead_letter") >= said + N);
    WAIT_UNTIL(count_on(&p, p.b, "dead_letter") >= said + N);
    assert_u64(count_on(&p, p.b, "dead_letter"), said + N);
    end_sub(a.sub);
    end_sub(b.sub);
    recorder_free(r);
    pair_close(&p);
}

static void test_all_letters_are_redriven_from_one_bus(void **state)
{
    pair p = pair_open(state);
    recorder *r = recorder_new();
    side a = {.verdict = HARK_REJECT}, b = {.verdict = HARK_REJECT};
    uint64_t count;
    side_open(&p, p.a, &a, r, OPTS(.start = HARK_START_FIRST, .workers = 2));
    side_open(&p, p.b, &b, r, OPTS(.start = HARK_START_FIRST, .workers = 2));
    size_t said = until_both_work(&p, &a, &b);
    WAIT_UNTIL(letters_on(&p, p.a).n == said);
    a.verdict = b.verdict = HARK_ACK; /* nothing runs now */
    assert_ok(p.f, hark_redrive_all(p.b, NULL, 0, &count, &p.f->ei));
    assert_u64(count, said);
    WAIT_UNTIL(atomic_load(&r->n) >= 2 * said);
    WAIT_UNTIL(letters_on(&p, p.a).n == 0);
    WAIT_UNTIL(consumer_on(&p, p.b).dead_letters == 0);
    assert_u64(atomic_load(&r->n), 2 * said);
    end_sub(a.sub);
    end_sub(b.sub);
    recorder_free(r);
    pair_close(&p);
}

/* ---- pause and reset --------------------------------------------------------------------------- */

static void test_the_other_bus_pauses_and_resumes(void **state)
{
    pair p = pair_open(state);
    recorder *r = recorder_new(), *heard = recorder_new();
    hark_sub *s = listen_on(&p, p.a, r, OPTS(.start = HARK_START_FIRST));
    hark_sub *live = listen_on(&p, p.a, heard, NULL);
    (void)say_on(&p, p.b, "t", "k");
    WAIT_UNTIL(atomic_load(&r->n) == 1);
    assert_ok(p.f, hark_consumer_pause(p.b, "c", &p.f->ei));
    WAIT_UNTIL(why_on(&p, p.a) == HARK_WHY_PAUSED);
    for (int i = 0; i < 20; i++)
        (void)say_on(&p, i % 2 ? p.a : p.b, "t", "k");
    WAIT_UNTIL(atomic_load(&heard->n) == 21);
    assert_u64(atomic_load(&r->n), 1);
    assert_true(consumer_on(&p, p.a).paused && consumer_on(&p, p.b).paused);
    assert_ok(p.f, hark_consumer_resume(p.b, "c", &p.f->ei));
    WAIT_UNTIL(atomic_load(&r->n) == 21);
    assert_ascending(r);
    end_sub(s);
    end_sub(live);
    recorder_free(r);
    recorder_free(heard);
    pair_close(&p);
}

static void reset_to_first_on(pair *p, hark_bus *bus)
{
    hark_reset_result x = {.size = sizeof x};
    assert_ok(p->f,
              hark_consumer_reset(bus, "c", HARK_OPTS(hark_reset_opts, .start = HARK_START_FIRST),
                                  &x, &p->f->ei));
    assert_true(x.replay_id[0] != '\0');
}

static void test_after_a_reset_by_the_other_bus_all_comes_again_in_order(void **state)
{
    enum { N = 40 };
    pair p = pair_open(state);
    recorder *r = recorder_new();
    hark_sub *s = listen_on(&p, p.a, r, OPTS(.start = HARK_START_FIRST));
    for (int i = 0; i < N; i++)
        (void)say_on(&p, p.b, "t", i % 2 ? "odd" : "even");
    WAIT_UNTIL(consumer_on(&p, p.b).lag == 0);
    assert_u64(atomic_load(&r->n), N);
    reset_to_first_on(&p, p.b);
    WAIT_UNTIL(atomic_load(&r->n) >= 2 * N);
    WAIT_UNTIL(consumer_on(&p, p.b).lag == 0);
    assert_u64(atomic_load(&r->n), 2 * N);
    for (int key = 0; key < 2; key++)
        for (uint64_t i = 0, next = (uint64_t)key + 1; i < N; i++)
            if ((r->seen[N + i].seq & 1) == ((uint64_t)key + 1) % 2) {
                assert_u64(r->seen[N + i].seq, next);
                next += 2;
            }
    assert_u64(consumer_on(&p, p.a).generation, consumer_on(&p, p.b).generation);
    end_sub(s);
    recorder_free(r);
    pair_close(&p);
}

/* Whether its answer is refused at once or with the commit: it does not count. */
static void test_what_runs_while_the_other_bus_resets_comes_again(void **state)
{
    pair p = pair_open(state);
    hark_sub *s;
    hark_delivery *d, *again;
    assert_ok(p.f,
              hark_subscribe(p.a, "t", NULL, NULL, OPTS(.start = HARK_START_FIRST), &s, &p.f->ei));
    uint64_t seq = say_on(&p, p.a, "t", "k");
    assert_ok(p.f, hark_next(s, HUNG_MS, &d));
    assert_ok(p.f,
              hark_consumer_reset(p.b, "c", HARK_OPTS(hark_reset_opts, .start = HARK_START_FIRST),
                                  NULL, &p.f->ei));
    hark_err late = hark_settle(&d, HARK_OPTS(hark_settle_opts, .verdict = HARK_REJECT));
    assert_true(late == HARK_OK || late == HARK_ESTALE);
    assert_ok(p.f, hark_next(s, HUNG_MS, &again));
    assert_u64(hark_delivery_sequence(again), seq);
    assert_ok(p.f, hark_settle(&again, NULL));
    WAIT_UNTIL(consumer_on(&p, p.b).lag == 0);
    assert_u64(letters_on(&p, p.a).n, 0);
    hark_sub_close(s);
    MUST(hark_sub_join(s, HUNG_MS) == HARK_OK);
    hark_sub_unref(s);
    pair_close(&p);
}

static void test_a_reset_of_a_consumer_that_both_have_resets_both(void **state)
{
    pair p = pair_open(state);
    recorder *r = recorder_new();
    side a = {0}, b = {0};
    side_open(&p, p.a, &a, r, OPTS(.start = HARK_START_FIRST, .workers = 4));
    side_open(&p, p.b, &b, r, OPTS(.start = HARK_START_FIRST, .workers = 4));
    size_t said = until_both_work(&p, &a, &b);
    WAIT_UNTIL(consumer_on(&p, p.b).lag == 0);
    reset_to_first_on(&p, p.b);
    WAIT_UNTIL(atomic_load(&r->n) >= 2 * said);
    WAIT_UNTIL(consumer_on(&p, p.a).lag == 0);
    assert_u64(atomic_load(&r->n), 2 * said);
    end_sub(a.sub);
    end_sub(b.sub);
    recorder_free(r);
    pair_close(&p);
}

/* ---- what is settled --------------------------------------------------------------------------- */

static void test_a_bus_waits_for_what_the_other_one_settles(void **state)
{
    pair p = pair_open(state);
    recorder *r = recorder_new();
    patient x;
    patient_open(&p, p.a, &x, r, HARK_DEAD_CONTINUE);
    for (size_t i = 1; i <= 10; i++) {
        hark_settlement s = {.lag = 99};
        uint64_t seq = say_on(&p, p.b, "t", "k");
        assert_ok(p.f, hark_settled(p.b, "c", seq, HUNG_MS, &s, &p.f->ei));
        assert_u64(atomic_load(&r->n), i);
        assert_u64(s.lag, 0);
    }
    hark_settlement s = {0};
    uint64_t bad = say_on(&p, p.b, "t", "bad");
    assert_err(p.f, HARK_EDEAD, hark_settled(p.b, "c", bad, HUNG_MS, &s, &p.f->ei));
    assert_u64(s.dead_letter, letters_on(&p, p.a).id);
    end_sub(x.sub);
    recorder_free(r);
    pair_close(&p);
}

static void test_settled_is_told_of_shares_here_and_there(void **state)
{
    pair p = pair_open(state);
    recorder *r = recorder_new();
    side a = {0}, b = {0};
    side_open(&p, p.a, &a, r, OPTS(.start = HARK_START_FIRST, .workers = 4));
    side_open(&p, p.b, &b, r, OPTS(.start = HARK_START_FIRST, .workers = 4));
    (void)until_both_work(&p, &a, &b);
    for (int i = 0; i < 40; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "k%d", i);
        size_t before = atomic_load(&r->n);
        uint64_t seq = say_on(&p, i % 2 ? p.a : p.b, "t", key);
        assert_ok(p.f, hark_settled(i % 2 ? p.a : p.b, "c", seq, HUNG_MS, NULL, &p.f->ei));
        assert_u64(atomic_load(&r->n), before + 1);
    }
    end_sub(a.sub);
    end_sub(b.sub);
    recorder_free(r);
    pair_close(&p);
}

static void test_it_is_not_settled_while_the_other_bus_has_it_in_hand(void **state)
{
    pair p = pair_open(state);
    latch at;
    recorder *r = recorder_at(&at);
    hark_sub *s = listen_on(&p, p.a, r, OPTS(.start = HARK_START_FIRST));
    uint64_t seq = say_on(&p, p.b, "t", "k");
    WAIT_UNTIL(atomic_load(&at.arrived) == 1);
    assert_err(p.f, HARK_ETIMEDOUT, hark_settled(p.b, "c", seq, 200, NULL, &p.f->ei));
    latch_open(&at);
    assert_ok(p.f, hark_settled(p.b, "c", seq, HUNG_MS, NULL, &p.f->ei));
    end_sub(s);
    recorder_free(r);
    pair_close(&p);
}

static const struct CMUnitTest tests[] = {
    TEST(test_the_other_bus_redrives_a_dead_letter),
    TEST(test_a_parked_key_goes_on_when_the_other_bus_redrives),
    TEST(test_a_parked_key_goes_on_when_the_other_bus_discards),
    TEST(test_a_letter_is_redriven_by_one_bus_only),
    TEST(test_a_dead_letter_is_counted_and_announced_once),
    TEST(test_all_letters_are_redriven_from_one_bus),
    TEST(test_the_other_bus_pauses_and_resumes),
    TEST(test_after_a_reset_by_the_other_bus_all_comes_again_in_order),
    TEST(test_what_runs_while_the_other_bus_resets_comes_again),
    TEST(test_a_reset_of_a_consumer_that_both_have_resets_both),
    TEST(test_a_bus_waits_for_what_the_other_one_settles),
    TEST(test_settled_is_told_of_shares_here_and_there),
    TEST(test_it_is_not_settled_while_the_other_bus_has_it_in_hand),
};

CONFORMANCE_MAIN("two buses: admin")
