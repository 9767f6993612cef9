/* Tests of a process among others (party.c, party_leave.c, shares.c), on a store that answers as a test tells it to. */
#include "bus/party_test_i.h"

/* ---- beats ---- */

static void test_a_bus_is_not_opened_when_the_store_does_not_hear_it(void **state)
{
    world *w = *state;
    hark_errinfo ei = {0};
    w->store.beat_err = HARK_ESTORE;
    assert_int_equal(hk_party_start(&w->bus, &ei), HARK_ESTORE);
    assert_string_equal(ei.text, "told to fail");
}

static void test_the_servers_clock_is_known(void **state)
{
    world *w = *state;
    assert_int_equal(hk_party_ahead(&w->bus), 0);
    start(w);
    assert_true(llabs(hk_party_ahead(&w->bus) - AHEAD_NS) < 1000 * MS);
    assert_true(hk_party_lives(&w->bus));
}

/* Who sets this machine's clock does not set the server's. */
static void test_between_beats_the_servers_clock_goes_by_the_monotonic_one(void **state)
{
    world *w = *state;
    start(w);
    hk_now a = hk_bus_now(&w->bus), b = hk_bus_now(&w->bus);
    assert_true(b.mono > a.mono);
    assert_int_equal(b.wall - a.wall, b.mono - a.mono);
}

static void fail_all(struct hark_store *st)
{
    st->beat_err = st->shares_err = HARK_ESTORE;
}

static void fail_shares(struct hark_store *st)
{
    st->beat_err = HARK_OK;
    st->shares_err = HARK_ESTORE;
}

static void fail_none(struct hark_store *st)
{
    st->beat_err = st->shares_err = HARK_OK;
    st->missed = 0;
}

static bool lives(world *w, bool wanted)
{
    int64_t end = hk_mono_ns() + 20000 * MS;
    while (hk_party_lives(&w->bus) != wanted && hk_mono_ns() < end)
        (void)hk_gate_wait(&w->bus.room, hk_gate_look(&w->bus.room), MS);
    return hk_party_lives(&w->bus) == wanted;
}

static void test_after_a_lapse_nothing_starts_until_shares_are_known(void **state)
{
    world *w = *state;
    w->store.lease_ns = 300 * MS;
    start(w);
    hark_sub *s = open_consumer(w);
    uint64_t lapses = hk_party_lapses(&w->bus);
    with_store(w, fail_all);
    assert_true(lives(w, false));
    with_store(w, fail_shares);
    pthread_mutex_lock(&w->store.lock);
    uint64_t missed = w->store.missed;
    pthread_mutex_unlock(&w->store.lock);
    await(w, has_missed, missed + 3);
    assert_false(hk_party_lives(&w->bus));
    with_store(w, fail_none);
    assert_true(lives(w, true));
    assert_int_equal(hk_party_lapses(&w->bus), lapses + 1);
    close_consumer(s);
}

/* ---- shares ---- */

static void test_an_opener_has_free_shares_at_once(void **state)
{
    world *w = *state;
    start(w);
    hark_sub *s = open_consumer(w);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(token_of(s, i), 10 + i);
    assert_int_equal(token_of(s, 4), 0);
    close_consumer(s);
}

static void free_fifth(struct hark_store *st)
{
    st->free[st->n_free++] = (hark_store_owned){4, 14};
}

static void test_what_comes_free_comes_on_a_hint(void **state)
{
    world *w = *state;
    start(w);
    hark_sub *s = open_consumer(w);
    with_store(w, free_fifth);
    hk_party_poke(&w->bus);
    await_answer(w, s);
    assert_int_equal(token_of(s, 4), 14);
    close_consumer(s);
}

static void lose_second(struct hark_store *st)
{
    for (size_t i = 0; i < st->n_owned; i++)
        if (st->owned[i].share == 1)
            st->owned[i] = st->owned[--st->n_owned];
}

static void test_a_share_that_was_lost_is_gone_at_once(void **state)
{
    world *w = *state;
    start(w);
    hark_sub *s = open_consumer(w);
    hk_lease lease = run_one(s, 1);
    with_store(w, lose_second);
    await_answer(w, s);
    assert_int_equal(token_of(s, 1), 0);
    assert_int_equal(token_of(s, 0), 10);
    pthread_mutex_lock(&s->consumer->lock);
    assert_int_equal(hk_cores_extend(s->consumer->cores, lease, -1), HARK_ESTALE);
    pthread_mutex_unlock(&s->consumer->lock);
    close_consumer(s);
}

static void give_third(struct hark_store *st)
{
    st->give[st->n_give++] = 2;
}

static void give_none(struct hark_store *st)
{
    st->n_give = 0;
}

static void test_an_idle_share_is_given_up_at_once(void **state)
{
    world *w = *state;
    start(w);
    hark_sub *s = open_consumer(w);
    with_store(w, give_third);
    await_answer(w, s);
    assert_int_equal(token_of(s, 2), 0);
    assert_int_equal(owned_by(w), 3);
    close_consumer(s);
}

static void test_a_share_is_given_up_when_nothing_of_it_runs_any_more(void **state)
{
    world *w = *state;
    start(w);
    hark_sub *s = open_consumer(w);
    hk_lease lease = run_one(s, 2);
    with_store(w, give_third);
    await_answer(w, s);
    assert_int_equal(token_of(s, 2), 12);
    end_one(s, lease); /* which tells the party by itself */
    int64_t end = hk_mono_ns() + 20000 * MS;
    while (token_of(s, 2) && hk_mono_ns() < end)
        (void)hk_gate_wait(&s->gate, hk_gate_look(&s->gate), MS);
    assert_int_equal(token_of(s, 2), 0);
    close_consumer(s);
}

static void test_a_share_that_may_stay_after_all_goes_on(void **state)
{
    world *w = *state;
    start(w);
    hark_sub *s = open_consumer(w);
    hk_lease lease = run_one(s, 2);
    with_store(w, give_third);
    await_answer(w, s);
    with_store(w, give_none);
    await_answer(w, s);
    end_one(s, lease);
    await_answer(w, s);
    assert_int_equal(token_of(s, 2), 12);
    close_consumer(s);
}

/* ---- what others did ---- */

static void reset_it(struct hark_store *st)
{
    st->generation = 2;
    st->paused = 1;
}

static void test_a_reset_elsewhere_begins_anew(void **state)
{
    world *w = *state;
    start(w);
    hark_sub *s = open_consumer(w);
    hk_lease lease = run_one(s, 1);
    with_store(w, reset_it);
    await_answer(w, s);
    hk_core_facts facts;
    pthread_mutex_lock(&s->consumer->lock);
    assert_int_equal(s->consumer->generation, 2);
    assert_false(s->consumer->stale);
    assert_int_equal(hk_cores_extend(s->consumer->cores, lease, -1), HARK_ESTALE);
    hk_cores_facts_get(s->consumer->cores, &facts);
    pthread_mutex_unlock(&s->consumer->lock);
    assert_true(facts.paused);
    assert_int_equal(token_of(s, 1), 12); /* 11 was of the generation before */
    close_consumer(s);
}

static void test_one_that_was_found_stale_begins_anew(void **state)
{
    world *w = *state;
    start(w);
    hark_sub *s = open_consumer(w);
    pthread_mutex_lock(&s->consumer->lock);
    s->consumer->stale = true; /* a save was refused, and then the server forgot the reset */
    pthread_mutex_unlock(&s->consumer->lock);
    await_answer(w, s);
    pthread_mutex_lock(&s->consumer->lock);
    assert_false(s->consumer->stale);
    pthread_mutex_unlock(&s->consumer->lock);
    assert_int_equal(token_of(s, 0), 11);
    close_consumer(s);
}

static void redrive_one(struct hark_store *st)
{
    st->news = (hark_store_news){
        .id = 5, .share = 0, .kind = HARK_NEWS_REDRIVEN, .sequence = sequence_of(0)};
}

static void test_a_redrive_elsewhere_comes_once(void **state)
{
    world *w = *state;
    start(w);
    hark_sub *s = open_consumer(w);
    with_store(w, redrive_one);
    hk_party_poke(&w->bus);
    await(w, has_told, 5);
    hk_started st = {0};
    pthread_mutex_lock(&s->consumer->lock);
    assert_true(hk_cores_start(s->consumer->cores, hk_now_get(), -1, &st));
    assert_int_equal(st.seq, sequence_of(0));
    pthread_mutex_unlock(&s->consumer->lock);
    end_one(s, st.lease);
    await_answer(w, s);
    pthread_mutex_lock(&s->consumer->lock);
    assert_false(hk_cores_start(s->consumer->cores, hk_now_get(), -1, &st));
    pthread_mutex_unlock(&s->consumer->lock);
    close_consumer(s);
}

/* ---- leaving ---- */

static void test_a_closed_consumer_gives_up_its_shares_before_it_ends(void **state)
{
    world *w = *state;
    start(w);
    close_consumer(open_consumer(w));
    assert_int_equal(owned_by(w), 0);
    assert_int_equal(left_in(w), 1);
}

static void test_a_consumer_ends_without_an_answer_and_gives_up_its_shares_later(void **state)
{
    world *w = *state;
    start(w);
    hark_sub *s = open_consumer(w);
    with_store(w, fail_shares);
    close_consumer(s);
    assert_int_equal(owned_by(w), 4);
    with_store(w, fail_none);
    await(w, has_left, 1);
}

static void test_one_that_is_opened_again_takes_over_what_it_had(void **state)
{
    world *w = *state;
    start(w);
    hark_sub *s = open_consumer(w);
    with_store(w, fail_shares);
    close_consumer(s);
    pthread_mutex_lock(&w->bus.admin); /* the party's thread does not come in between */
    with_store(w, fail_none);
    s = open_locked(w);
    pthread_mutex_unlock(&w->bus.admin);
    await_answer(w, s);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(token_of(s, i), 11 + i); /* given back and claimed in its present state */
    assert_int_equal(left_in(w), 0);
    close_consumer(s);
}

static void test_an_opening_that_fails_gives_back_its_shares(void **state)
{
    world *w = *state;
    start(w);
    hark_sub *s = open_consumer(w);
    hk_mark_set(&s->closed, HK_SUB_OPENING); /* what comes after the party has failed */
    hk_party_withdraw(s);
    await(w, has_left, 1);
    hk_sub_ended(s);
    hk_sub_release(s);
}

static void test_who_is_over_when_the_thread_is_gone_ends_by_itself(void **state)
{
    world *w = *state;
    start(w);
    hark_sub *s = open_consumer(w);
    hk_mark_set(&w->bus.gate, HK_DRAINING);
    hk_party_stop(&w->bus);
    close_consumer(s);
    assert_int_equal(left_in(w), 0);
}

/* An event that is to run alone: it is marked, and before that is saved it is not to start after all. */
static void mark_and_pause(hk_consumer *c)
{
    const hark_store_row row = {
        .sequence = sequence_of(0), .state = HARK_ROW_COUNTS, .interruptions = 2};
    hark_store_row rows[] = {row};
    const hark_store_consumer state = {.size = sizeof state, .ret_rows = rows, .ret_n_rows = 1};
    const hk_reach reach = {.claimed = CLAIMED, .suspect = row.sequence};
    const hark_store_owned of = {.share = 0, .token = 10};
    const hk_now now = hk_now_get();
    hk_started st;
    bool kept;
    assert_int_equal(hk_cores_claim(c->cores, of, &state, reach, now), HARK_OK);
    assert_int_equal(hk_cores_arrive(c->cores, 0, row.sequence, NULL, &payload, now, &kept), 0);
    assert_false(hk_cores_start(c->cores, now, -1, &st));
    hk_cores_pause(c->cores, true);
    hk_cores_pause(c->cores, false);
    assert_false(hk_cores_start(c->cores, now, -1, &st)); /* until that is saved */
}

static void test_who_waits_for_what_runs_alone_is_woken_when_it_does_not_after_all(void **state)
{
    world *w = *state;
    start(w);
    hark_sub *s = open_consumer(w);
    hk_consumer *c = s->consumer;
    hk_mark_set(&w->bus.gate, HK_DRAINING);
    hk_party_stop(&w->bus);
    pthread_mutex_lock(&c->lock);
    mark_and_pause(c);
    c->queued = true;
    hk_sub_hold(s);
    pthread_mutex_unlock(&c->lock);
    assert_int_equal(hk_consumer_collect(c), HARK_OK);
    unsigned seen = hk_gate_look(&s->gate);
    hk_consumer_saved(c, HARK_OK);
    assert_int_not_equal(hk_gate_look(&s->gate), seen);
    close_consumer(s);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, world_new, world_free)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_bus_is_not_opened_when_the_store_does_not_hear_it),
        TEST(test_the_servers_clock_is_known),
        TEST(test_between_beats_the_servers_clock_goes_by_the_monotonic_one),
        TEST(test_after_a_lapse_nothing_starts_until_shares_are_known),
        TEST(test_an_opener_has_free_shares_at_once),
        TEST(test_what_comes_free_comes_on_a_hint),
        TEST(test_a_share_that_was_lost_is_gone_at_once),
        TEST(test_an_idle_share_is_given_up_at_once),
        TEST(test_a_share_is_given_up_when_nothing_of_it_runs_any_more),
        TEST(test_a_share_that_may_stay_after_all_goes_on),
        TEST(test_a_reset_elsewhere_begins_anew),
        TEST(test_one_that_was_found_stale_begins_anew),
        TEST(test_a_redrive_elsewhere_comes_once),
        TEST(test_a_closed_consumer_gives_up_its_shares_before_it_ends),
        TEST(test_a_consumer_ends_without_an_answer_and_gives_up_its_shares_later),
        TEST(test_one_that_is_opened_again_takes_over_what_it_had),
        TEST(test_an_opening_that_fails_gives_back_its_shares),
        TEST(test_who_is_over_when_the_thread_is_gone_ends_by_itself),
        TEST(test_who_waits_for_what_runs_alone_is_woken_when_it_does_not_after_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
