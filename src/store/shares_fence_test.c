/* What a process tells of a share that is not its own any more is refused, on the stores that several have open; and what
 * operators do in one process reaches the one that has the share. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/shares_test_i.h"

/* Where a group is open at the server from its first step on, and a share is a row of a table: what meets there is settled by
 * locks, and what this process knows of its shares is its own. */
#define LOCKED(test) ON("postgresql", test)

/* ---- fences ------------------------------------------------------------------------------------ */

static void refuse_save(process *p, const hark_store_save *v)
{
    fixture *f = p->f;
    assert_ok(f, f->ops->begin(p->store, &f->ei));
    assert_err(f, HARK_ESTALE, f->ops->consumer_save(p->store, v, &f->ei));
    assert_ok(f, f->ops->commit(p->store, &f->ei));
}

static void test_what_a_former_owner_saves_or_acks_is_stale(void **state)
{
    fixture *f = *state;
    process a, b;
    hark_store_row row = {.sequence = 7, .state = HARK_ROW_RETRY};
    size_t all = two(&a, &b, f, SHORT_LEASE);
    hark_store_save v = save_by(&a, 1);
    await_shares(&b, all);
    v.floor = 9;
    v.put = &row;
    v.n_put = 1;
    refuse_save(&a, &v);
    assert_says(f, "share 1");
    if (f->ops->ack) {
        hark_store_owned of = {1, v.token};
        assert_ok(f, f->ops->begin(a.store, &f->ei));
        assert_err(f, HARK_ESTALE, f->ops->ack(a.store, a.consumer, 1, of, 7, &f->ei));
        assert_ok(f, f->ops->commit(a.store, &f->ei));
    }
    hark_store_consumer c = look_at(f, "c");
    assert_int_equal(c.ret_floor, 0);
    assert_int_equal(c.ret_n_rows, 0);
    hark_store_consumer_clear(&c);
    v.token = b.token[1];
    write_by(&b, &v);
    assert_rows(f, "7 retry", "c");
    end(&a, &b);
}

static void test_who_has_no_token_saves_nothing(void **state)
{
    process a, b;
    (void)two(&a, &b, *state, 0);
    hark_store_save v = save_by(&b, 1);
    refuse_save(&b, &v);
    v.token = a.token[1] + 1;
    refuse_save(&b, &v);
    end(&a, &b);
}

/* Each is judged by itself. */
static void test_verdicts_that_are_late_come_with_the_commit(void **state)
{
    fixture *f = *state;
    process a, b;
    hark_err late[5] = {HARK_OK};
    hark_store_row row = {.sequence = 7, .state = HARK_ROW_RETRY};
    (void)two(&a, &b, f, 0);
    assert_ok(f, f->ops->begin(a.store, &f->ei));
    for (uint32_t i = 0; i < 5; i++) {
        hark_store_save v = save_by(&a, i % 4); /* one twice: the second counts */
        v.floor = 10 + i;
        v.token += i == 1;
        v.generation += i == 2;
        v.put = &row;
        v.n_put = i < 4;
        v.late = &late[i];
        assert_ok(f, f->ops->consumer_save(a.store, &v, &f->ei));
    }
    assert_ok(f, f->ops->commit(a.store, &f->ei));
    assert_int_equal(late[0], HARK_OK);
    assert_int_equal(late[1], HARK_ESTALE);
    assert_int_equal(late[2], HARK_ENOTFOUND);
    assert_int_equal(late[3], HARK_OK);
    assert_int_equal(late[4], HARK_OK);
    ask_with(&a, (hark_store_shares){.leave = 1});
    ask(&b);
    assert_int_equal(claimed(&b, 0)->floor, 14);
    assert_int_equal(claimed(&b, 1)->floor, 0);
    assert_int_equal(claimed(&b, 2)->floor, 0);
    assert_int_equal(claimed(&b, 3)->floor, 13);
    assert_int_equal(claimed(&b, 0)->n_rows, 1);
    assert_int_equal(claimed(&b, 1)->n_rows, 0);
    end(&a, &b);
}

/* It is being saved: whoever comes gets it afterwards, as it was saved. */
static void test_a_share_that_is_being_saved_is_not_taken(void **state)
{
    fixture *f = *state;
    process a, b;
    size_t all = two(&a, &b, f, SHORT_LEASE);
    hark_store_save v = save_by(&a, 5);
    v.floor = 9;
    assert_ok(f, f->ops->begin(a.store, &f->ei));
    assert_ok(f, f->ops->consumer_save(a.store, &v, &f->ei));
    await_shares(&b, all - 1);
    assert_false(b.has[5]);
    assert_ok(f, f->ops->commit(a.store, &f->ei));
    ask(&b);
    assert_int_equal(b.n, all);
    assert_int_equal(claimed(&b, 5)->floor, 9);
    refuse_save(&a, &v);
    end(&a, &b);
}

static void test_who_lost_track_gets_its_shares_with_new_tokens(void **state)
{
    fixture *f = *state;
    process a, b, again;
    size_t all = two(&a, &b, f, 0);
    join(&again, f, a.store); /* the same process, which knows nothing of what it has */
    ask(&again);
    assert_int_equal(again.x.n_claimed, all);
    for (size_t i = 0; i < all; i++)
        assert_true(again.token[i] > a.token[i]);
    hark_store_save v = save_by(&a, 1);
    refuse_save(&a, &v);
    hark_store_shares_clear(&again.x);
    end(&a, &b);
}

/* ---- what operators do ------------------------------------------------------------------------- */

static void reset_by(process *p)
{
    fixture *f = p->f;
    hark_store_reset r = {
        .size = sizeof r, .consumer = p->consumer, .start = SEQUENCE, .start_sequence = 3};
    assert_ok(f, f->ops->begin(p->store, &f->ei));
    assert_ok(f, f->ops->consumer_reset(p->store, &r, &f->ei));
    assert_ok(f, f->ops->commit(p->store, &f->ei));
}

static void test_a_reset_takes_all_shares(void **state)
{
    fixture *f = *state;
    process a, b;
    size_t all = two(&a, &b, f, 0);
    hark_store_save v = save_by(&a, 1);
    reset_by(&b);
    v.generation = 2;
    refuse_save(&a, &v);
    ask(&a);
    assert_int_equal(a.n, 0);
    assert_int_equal(a.x.ret_generation, 2);
    a.generation = 2;
    ask(&a);
    assert_int_equal(a.x.n_claimed, all);
    assert_int_equal(claimed(&a, 1)->floor, 2);
    end(&a, &b);
}

static void test_a_pause_and_a_replay_are_told(void **state)
{
    fixture *f = *state;
    process a, b;
    (void)two(&a, &b, f, 0);
    hark_store_save v = save_by(&a, 1);
    v.highest = 9;
    write_by(&a, &v);
    write_ok(f, f->ops->consumer_pause(f->store, b.consumer, true, &f->ei));
    ask(&a);
    assert_true(a.x.ret_paused);
    hark_store_reset r = {
        .size = sizeof r, .consumer = b.consumer, .start = FIRST, .rerun = {.id = "r", .rate = 5}};
    write_ok(f, f->ops->consumer_reset(f->store, &r, &f->ei));
    a.generation = r.ret_generation;
    ask(&a);
    assert_string_equal(a.x.ret_rerun.id, "r");
    assert_int_equal(a.x.ret_rerun.upto, 9);
    assert_int_equal(a.x.ret_rerun.rate, 5);
    end(&a, &b);
}

static void test_a_consumer_that_is_not_there_has_no_shares(void **state)
{
    fixture *f = *state;
    hark_store_shares x = {.size = sizeof x, .consumer = 4711, .generation = 1};
    assert_err(f, HARK_ENOTFOUND, f->ops->shares(f->store, &x, &f->ei));
}

/* A dead letter of the first event, of key "k", by its owner; its share. */
static uint32_t bury_by(process *p, bool parks, uint64_t *ret_id)
{
    fixture *f = p->f;
    hark_event *e = event_at(f, 1);
    uint32_t share = hark_store_share_of("k", 1, (uint32_t)p->n);
    hark_store_dead d = {.event = e, .reason = "rejected", .dead_ns = 5};
    hark_store_row row = {.sequence = 1, .state = HARK_ROW_DEAD, .key = "k"};
    hark_store_save v = save_by(p, share);
    v.floor = v.highest = 1;
    v.dead = &d;
    v.n_dead = 1;
    v.put = &row;
    v.n_put = parks;
    write_by(p, &v);
    *ret_id = d.ret_id;
    (void)hark_event_unref(e);
    return share;
}

static hark_store_letter_done redrive_by(process *p, uint64_t id)
{
    hark_store_letter_done done = {0};
    fixture *f = p->f;
    assert_ok(f, f->ops->begin(p->store, &f->ei));
    assert_ok(f, f->ops->letter_redrive(p->store, id, 77, &done, &f->ei));
    assert_ok(f, f->ops->commit(p->store, &f->ei));
    free(done.key);
    done.key = NULL;
    return done;
}

static hark_store_letter_done discard_by(process *p, uint64_t id)
{
    hark_store_letter_done done = {0};
    fixture *f = p->f;
    assert_ok(f, f->ops->begin(p->store, &f->ei));
    assert_ok(f, f->ops->letter_discard(p->store, id, &done, &f->ei));
    assert_ok(f, f->ops->commit(p->store, &f->ei));
    free(done.key);
    done.key = NULL;
    return done;
}

static void test_the_owner_hears_of_what_others_redrive(void **state)
{
    fixture *f = *state;
    process a, b;
    uint64_t id = 0;
    (void)add(f, "t", NULL, "k");
    (void)two(&a, &b, f, 0);
    uint32_t share = bury_by(&a, false, &id);
    assert_true(redrive_by(&b, id).remote);
    ask(&a);
    assert_int_equal(a.x.n_news, 1);
    const hark_store_news *news = a.x.news;
    assert_int_equal(news->kind, HARK_NEWS_REDRIVEN);
    assert_int_equal(news->share, share);
    assert_int_equal(news->sequence, 1);
    assert_int_equal(news->due_ns, 77);
    assert_string_equal(news->key, "k");
    uint64_t done = news->id;
    ask(&a); /* again until it says that it knows */
    assert_int_equal(a.x.n_news, 1);
    ask_with(&a, (hark_store_shares){.news_done = done});
    assert_int_equal(a.x.n_news, 0);
    ask(&a);
    assert_int_equal(a.x.n_news, 0);
    assert_rows(f, "1 retry", "c");
    end(&a, &b);
}

static void test_the_owner_hears_of_what_others_discard(void **state)
{
    fixture *f = *state;
    process a, b;
    uint64_t id = 0;
    (void)add(f, "t", NULL, "k");
    (void)two(&a, &b, f, 0);
    (void)bury_by(&a, true, &id);
    hark_store_letter_done done = discard_by(&b, id);
    assert_true(done.parked && done.remote);
    ask(&a);
    assert_int_equal(a.x.n_news, 1);
    assert_int_equal(a.x.news[0].kind, HARK_NEWS_DISCARDED);
    assert_int_equal(a.x.news[0].sequence, 1);
    assert_string_equal(a.x.news[0].key, "k");
    assert_rows(f, "", "c");
    end(&a, &b);
}

static void test_what_the_owner_does_itself_is_no_news(void **state)
{
    fixture *f = *state;
    process a, b;
    uint64_t id = 0;
    (void)add(f, "t", NULL, "k");
    (void)two(&a, &b, f, 0);
    ask(&a); /* it has what it was told */
    (void)bury_by(&a, true, &id);
    assert_false(redrive_by(&a, id).remote);
    ask(&a);
    assert_int_equal(a.x.n_news, 0);
    end(&a, &b);
}

/* The answer to `shares` may be on its way: then the row is in the table, but not in the answer. */
static void test_what_is_redriven_right_after_a_claim_is_not_missed(void **state)
{
    fixture *f = *state;
    process a, b;
    uint64_t id = 0;
    (void)add(f, "t", NULL, "k");
    (void)two(&a, &b, f, 0);
    (void)bury_by(&a, true, &id);
    assert_true(redrive_by(&a, id).remote);
    ask(&a);
    assert_int_equal(a.x.n_news, 1);
    end(&a, &b);
}

static void test_news_of_nobodys_share_come_with_its_rows(void **state)
{
    fixture *f = *state;
    process a, b;
    uint64_t id = 0;
    (void)add(f, "t", NULL, "k");
    (void)two(&a, &b, f, 0);
    uint32_t share = bury_by(&a, false, &id);
    ask_with(&a, (hark_store_shares){.leave = 1});
    assert_true(redrive_by(&a, id).remote);
    ask(&b);
    assert_int_equal(b.x.n_news, 0);
    assert_int_equal(claimed(&b, share)->n_rows, 1);
    assert_int_equal(claimed(&b, share)->rows[0].due_ns, 77);
    ask(&b);
    assert_int_equal(b.x.n_news, 0);
    end(&a, &b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SHARED(test_what_a_former_owner_saves_or_acks_is_stale),
        SHARED(test_who_has_no_token_saves_nothing),
        SHARED(test_verdicts_that_are_late_come_with_the_commit),
        LOCKED(test_a_share_that_is_being_saved_is_not_taken),
        LOCKED(test_who_lost_track_gets_its_shares_with_new_tokens),
        LOCKED(test_a_reset_takes_all_shares),
        SHARED(test_a_pause_and_a_replay_are_told),
        SHARED(test_a_consumer_that_is_not_there_has_no_shares),
        SHARED(test_the_owner_hears_of_what_others_redrive),
        SHARED(test_the_owner_hears_of_what_others_discard),
        SHARED(test_what_the_owner_does_itself_is_no_news),
        LOCKED(test_what_is_redriven_right_after_a_claim_is_not_missed),
        SHARED(test_news_of_nobodys_share_come_with_its_rows),
    };
    return RUN_CONTRACT(tests);
}
