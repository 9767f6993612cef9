/* Dead letters: what they hold, how they are announced, redrive and discard, alone and by the
 * thousand; parked keys. */
#include "fixture.h"

#include <hark/operate.h>

#define OPTS(...) HARK_OPTS(hark_sub_opts, .consumer = "c", __VA_ARGS__)

/* Rejects events whose data begins with "bad" while `sick`. */
typedef struct patient {
    recorder *r;
    atomic_int sick;
    hark_verdict verdict;
} patient;

static hark_verdict treat(hark_delivery *d, void *ud)
{
    patient *p = ud;
    size_t len;
    const char *data = hark_event_data(hark_delivery_event(d), &len);
    record_only(p->r, d);
    if (len < 3 || memcmp(data, "bad", 3) != 0 || !atomic_load(&p->sick))
        return HARK_ACK;
    hark_delivery_explain(d, "cannot treat %s", hark_event_key(hark_delivery_event(d)));
    hark_delivery_retry_after(d, 0);
    return p->verdict;
}

static hark_sub *subscribe(fixture *f, patient *p, const hark_sub_opts *opts)
{
    hark_sub *sub;
    if (!p->r)
        p->r = recorder_new();
    assert_ok(f, hark_subscribe(f->bus, "t", treat, p, opts, &sub, &f->ei));
    return sub;
}

static uint64_t say(fixture *f, const char *key, const char *data)
{
    hark_receipt r;
    assert_ok(f, hark_publish_ei(f->bus,
                                 HARK_OPTS(hark_event_spec, .type = "t", .subject = key,
                                           .data = data, .data_len = strlen(data)),
                                 &r, &f->ei));
    return r.sequence;
}

/* The letters of a filter, counted; the last one copied. */
typedef struct found {
    size_t n;
    uint64_t id, sequence;
    int64_t attempts, redriven;
    size_t n_log;
    char reason[32], error[64], key[16], outcomes[64];
} found;

static bool note(const hark_dead_letter *l, void *ud)
{
    found *x = ud;
    x->n++;
    x->id = l->id;
    x->sequence = l->sequence;
    x->attempts = l->attempts;
    x->redriven = l->redriven;
    x->n_log = l->n_log;
    (void)snprintf(x->reason, sizeof x->reason, "%s", l->reason);
    (void)snprintf(x->error, sizeof x->error, "%s", l->error ? l->error : "");
    (void)snprintf(x->key, sizeof x->key, "%s", hark_event_key(l->event));
    x->outcomes[0] = '\0';
    for (size_t i = 0; i < l->n_log; i++) {
        size_t at = strlen(x->outcomes);
        (void)snprintf(x->outcomes + at, sizeof x->outcomes - at, "%lld %s;",
                       (long long)l->log[i].number, l->log[i].outcome);
    }
    assert_string_equal(l->consumer, "c");
    assert_true(l->dead_ns >= l->first_ns && l->first_ns > 0);
    return true;
}

static found letters(fixture *f, const hark_dead_filter *filter)
{
    found x = {0};
    assert_ok(f, hark_dead_letters(f->bus, filter, note, &x, &f->ei));
    return x;
}

#define FILTER(...) HARK_OPTS(hark_dead_filter, __VA_ARGS__)

static void test_a_dead_letter_tells_every_attempt(void **state)
{
    fixture *f = *state;
    patient p = {.sick = 1, .verdict = HARK_RETRY};
    hark_sub *sub = subscribe(f, &p, OPTS(.max_attempts = 3));
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
    end_sub(sub);
    recorder_free(p.r);
}

static void test_letters_are_found_by_consumer_type_reason_and_time(void **state)
{
    fixture *f = *state;
    patient p = {.sick = 1, .verdict = HARK_REJECT};
    hark_sub *sub = subscribe(f, &p, OPTS(.max_attempts = 3));
    for (int i = 0; i < 5; i++)
        say(f, "k", "bad");
    WAIT_UNTIL(letters(f, NULL).n == 5);
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
    end_sub(sub);
    recorder_free(p.r);
}

static void test_a_consumer_that_nobody_knows_is_not_one_without_letters(void **state)
{
    fixture *f = *state;
    patient p = {.sick = 0};
    found x = {0};
    uint64_t n = 1;
    hark_sub *sub = subscribe(f, &p, OPTS(.workers = 1));
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
            end_sub(sub);
    }
    recorder_free(p.r);
}

static void test_each_dead_letter_is_announced_once_and_its_own_death_is_not(void **state)
{
    fixture *f = *state;
    patient p = {.sick = 1, .verdict = HARK_REJECT};
    hark_sub *sub = subscribe(f, &p, OPTS(.workers = 1)), *live, *of_letters;
    patient q = {.sick = 1, .verdict = HARK_REJECT, .r = recorder_new()};
    assert_ok(f, hark_subscribe(f->bus, "dead_letter", NULL, NULL, NULL, &live, &f->ei));
    assert_ok(f, hark_subscribe(f->bus, "dead_letter", treat, &q,
                                HARK_OPTS(hark_sub_opts, .consumer = "d"), &of_letters, &f->ei));
    say(f, "k", "bad");
    hark_delivery *d;
    assert_ok(f, hark_next(live, 20000, &d));
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
    end_sub(sub);
    end_sub(live);
    end_sub(of_letters);
    recorder_free(p.r);
    recorder_free(q.r);
}

static void test_a_redriven_event_comes_once_more_with_attempts_from_one(void **state)
{
    fixture *f = *state;
    patient p = {.sick = 1, .verdict = HARK_REJECT};
    hark_sub *sub = subscribe(f, &p, OPTS(.workers = 1));
    uint64_t seq = say(f, "k", "bad");
    WAIT_UNTIL(letters(f, NULL).n == 1);
    uint64_t id = letters(f, NULL).id;
    atomic_store(&p.sick, 0);
    assert_ok(f, hark_redrive(f->bus, id, &f->ei));
    WAIT_UNTIL(stats_of(sub).acked == 1);
    assert_u64(atomic_load(&p.r->n), 2);
    assert_u64(p.r->seen[1].seq, seq);
    assert_int_equal(p.r->seen[1].attempt, 1);
    WAIT_UNTIL(letters(f, FILTER(.redriven = 1)).n == 0);
    hark_err again = hark_redrive(f->bus, id, &f->ei);
    assert_true(again == HARK_ENOTFOUND || again == HARK_ECONFLICT);
    assert_u64(atomic_load(&p.r->n), 2);
    end_sub(sub);
    recorder_free(p.r);
}

static void test_redriven_twice_at_the_same_time_it_comes_once(void **state)
{
    fixture *f = *state;
    patient p = {.sick = 1, .verdict = HARK_REJECT};
    hark_sub *sub = subscribe(f, &p, OPTS(.workers = 1));
    say(f, "k", "bad");
    WAIT_UNTIL(letters(f, NULL).n == 1);
    uint64_t id = letters(f, NULL).id;
    latch at;
    latch_init(&at);
    p.r->at = &at;
    atomic_store(&p.sick, 0);
    assert_ok(f, hark_redrive(f->bus, id, &f->ei));
    assert_err(f, HARK_ECONFLICT, hark_redrive(f->bus, id, &f->ei));
    latch_open(&at);
    WAIT_UNTIL(stats_of(sub).acked == 1);
    assert_u64(atomic_load(&p.r->n), 2);
    end_sub(sub);
    recorder_free(p.r);
}

static void test_a_redrive_without_its_consumer_waits_for_it(void **state)
{
    fixture *f = *state;
    patient p = {.sick = 1, .verdict = HARK_REJECT};
    hark_sub *sub = subscribe(f, &p, OPTS(.workers = 1));
    uint64_t seq = say(f, "k", "bad");
    WAIT_UNTIL(letters(f, NULL).n == 1);
    end_sub(sub);
    assert_ok(f, hark_redrive(f->bus, letters(f, NULL).id, &f->ei));
    atomic_store(&p.sick, 0);
    sub = subscribe(f, &p, OPTS(.workers = 1));
    WAIT_UNTIL(stats_of(sub).acked == 1);
    assert_u64(p.r->seen[1].seq, seq);
    assert_u64(atomic_load(&p.r->n), 2);
    end_sub(sub);
    recorder_free(p.r);
}

static void test_a_redriven_event_that_dies_again_is_one_dead_letter(void **state)
{
    fixture *f = *state;
    patient p = {.sick = 1, .verdict = HARK_REJECT};
    hark_sub *sub = subscribe(f, &p, OPTS(.workers = 1));
    say(f, "k", "bad");
    WAIT_UNTIL(letters(f, NULL).n == 1);
    uint64_t id = letters(f, NULL).id;
    assert_ok(f, hark_redrive(f->bus, id, &f->ei));
    WAIT_UNTIL(letters(f, FILTER(.after_id = id)).n == 1);
    assert_u64(letters(f, FILTER(.redriven = 1)).n, 1);
    end_sub(sub);
    recorder_free(p.r);
}

static void test_a_thousand_are_redriven_at_once_or_at_a_rate(void **state)
{
    fixture *f = *state;
    patient p = {.sick = 1, .verdict = HARK_REJECT};
    hark_sub *sub = subscribe(f, &p, OPTS(.workers = 1));
    uint64_t n = 0;
    for (int i = 0; i < 1000; i++)
        say(f, i % 2 ? "a" : "b", "bad");
    WAIT_UNTIL(letters(f, NULL).n == 1000);
    atomic_store(&p.sick, 0);
    assert_ok(f, hark_redrive_all(f->bus, FILTER(.limit = 300), 1000, &n, &f->ei));
    assert_u64(n, 300);
    assert_ok(f, hark_redrive_all(f->bus, NULL, 0, &n, &f->ei));
    assert_u64(n, 700);
    WAIT_UNTIL(stats_of(sub).acked == 1000);
    assert_ok(f, hark_redrive_all(f->bus, NULL, 0, &n, &f->ei));
    assert_u64(n, 0);
    assert_u64(atomic_load(&p.r->n), 2000);
    end_sub(sub);
    recorder_free(p.r);
}

/* A redrive on a thread of its own. */
typedef struct feeder {
    hark_bus *bus;
    int64_t rate;
    pthread_t thread;
    uint64_t count;
    hark_err err;
    hark_errinfo ei;
    atomic_int done;
} feeder;

static void *feed_main(void *arg)
{
    feeder *x = arg;
    x->err = hark_redrive_all(x->bus, NULL, x->rate, &x->count, &x->ei);
    atomic_store(&x->done, 1);
    return NULL;
}

static void start_feeder(feeder *x, fixture *f, int64_t rate)
{
    *x = (feeder){.bus = f->bus, .rate = rate};
    MUST(pthread_create(&x->thread, NULL, feed_main, x) == 0);
}

enum { MANY = 40, KEYS = 5 };
static const char *const keys[KEYS] = {"k0", "k1", "k2", "k3", "k4"};

/* Many dead letters of a consumer that defers at most ten events, and a cure for them. */
static hark_sub *many_letters(fixture *f, patient *p)
{
    hark_sub *sub = subscribe(f, p, OPTS(.max_deferred = 10));
    for (size_t i = 0; i < MANY; i++)
        say(f, keys[i % KEYS], "bad");
    WAIT_UNTIL(letters(f, NULL).n == MANY);
    atomic_store(&p->sick, 0);
    return sub;
}

/* At one a second it would go on for longer than this test waits for anything. */
static void
test_events_of_all_keys_go_on_during_a_redrive_of_more_than_may_be_deferred(void **state)
{
    fixture *f = *state;
    patient p = {.sick = 1, .verdict = HARK_REJECT};
    feeder x;
    hark_sub *sub = many_letters(f, &p);
    start_feeder(&x, f, 1);
    WAIT_UNTIL(stats_of(sub).acked >= 1);
    for (size_t i = 0; i < 2 * KEYS; i++)
        say(f, i < KEYS ? keys[i] : "other", "good");
    WAIT_UNTIL(stats_of(sub).acked >= 2 * KEYS + 1);
    assert_int_equal(atomic_load(&x.done), 0);
    assert_ok(f, hark_drain(f->bus, -1, &f->ei));
    pthread_join(x.thread, NULL);
    assert_int_equal(x.err, HARK_ECLOSED);
    hark_sub_unref(sub);
    close_bus(f);
    recorder_free(p.r);
}

static void test_a_drain_ends_a_paced_redrive_and_another_one_does_the_rest(void **state)
{
    fixture *f = *state;
    patient p = {.sick = 1, .verdict = HARK_REJECT};
    feeder x;
    uint64_t rest = 0;
    hark_sub *sub = many_letters(f, &p);
    start_feeder(&x, f, 1);
    WAIT_UNTIL(stats_of(sub).acked >= 1);
    assert_ok(f, hark_drain(f->bus, -1, &f->ei));
    pthread_join(x.thread, NULL);
    assert_int_equal(x.err, HARK_ECLOSED);
    assert_non_null(strstr(x.ei.text, "the rest"));
    assert_true(x.count >= 1 && x.count < MANY);
    hark_sub_unref(sub);
    reopen_bus(f, NULL);
    if (f->store->survives) {
        sub = subscribe(f, &p, OPTS(.max_deferred = 10));
        assert_ok(f, hark_redrive_all(f->bus, NULL, 0, &rest, &f->ei));
        assert_u64(rest, MANY - x.count);
        WAIT_UNTIL(letters(f, FILTER(.redriven = 1)).n == 0);
        assert_u64(atomic_load(&p.r->n), 2 * MANY);
        end_sub(sub);
    }
    recorder_free(p.r);
}

static void test_a_paced_redrive_is_no_faster_than_its_rate(void **state)
{
    static const struct {
        int64_t rate, least_ms;
        size_t n;
    } paces[] = {{4, 500, 3}, {20, 400, 10}, {200, 100, 25}}; /* the first unit is due at once */
    fixture *f = *state;
    patient p = {.sick = 1, .verdict = HARK_REJECT};
    hark_sub *sub = many_letters(f, &p);
    uint64_t n = 0, all = 0;
    for (size_t i = 0; i < HK_COUNTOF(paces); i++) {
        int64_t begin = hk_mono_ns();
        assert_ok(f,
                  hark_redrive_all(f->bus, FILTER(.limit = paces[i].n), paces[i].rate, &n, &f->ei));
        assert_true(hk_mono_ns() - begin >= paces[i].least_ms * 1000000);
        assert_u64(n, paces[i].n);
        all += n;
    }
    WAIT_UNTIL(stats_of(sub).acked == all);
    end_sub(sub);
    recorder_free(p.r);
}

static void test_what_dies_again_is_not_redriven_by_the_same_call(void **state)
{
    fixture *f = *state;
    patient p = {.sick = 1, .verdict = HARK_REJECT};
    hark_sub *sub = many_letters(f, &p);
    uint64_t n = 0;
    atomic_store(&p.sick, 1);
    assert_ok(f, hark_redrive_all(f->bus, NULL, 200, &n, &f->ei));
    assert_u64(n, MANY);
    WAIT_UNTIL(letters(f, NULL).n == MANY);
    assert_u64(atomic_load(&p.r->n), 2 * MANY);
    end_sub(sub);
    recorder_free(p.r);
}

static void test_a_redrive_that_passes_over_a_letter_leaves_no_error_text(void **state)
{
    fixture *f = *state;
    patient p = {.sick = 1, .verdict = HARK_REJECT};
    hark_sub *sub = subscribe(f, &p, OPTS(.workers = 1));
    uint64_t n = 0;
    say(f, "k", "bad");
    WAIT_UNTIL(letters(f, NULL).n == 1);
    assert_ok(f, hark_consumer_reset(f->bus, "c",
                                     HARK_OPTS(hark_reset_opts, .start = HARK_START_FIRST), NULL,
                                     &f->ei));
    WAIT_UNTIL(letters(f, NULL).n == 2); /* both of one event: one delivery answers for them */
    atomic_store(&p.sick, 0);
    f->ei = (hark_errinfo){0};
    assert_ok(f, hark_redrive_all(f->bus, NULL, 0, &n, &f->ei));
    assert_u64(n, 1);
    assert_string_equal(f->ei.text, "");
    WAIT_UNTIL(letters(f, FILTER(.redriven = 1)).n == 0);
    assert_u64(atomic_load(&p.r->n), 3);
    end_sub(sub);
    recorder_free(p.r);
}

static void test_a_discarded_letter_is_gone(void **state)
{
    fixture *f = *state;
    patient p = {.sick = 1, .verdict = HARK_REJECT};
    hark_sub *sub = subscribe(f, &p, OPTS(.workers = 1));
    for (int i = 0; i < 5; i++)
        say(f, "k", "bad");
    WAIT_UNTIL(letters(f, NULL).n == 5);
    uint64_t id = letters(f, FILTER(.limit = 1)).id, n = 0;
    assert_ok(f, hark_discard(f->bus, id, &f->ei));
    assert_err(f, HARK_ENOTFOUND, hark_discard(f->bus, id, &f->ei));
    assert_err(f, HARK_ENOTFOUND, hark_redrive(f->bus, id, &f->ei));
    assert_ok(f, hark_discard_all(f->bus, FILTER(.consumer = "c"), &n, &f->ei));
    assert_u64(n, 4);
    assert_u64(letters(f, NULL).n, 0);
    end_sub(sub);
    recorder_free(p.r);
}

/* A parked key "k" with `n` events behind its dead letter, and a free key beside it. */
static hark_sub *park(fixture *f, patient *p, size_t n)
{
    hark_sub *sub = subscribe(f, p, OPTS(.workers = 4, .dead_policy = HARK_DEAD_PARK));
    say(f, "k", "bad");
    WAIT_UNTIL(letters(f, NULL).n == 1);
    for (size_t i = 0; i < n; i++) {
        say(f, "k", "good");
        say(f, "free", "good");
    }
    WAIT_UNTIL(stats_of(sub).acked == n);
    return sub;
}

static bool copy_info(const hark_consumer_info *info, void *ud)
{
    *(hark_consumer_info *)ud = *info;
    return true;
}

static hark_consumer_info look(fixture *f)
{
    hark_consumer_info info = {0};
    assert_ok(f, hark_consumers(f->bus, copy_info, &info, &f->ei));
    return info;
}

static void test_a_parked_key_waits_for_its_redrive_in_order(void **state)
{
    fixture *f = *state;
    patient p = {.sick = 1, .verdict = HARK_REJECT};
    hark_sub *sub = park(f, &p, 20);
    WAIT_UNTIL(look(f).parked == 20);
    assert_u64(look(f).parked_keys, 1);
    assert_u64(look(f).dead_letters, 1);
    atomic_store(&p.sick, 0);
    assert_u64(atomic_load(&p.r->n), 21);
    assert_ok(f, hark_redrive(f->bus, letters(f, NULL).id, &f->ei));
    WAIT_UNTIL(stats_of(sub).acked == 41);
    for (size_t i = 22; i < 42; i++)
        assert_true(p.r->seen[i].seq > p.r->seen[i - 1].seq);
    assert_u64(p.r->seen[21].seq, p.r->seen[0].seq);
    end_sub(sub);
    recorder_free(p.r);
}

static void test_a_parked_key_goes_on_when_its_letter_is_discarded(void **state)
{
    fixture *f = *state;
    patient p = {.sick = 1, .verdict = HARK_REJECT};
    hark_sub *sub = park(f, &p, 5);
    assert_ok(f, hark_discard(f->bus, letters(f, NULL).id, &f->ei));
    WAIT_UNTIL(stats_of(sub).acked == 10);
    assert_u64(atomic_load(&p.r->n), 11);
    end_sub(sub);
    recorder_free(p.r);
}

/* The event that parks "k" died once before a reset, and that dead letter is still there. */
static void test_discarding_an_older_letter_of_an_event_leaves_its_key_parked(void **state)
{
    fixture *f = *state;
    patient p = {.sick = 1, .verdict = HARK_REJECT};
    hark_sub *sub = subscribe(f, &p, OPTS(.workers = 1, .dead_policy = HARK_DEAD_PARK));
    uint64_t first = say(f, "k", "bad");
    WAIT_UNTIL(letters(f, NULL).n == 1);
    uint64_t older = letters(f, NULL).id;
    assert_ok(f, hark_consumer_reset(f->bus, "c",
                                     HARK_OPTS(hark_reset_opts, .start = HARK_START_FIRST), NULL,
                                     &f->ei));
    WAIT_UNTIL(letters(f, NULL).n == 2);
    uint64_t newer = letters(f, FILTER(.after_id = older)).id;
    uint64_t behind = say(f, "k", "good");
    WAIT_UNTIL(look(f).parked == 1);
    assert_ok(f, hark_discard(f->bus, older, &f->ei));
    uint64_t free_one = say(f, "free", "good"); /* one worker takes what may start in order */
    WAIT_UNTIL(stats_of(sub).acked >= 1);
    assert_u64(p.r->seen[1].seq, first);
    assert_u64(p.r->seen[2].seq, free_one);
    assert_u64(look(f).parked_keys, 1);
    assert_ok(f, hark_discard(f->bus, newer, &f->ei));
    WAIT_UNTIL(stats_of(sub).acked == 2);
    assert_u64(p.r->seen[3].seq, behind);
    assert_u64(atomic_load(&p.r->n), 4);
    end_sub(sub);
    recorder_free(p.r);
}

static void test_a_parked_key_stays_parked_over_a_restart(void **state)
{
    fixture *f = *state;
    patient p = {.sick = 1, .verdict = HARK_REJECT};
    hark_sub *sub = park(f, &p, 5);
    end_sub(sub);
    if (f->store->survives)
        reopen_bus(f, NULL);
    sub = subscribe(f, &p, OPTS(.workers = 4, .dead_policy = HARK_DEAD_PARK));
    say(f, "k", "good");
    say(f, "free", "good");
    WAIT_UNTIL(stats_of(sub).acked == 1);
    assert_u64(atomic_load(&p.r->n), 7);
    atomic_store(&p.sick, 0);
    assert_ok(f, hark_redrive(f->bus, letters(f, NULL).id, &f->ei));
    WAIT_UNTIL(stats_of(sub).acked == 8);
    assert_u64(p.r->seen[7].seq, p.r->seen[0].seq);
    end_sub(sub);
    recorder_free(p.r);
}

static const struct CMUnitTest tests[] = {
    TEST(test_a_dead_letter_tells_every_attempt),
    TEST(test_letters_are_found_by_consumer_type_reason_and_time),
    TEST(test_a_consumer_that_nobody_knows_is_not_one_without_letters),
    TEST(test_each_dead_letter_is_announced_once_and_its_own_death_is_not),
    TEST(test_a_redriven_event_comes_once_more_with_attempts_from_one),
    TEST(test_redriven_twice_at_the_same_time_it_comes_once),
    TEST(test_a_redrive_without_its_consumer_waits_for_it),
    TEST(test_a_redriven_event_that_dies_again_is_one_dead_letter),
    TEST(test_a_thousand_are_redriven_at_once_or_at_a_rate),
    TEST(test_events_of_all_keys_go_on_during_a_redrive_of_more_than_may_be_deferred),
    TEST(test_a_drain_ends_a_paced_redrive_and_another_one_does_the_rest),
    TEST(test_a_paced_redrive_is_no_faster_than_its_rate),
    TEST(test_what_dies_again_is_not_redriven_by_the_same_call),
    TEST(test_a_redrive_that_passes_over_a_letter_leaves_no_error_text),
    TEST(test_a_discarded_letter_is_gone),
    TEST(test_a_parked_key_waits_for_its_redrive_in_order),
    TEST(test_a_parked_key_goes_on_when_its_letter_is_discarded),
    TEST(test_discarding_an_older_letter_of_an_event_leaves_its_key_parked),
    TEST(test_a_parked_key_stays_parked_over_a_restart),
};

CONFORMANCE_MAIN("letters")
