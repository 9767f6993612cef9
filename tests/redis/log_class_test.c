/* The store redis: which servers it takes, and what it says a commit on them is worth. */
#include "log_kit.h"

#include <stdio.h>
#include <string.h>

static hark_err open_at(process *p, const server *s, const char *rest)
{
    char url[160];
    (void)snprintf(url, sizeof url, "redis://127.0.0.1:%d%s", server_port(s), rest);
    return try_open(p, url, 0);
}

static int64_t durability_of(const char *const *settings)
{
    process p = {.store = NULL};
    server *s = server_redis(settings);
    assert_ok(&p, open_at(&p, s, ""));
    close_process(&p);
    server_free(s);
    return p.info.durability;
}

#define CLASS_OF(...) durability_of((const char *const[]){__VA_ARGS__, NULL})

static void test_a_commit_is_worth_what_the_server_is_set_to(void **state)
{
    (void)state;
    assert_int_equal(CLASS_OF("--appendfsync", "always"), HARK_DISK);
    assert_int_equal(CLASS_OF("--no-appendfsync-on-rewrite", "yes"), HARK_MEMORY);
    assert_int_equal(CLASS_OF("--appendfsync", "everysec"), HARK_MEMORY);
    assert_int_equal(CLASS_OF("--appendfsync", "no"), HARK_OS);
    assert_int_equal(CLASS_OF("--appendonly", "no"), HARK_MEMORY);
    assert_int_equal(CLASS_OF("--maxmemory", "100mb"), HARK_DISK); /* it does not throw away */
}

static void refuse(const char *const *settings, hark_err expected, const char *part)
{
    process p = {.store = NULL};
    server *s = server_redis(settings);
    assert_err(&p, expected, part, open_at(&p, s, ""));
    server_free(s);
}

static void test_a_server_that_throws_keys_away_is_refused(void **state)
{
    (void)state;
    refuse((const char *const[]){"--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru", NULL},
           HARK_EINVAL, "set maxmemory-policy to noeviction, or maxmemory to 0");
    refuse(
        (const char *const[]){"--maxmemory", "100mb", "--maxmemory-policy", "volatile-ttl", NULL},
        HARK_EINVAL, "maxmemory-policy volatile-ttl");
}

static void test_a_replica_is_refused(void **state)
{
    (void)state;
    char port[16];
    (void)snprintf(port, sizeof port, "%d", server_port(redis));
    refuse((const char *const[]){"--replicaof", "127.0.0.1", port, NULL}, HARK_EREADONLY,
           "is a replica");
}

static void test_the_class_is_asked_again_at_every_connect(void **state)
{
    logs *x = *state;
    process *p = open_process(x, 0);
    (void)publish(p, "t", NULL, NULL);
    assert_int_equal(p->info.durability, HARK_DISK);
    assert_non_null(say_to(redis, "CONFIG SET appendfsync everysec"));
    assert_non_null(say_to(redis, "CLIENT KILL TYPE normal"));
    (void)publish(p, "t", NULL, NULL);
    p->ops->info(p->store, &p->info);
    assert_int_equal(p->info.durability, HARK_MEMORY);
    assert_non_null(say_to(redis, "CONFIG SET appendfsync always"));
}

/* Nothing of a group is stored, and everything goes on when there is room again. */
static void test_a_server_that_is_full_says_so_and_loses_nothing(void **state)
{
    logs *x = *state;
    uint64_t seq;
    process *p = open_process(x, 0);
    assert_int_equal(publish(p, "t", "one", NULL), 1);
    assert_non_null(say_to(redis, "CONFIG SET maxmemory 1mb"));
    assert_err(p, HARK_EFULL, "raise it, or let retention remove events",
               try_publish(p, "t", "two", NULL, &seq));
    assert_int_equal(count(p), 1);
    assert_non_null(say_to(redis, "CONFIG SET maxmemory 0"));
    assert_int_equal(publish(p, "t", "two", NULL), 2);
}

static bool count_one(void *ud, const hark_store_letter *l)
{
    (void)l;
    ++*(int *)ud;
    return true;
}

/* Otherwise floors would stay where they are, and retention could free nothing. */
static void test_on_a_full_server_consumers_go_on_and_make_dead_letters(void **state)
{
    logs *x = *state;
    hark_store_consumer c;
    hark_event *e = NULL;
    hark_store_page page = {.events = &e};
    const hark_store_query q = {.size = sizeof q, .limit = 1};
    const hark_store_letters_query all = {.size = sizeof all};
    int letters = 0;
    process *p = open_process(x, 0);
    join(p, "c", &c);
    assert_int_equal(publish(p, "t", "one", "k"), 1);
    hark_store_shares s = ask_shares(p, &c, NULL, 0, false);
    assert_ok(p, p->ops->read(p->store, &q, &page, &p->ei));
    assert_non_null(say_to(redis, "CONFIG SET maxmemory 1mb"));
    hark_store_dead dead = {.event = e, .reason = "rejected", .attempts = 1, .dead_ns = 1};
    const hark_store_save v = {.size = sizeof v,
                               .consumer = c.ret_id,
                               .generation = c.ret_generation,
                               .floor = 1,
                               .highest = 1,
                               .dead = &dead,
                               .n_dead = 1,
                               .share = s.claimed[3].share,
                               .token = s.claimed[3].token};
    assert_ok(p, p->ops->begin(p->store, &p->ei));
    assert_ok(p, p->ops->consumer_save(p->store, &v, &p->ei));
    assert_ok(p, p->ops->commit(p->store, &p->ei));
    beat(p);
    assert_non_null(say_to(redis, "CONFIG SET maxmemory 0"));
    assert_ok(p, p->ops->letters(p->store, &all, count_one, &letters, &p->ei));
    assert_int_equal(letters, 1);
    hark_store_shares_clear(&s);
    (void)hark_event_unref(e);
}

static void test_who_may_not_look_counts_on_nothing(void **state)
{
    (void)state;
    process p = {.store = NULL};
    assert_non_null(say_to(redis, "ACL SETUSER shy on >secret ~* +@all -config -info"));
    assert_ok(&p, open_at(&p, redis, "?log=none"));
    assert_int_equal(p.info.durability, HARK_DISK);
    close_process(&p);
    char url[160];
    (void)snprintf(url, sizeof url, "redis://shy:secret@127.0.0.1:%d?log=none", server_port(redis));
    assert_ok(&p, try_open(&p, url, 0));
    assert_int_equal(p.info.durability, HARK_MEMORY);
    close_process(&p);
}

static void test_a_wrong_password_is_told_without_telling_it(void **state)
{
    (void)state;
    process p = {.store = NULL};
    char url[160];
    server *s = server_redis((const char *const[]){"--requirepass", "right", NULL});
    assert_err(&p, HARK_EDENIED, "write user and password into the URL", open_at(&p, s, ""));
    (void)snprintf(url, sizeof url, "redis://:wr0ng@127.0.0.1:%d", server_port(s));
    assert_err(&p, HARK_EDENIED, "mend user and password", try_open(&p, url, 0));
    assert_null(strstr(p.ei.text, "wr0ng"));
    (void)snprintf(url, sizeof url, "redis://:right@127.0.0.1:%d/3?log=x", server_port(s));
    assert_ok(&p, try_open(&p, url, 0));
    close_process(&p);
    server_free(s);
}

static void test_a_url_that_is_wrong_says_how_it_is_written(void **state)
{
    (void)state;
    process p = {.store = NULL};
    assert_err(&p, HARK_ENOTFOUND, "has no database 99", open_at(&p, redis, "/99"));
    assert_err(&p, HARK_EINVAL, "the database is not a number", open_at(&p, redis, "/name"));
    assert_err(&p, HARK_EINVAL, "is not log=NAME", open_at(&p, redis, "?lag=x"));
    assert_err(&p, HARK_EINVAL, "is not log=NAME", open_at(&p, redis, "?log="));
    assert_err(&p, HARK_EINVAL, "a log's name has letters", open_at(&p, redis, "?log=a*b"));
    assert_err(&p, HARK_EINVAL, "from 1 to 256", open_at(&p, redis, "?log=x&shares=0"));
}

static void test_a_log_that_must_be_there_is_not_made(void **state)
{
    logs *x = *state;
    const hark_store_opts opts = {.size = sizeof opts, .existing = 1};
    const hark_store_host host = {.size = sizeof host};
    process p = {.store = NULL};
    const char *rest;
    assert_ok(&p, hk_store_find(x->url, &p.ops, &rest, &p.ei));
    assert_err(&p, HARK_ENOTFOUND, "is not there",
               p.ops->open(rest, &opts, &host, &p.store, &p.ei));
    (void)open_process(x, 0);
    assert_ok(&p, p.ops->open(rest, &opts, &host, &p.store, &p.ei));
    close_process(&p);
}

static void test_databases_have_logs_of_their_own(void **state)
{
    (void)state;
    process a = {.store = NULL}, b = {.store = NULL};
    assert_ok(&a, open_at(&a, redis, "/1?log=same"));
    assert_ok(&b, open_at(&b, redis, "/2?log=same"));
    (void)publish(&a, "t", NULL, NULL);
    assert_int_equal(count(&a), 1);
    assert_int_equal(count(&b), 0);
    close_process(&a);
    close_process(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOG_TEST(test_a_commit_is_worth_what_the_server_is_set_to),
        LOG_TEST(test_a_server_that_throws_keys_away_is_refused),
        LOG_TEST(test_a_replica_is_refused),
        LOG_TEST(test_the_class_is_asked_again_at_every_connect),
        LOG_TEST(test_a_server_that_is_full_says_so_and_loses_nothing),
        LOG_TEST(test_on_a_full_server_consumers_go_on_and_make_dead_letters),
        LOG_TEST(test_who_may_not_look_counts_on_nothing),
        LOG_TEST(test_a_wrong_password_is_told_without_telling_it),
        LOG_TEST(test_a_url_that_is_wrong_says_how_it_is_written),
        LOG_TEST(test_a_log_that_must_be_there_is_not_made),
        LOG_TEST(test_databases_have_logs_of_their_own),
    };
    return logs_main("redis log class", tests, HK_COUNTOF(tests));
}
