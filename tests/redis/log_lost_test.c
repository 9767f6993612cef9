/* The store redis: when replies, connections or the server's data are lost: a group is stored once or not at all, and
 * sequences are never used twice. */
#include "log_kit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static process *open_through(logs *x, size_t i, proxy *way)
{
    char url[160];
    process *p = &x->p[i];
    url_at(x, proxy_port(way), url, sizeof url);
    assert_ok(p, try_open(p, url, x->lease_ms));
    return p;
}

/* ---- replies ----------------------------------------------------------------------------------- */

static void test_a_group_whose_reply_was_lost_is_stored_once(void **state)
{
    logs *x = *state;
    proxy *way = proxy_new(server_port(redis));
    process *p = open_through(x, 0, way);
    for (uint64_t i = 1; i <= 5; i++) {
        proxy_cut_reply(way, PROXY_TO_SERVER, "commit", 1);
        assert_int_equal(publish(p, "t", NULL, NULL), i);
        proxy_await_cuts(way, i);
    }
    assert_int_equal(count(p), 5);
    close_process(p);
    proxy_free(way);
}

static void test_a_judgement_whose_reply_was_lost_is_asked_again(void **state)
{
    logs *x = *state;
    hark_store_consumer c;
    proxy *way = proxy_new(server_port(redis));
    process *p = open_through(x, 0, way);
    proxy_cut_reply(way, PROXY_TO_SERVER, "judge", 1);
    join(p, "c", &c);
    assert_true(c.ret_created);
    proxy_await_cuts(way, 1);
    proxy_cut_reply(way, PROXY_TO_SERVER, "commit", 1);
    assert_ok(p, p->ops->begin(p->store, &p->ei));
    assert_ok(p, p->ops->consumer_pause(p->store, c.ret_id, true, &p->ei));
    assert_ok(p, p->ops->commit(p->store, &p->ei));
    proxy_await_cuts(way, 2);
    close_process(p);
    proxy_free(way);
}

static bool count_attempt(void *ud, const hark_store_attempt *a)
{
    (void)a;
    ++*(int *)ud;
    return true;
}

/* An event, and the first attempt at it, in one group. */
static hark_err store_both(process *p, const hark_store_consumer *c, const hark_store_claim *share,
                           hark_event *e)
{
    hark_err late[2] = {HARK_OK};
    hark_store_append item = {.event = e, .late = &late[0]};
    const hark_store_attempt tried = {.sequence = 1, .number = 1, .outcome = "retry"};
    const hark_store_row row = {.sequence = 1, .state = HARK_ROW_RETRY, .attempts = 1};
    const hark_store_save v = {.size = sizeof v,
                               .consumer = c->ret_id,
                               .generation = c->ret_generation,
                               .highest = 1,
                               .put = &row,
                               .n_put = 1,
                               .attempts = &tried,
                               .n_attempts = 1,
                               .share = share->share,
                               .token = share->token,
                               .late = &late[1]};
    hark_err err = p->ops->begin(p->store, &p->ei);
    if (!err)
        err = p->ops->append(p->store, &item, 1, &p->ei);
    if (!err)
        err = p->ops->consumer_save(p->store, &v, &p->ei);
    if (!err)
        err = p->ops->commit(p->store, &p->ei);
    else
        p->ops->rollback(p->store);
    return err ? err : late[0] ? late[0] : late[1];
}

/* Whichever reply it is, of connecting, looking, preparing, or of the group itself. */
static void lose_reply(logs *x, unsigned k, bool *ret_more)
{
    int tried = 0;
    hark_errinfo ei;
    hark_event *e = NULL;
    hark_store_consumer c;
    proxy *way = proxy_new(server_port(redis));
    process *p = open_through(x, 0, way);
    assert_int_equal(
        0, hark_event_new(HARK_OPTS(hark_event_spec, .type = "t", .source = "/test"), &e, &ei));
    join(p, "c", &c);
    hark_store_shares s = ask_shares(p, &c, NULL, 0, false);
    proxy_cut(way); /* so that all is begun anew */
    size_t cuts = proxy_counted(way).cuts;
    proxy_cut_reply(way, PROXY_TO_CLIENT, "", k);
    hark_err err;
    while ((err = store_both(p, &c, &s.claimed[0], e)))
        assert_int_equal(err, HARK_ESTORE); /* nothing is stored then */
    assert_int_equal(count(p), 1);
    assert_ok(p, p->ops->attempts(p->store, c.ret_id, 1, count_attempt, &tried, &p->ei));
    assert_int_equal(tried, 1);
    *ret_more = proxy_counted(way).cuts > cuts;
    hark_store_shares_clear(&s);
    (void)hark_event_unref(e);
    close_process(p);
    proxy_free(way);
}

static void test_any_reply_may_be_lost(void **state)
{
    logs *x = *state;
    bool more = true;
    unsigned k = 0;
    while (more) {
        (void)snprintf(x->url, sizeof x->url, "%s?log=any%u", server_url(redis), k);
        lose_reply(x, ++k, &more);
    }
    assert_true(k > 6);
}

static void test_reading_goes_on_over_a_new_connection(void **state)
{
    logs *x = *state;
    proxy *way = proxy_new(server_port(redis));
    process *p = open_through(x, 0, way);
    (void)publish(p, "t", NULL, NULL);
    assert_int_equal(count(p), 1);
    proxy_cut(way);
    assert_int_equal(count(p), 1);
    close_process(p);
    proxy_free(way);
}

static void test_nothing_is_stored_while_there_is_no_server(void **state)
{
    logs *x = *state;
    uint64_t seq;
    proxy *way = proxy_new(server_port(redis));
    process *p = open_through(x, 0, way);
    proxy_refuse(way, true);
    proxy_cut(way);
    assert_err(p, HARK_ESTORE, "does a server listen there?",
               try_publish(p, "t", "one", NULL, &seq));
    proxy_refuse(way, false);
    assert_int_equal(publish(p, "t", "one", NULL), 1);
    close_process(p);
    proxy_free(way);
}

static void test_scripts_that_the_server_forgot_are_brought_again(void **state)
{
    logs *x = *state;
    process *p = open_process(x, 0);
    assert_non_null(say_to(redis, "SCRIPT FLUSH"));
    assert_int_equal(publish(p, "t", NULL, NULL), 1);
    assert_int_equal(count(p), 1);
}

/* ---- data -------------------------------------------------------------------------------------- */

static void test_a_server_that_was_killed_has_all_that_was_confirmed(void **state)
{
    logs *x = *state;
    process *p = open_process(x, 0);
    for (uint64_t i = 1; i <= 20; i++)
        assert_int_equal(publish(p, "t", NULL, NULL), i);
    server_kill(redis);
    server_start(redis);
    assert_int_equal(publish(p, "t", NULL, NULL), 21);
    assert_int_equal(count(p), 21);
    assert_int_equal(p->info.epoch, 1);
}

static hark_store_tail next_tail(process *p, uint64_t after)
{
    hark_store_tail t;
    do
        assert_ok(p, p->ops->tail(p->store, after, INT64_C(5000000000), &t, &p->ei));
    while (t.lost_to == 0);
    return t;
}

static void see(process *p)
{
    hark_store_tail t;
    assert_ok(p, p->ops->tail(p->store, 0, 0, &t, &p->ei));
}

static void test_after_a_flush_sequences_go_on_above_what_was_seen(void **state)
{
    logs *x = *state;
    hark_store_consumer c;
    process *a = open_process(x, 0), *b = open_process(x, 1);
    for (int i = 0; i < 7; i++)
        (void)publish(a, "t", NULL, NULL);
    join(b, "c", &c);
    see(a);
    see(b);
    assert_non_null(say_to(redis, "FLUSHALL"));
    uint64_t seq = publish(a, "t", "again", NULL);
    assert_true(seq > 7);
    hark_store_tail mine = next_tail(a, 7), his = next_tail(b, 7);
    assert_int_equal(mine.epoch, 2);
    assert_int_equal(his.epoch, 2);
    assert_int_equal(mine.lost_from, 1);
    assert_int_equal(mine.lost_to, seq - 1);
    assert_int_equal(his.lost_to, seq - 1);
    assert_int_equal(publish(b, "t", NULL, NULL), seq + 1);
    a->ops->info(a->store, &a->info);
    assert_int_equal(a->info.epoch, 2);
}

/* Its own process brings it back; what is gone is told as a gap. */
static void test_after_a_flush_consumers_are_registered_again(void **state)
{
    logs *x = *state;
    hark_store_consumer c;
    process *a = open_process(x, 0);
    (void)publish(a, "t", NULL, NULL);
    join(a, "c", &c);
    see(a);
    assert_non_null(say_to(redis, "FLUSHALL"));
    see(a);
    hark_store_shares s = ask_shares(a, &c, NULL, 0, false);
    assert_int_equal(s.ret_generation, c.ret_generation + 1);
    assert_int_equal(s.ret_gap_from, 1);
    uint64_t lost = s.ret_gap_to;
    assert_true(lost >= 1);
    hark_store_shares_clear(&s);
    c.ret_generation++;
    beat(a);
    s = ask_shares(a, &c, NULL, 0, false);
    assert_int_equal(s.n_claimed, 32);
    assert_int_equal(s.claimed[0].floor, lost);
    hark_store_shares_clear(&s);
    assert_int_equal(publish(a, "t", NULL, NULL), lost + 1);
}

/* A consumer that its process has yet to bring back keeps its number for itself. */
static void test_after_a_flush_no_number_is_given_twice(void **state)
{
    logs *x = *state;
    hark_store_consumer old, fresh;
    process *a = open_process(x, 0), *b = open_process(x, 1);
    join(b, "old", &old);
    assert_non_null(say_to(redis, "FLUSHALL"));
    join(a, "fresh", &fresh);
    assert_true(fresh.ret_created);
    assert_int_not_equal(fresh.ret_id, old.ret_id);
    see(b);
    hark_store_shares s = ask_shares(b, &old, NULL, 0, false);
    assert_int_equal(s.ret_generation, old.ret_generation + 1);
    hark_store_shares_clear(&s);
}

/* Who opens the log between the loss and its discovery has made another one. */
static void test_a_log_that_was_replaced_is_written_no_more(void **state)
{
    logs *x = *state;
    uint64_t seq;
    hark_store_tail t;
    process *a = open_process(x, 0);
    (void)publish(a, "t", NULL, NULL);
    assert_non_null(say_to(redis, "FLUSHALL"));
    process *b = open_process(x, 1);
    assert_int_equal(publish(b, "t", NULL, NULL), 1);
    assert_err(a, HARK_EREADONLY, "another log has taken the place",
               try_publish(a, "t", NULL, NULL, &seq));
    assert_err(a, HARK_EREADONLY, "another log", a->ops->tail(a->store, 1, 0, &t, &a->ei));
    assert_int_equal(count(b), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOG_TEST(test_a_group_whose_reply_was_lost_is_stored_once),
        LOG_TEST(test_a_judgement_whose_reply_was_lost_is_asked_again),
        LOG_TEST(test_any_reply_may_be_lost),
        LOG_TEST(test_reading_goes_on_over_a_new_connection),
        LOG_TEST(test_nothing_is_stored_while_there_is_no_server),
        LOG_TEST(test_scripts_that_the_server_forgot_are_brought_again),
        LOG_TEST(test_a_server_that_was_killed_has_all_that_was_confirmed),
        LOG_TEST(test_after_a_flush_sequences_go_on_above_what_was_seen),
        LOG_TEST(test_after_a_flush_consumers_are_registered_again),
        LOG_TEST(test_after_a_flush_no_number_is_given_twice),
        LOG_TEST(test_a_log_that_was_replaced_is_written_no_more),
    };
    return logs_main("redis log lost", tests, HK_COUNTOF(tests));
}
