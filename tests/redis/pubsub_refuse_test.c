/* redis+pubsub: what it does not do is refused with HARK_ENOTSUP and the stores that do; what is wrong
 * with a URL or a server is said, with host and port and without the password. */
#include "kit.h"

#include <hark/tx.h>
#include <hark/versions.h>

static hark_verdict never(hark_delivery *d, void *ud)
{
    (void)d, (void)ud;
    MUST(!*"a handler was called");
    return HARK_ACK;
}

static bool never_listed(void *ud)
{
    (void)ud;
    MUST(!*"something was listed");
    return false;
}

static bool no_consumer(const hark_consumer_info *x, void *ud)
{
    (void)x;
    return never_listed(ud);
}

static bool no_letter(const hark_dead_letter *x, void *ud)
{
    (void)x;
    return never_listed(ud);
}

static bool no_schedule(const hark_schedule_info *x, void *ud)
{
    (void)x;
    return never_listed(ud);
}

static bool no_replay(const hark_replay_info *x, void *ud)
{
    (void)x;
    return never_listed(ud);
}

static bool no_version(const hark_version_info *x, void *ud)
{
    (void)x;
    return never_listed(ud);
}

static void never_settled(hark_err err, const hark_settlement *s, const hark_errinfo *ei, void *ud)
{
    (void)err, (void)s, (void)ei;
    (void)never_listed(ud);
}

static hark_err never_run(hark_tx *tx, void *ud)
{
    (void)tx;
    (void)never_listed(ud);
    return HARK_OK;
}

/* The call is refused, and the text names stores that have it. */
#define assert_no_log(k, call)                                                                     \
    do {                                                                                           \
        (k)->f.ei = (hark_errinfo){0};                                                             \
        assert_err(&(k)->f, HARK_ENOTSUP, call);                                                   \
        assert_says(&(k)->f, "redis+pubsub");                                                      \
        assert_says(&(k)->f, "sqlite:");                                                           \
    } while (0)

static void test_a_durable_consumer_is_refused(void **state)
{
    kit *k = *state;
    hark_sub *s = NULL;
    hark_reset_result res = {.size = sizeof res};
    hark_why_info why = {.size = sizeof why};
    hark_bus *bus = k->f.bus;
    hark_errinfo *ei = &k->f.ei;
    assert_no_log(k, hark_subscribe(bus, "a", never, NULL,
                                    HARK_OPTS(hark_sub_opts, .consumer = "c"), &s, ei));
    assert_no_log(k, hark_consumers(bus, no_consumer, NULL, ei));
    assert_no_log(k, hark_consumer_pause(bus, "c", ei));
    assert_no_log(k, hark_consumer_resume(bus, "c", ei));
    assert_no_log(k, hark_consumer_reset(bus, "c",
                                         HARK_OPTS(hark_reset_opts, .start = HARK_START_FIRST),
                                         &res, ei));
    assert_no_log(k, hark_why(bus, "c", &why, ei));
    assert_no_log(k, hark_settled(bus, "c", 0, 0, NULL, ei));
    assert_no_log(k, hark_settled_async(bus, "c", 0, 0, never_settled, NULL, ei));
    assert_null(s);
}

static void test_reading_and_replaying_are_refused(void **state)
{
    kit *k = *state;
    hark_page *page = NULL;
    hark_replay_info info = {.size = sizeof info};
    hark_bus *bus = k->f.bus;
    hark_errinfo *ei = &k->f.ei;
    uint64_t n = 0;
    assert_no_log(k, hark_read(bus, NULL, &page, ei));
    assert_no_log(k, hark_replay(bus, never, NULL, NULL, &info, ei));
    assert_no_log(k, hark_replay_get(bus, "r", &info, ei));
    assert_no_log(k, hark_replays(bus, no_replay, NULL, ei));
    assert_no_log(k, hark_replay_cancel(bus, "r", ei));
    assert_no_log(
        k, hark_retain(bus, HARK_OPTS(hark_retention, .pattern = "**", .max_events = 1), ei));
    assert_no_log(k, hark_retain_now(bus, &n, ei));
    assert_no_log(k, hark_versions(bus, no_version, NULL, ei));
    assert_null(page);
}

static void test_dead_letters_and_schedules_are_refused(void **state)
{
    kit *k = *state;
    hark_bus *bus = k->f.bus;
    hark_errinfo *ei = &k->f.ei;
    hark_schedule_id id = 0;
    assert_no_log(k, hark_dead_letters(bus, NULL, no_letter, NULL, ei));
    assert_no_log(k, hark_dead_letter_get(bus, 1, no_letter, NULL, ei));
    assert_no_log(k, hark_redrive(bus, 1, ei));
    assert_no_log(k, hark_discard(bus, 1, ei));
    assert_no_log(
        k, hark_schedule(bus, HARK_OPTS(hark_event_spec, .type = "a"), hark_after(1), &id, ei));
    assert_no_log(k, hark_schedule_cancel(bus, 1, ei));
    assert_no_log(k, hark_schedules(bus, no_schedule, NULL, ei));
}

static void test_transactions_and_versions_of_subjects_are_refused(void **state)
{
    kit *k = *state;
    const hark_event_spec *spec =
        HARK_OPTS(hark_event_spec, .type = "a", .subject = "s", .expected_version = 1);
    assert_err(&k->f, HARK_ENOTSUP, hark_transact(k->f.bus, never_run, NULL, NULL, NULL, &k->f.ei));
    assert_err(&k->f, HARK_ENOTSUP,
               hark_query(k->f.bus, "SELECT 1", NULL, 0, NULL, NULL, &k->f.ei));
    assert_err(&k->f, HARK_ENOTSUP, hark_publish_ei(k->f.bus, spec, NULL, &k->f.ei));
    assert_says(&k->f, "sqlite:");
}

static void test_publishers_elsewhere_cannot_be_made_to_wait(void **state)
{
    kit *k = *state;
    hark_sub *s = NULL;
    assert_err(&k->f, HARK_ENOTSUP,
               hark_subscribe(k->f.bus, "a", never, NULL,
                              HARK_OPTS(hark_sub_opts, .overflow = HARK_OVERFLOW_WAIT), &s,
                              &k->f.ei));
    assert_says(&k->f, "HARK_OVERFLOW_WAIT");
}

static void test_a_higher_class_is_refused(void **state)
{
    kit *k = *state;
    hark_bus *bus = NULL;
    const hark_event_spec *spec =
        HARK_OPTS(hark_event_spec, .type = "a", .min_durability = HARK_OS);
    assert_err(
        &k->f, HARK_EDURABILITY,
        hark_open(k->f.url, HARK_OPTS(hark_bus_opts, .min_durability = HARK_DISK), &bus, &k->f.ei));
    assert_err(&k->f, HARK_EDURABILITY, hark_publish_ei(k->f.bus, spec, NULL, &k->f.ei));
    assert_err(
        &k->f, HARK_ENOTFOUND,
        hark_open(k->f.url, HARK_OPTS(hark_bus_opts, .flags = HARK_OPEN_EXISTING), &bus, &k->f.ei));
    assert_null(bus);
}

/* ---- servers and URLs ------------------------------------------------------------------------- */

static void assert_not_opened(kit *k, hark_err expected, const char *url)
{
    hark_bus *bus = NULL;
    k->f.ei = (hark_errinfo){0};
    assert_err(&k->f, expected, hark_open(url, NULL, &bus, &k->f.ei));
    assert_null(bus);
    assert_null(strstr(k->f.ei.text, "secret"));
}

static void test_a_server_that_is_not_there_is_named(void **state)
{
    kit *k = *state;
    char url[160], place[64];
    proxy *p = proxy_new(server_port(redis)); /* a port that nobody else takes meanwhile */
    proxy_refuse(p, true);
    (void)snprintf(place, sizeof place, "127.0.0.1:%d", proxy_port(p));
    (void)snprintf(url, sizeof url, "redis+pubsub://u:secret@%s", place);
    assert_not_opened(k, HARK_ESTORE, url);
    assert_says(&k->f, place);
    assert_says(&k->f, "refused");
    proxy_free(p);
    assert_not_opened(k, HARK_ESTORE, "redis+pubsub://u:secret@no-such-host.invalid");
    assert_says(&k->f, "no-such-host.invalid:6379");
}

static void test_a_server_that_says_nothing_is_given_up(void **state)
{
    kit *k = *state;
    char url[160];
    proxy *p = proxy_new(server_port(redis));
    proxy_black_hole(p, true);
    kit_url(k, proxy_port(p), url, sizeof url);
    int64_t began = hk_mono_ms();
    assert_not_opened(k, HARK_ESTORE, url);
    assert_says(&k->f, "does not answer");
    assert_true(hk_mono_ms() - began >= 4500);
    proxy_free(p);
}

static void test_bad_urls_are_refused(void **state)
{
    kit *k = *state;
    assert_not_opened(k, HARK_EINVAL, "redis+pubsub:localhost");
    assert_not_opened(k, HARK_EINVAL, "redis+pubsub://u:secret@localhost:x");
    assert_not_opened(k, HARK_EINVAL, "redis+pubsub://u:secret@localhost/p?db=1");
    assert_not_opened(k, HARK_EINVAL, "rediss+pubsub://u:secret@localhost");
}

static void test_a_password_is_asked_for_and_checked(void **state)
{
    kit *k = *state;
    char url[200];
    hark_bus *bus = NULL;
    server *guarded = server_redis((const char *const[]){"--requirepass", "secret:1", NULL});
    (void)snprintf(url, sizeof url, "redis+pubsub://127.0.0.1:%d", server_port(guarded));
    assert_not_opened(k, HARK_EDENIED, url);
    assert_says(&k->f, "user:password@");
    (void)snprintf(url, sizeof url, "redis+pubsub://:secret@127.0.0.1:%d", server_port(guarded));
    assert_not_opened(k, HARK_EDENIED, url);
    (void)snprintf(url, sizeof url, "redis+pubsub://nobody:secret%%3A1@127.0.0.1:%d",
                   server_port(guarded));
    assert_not_opened(k, HARK_EDENIED, url);
    (void)snprintf(url, sizeof url, "redis+pubsub://default:secret%%3A1@127.0.0.1:%d",
                   server_port(guarded));
    assert_ok(&k->f, hark_open(url, NULL, &bus, &k->f.ei));
    assert_ok(&k->f, say(bus, "a", 1, &k->f.ei));
    hark_bus_unref(bus);
    (void)snprintf(url, sizeof url, "redis+pubsub://u:secret@127.0.0.1:%d", server_port(redis));
    assert_not_opened(k, HARK_EDENIED, url); /* one that wants none has no such user */
    server_free(guarded);
}

/* Such a server repeats what it was sent. */
static void test_a_server_that_knows_no_login_is_not_quoted_with_the_password(void **state)
{
    kit *k = *state;
    char url[200];
    server *old = server_redis((const char *const[]){"--rename-command", "AUTH", "NO_AUTH", NULL});
    (void)snprintf(url, sizeof url, "redis+pubsub://u:secret@127.0.0.1:%d", server_port(old));
    assert_not_opened(k, HARK_ESTORE, url);
    assert_says(&k->f, "unknown command");
    server_free(old);
}

/* Its events go out one by one. */
static void test_a_batch_that_was_taken_apart_is_an_unknown_outcome(void **state)
{
    kit *k = *state;
    char url[200];
    hark_bus *bus = NULL;
    const hark_event_spec *pair[] = {HARK_OPTS(hark_event_spec, .type = "a"),
                                     HARK_OPTS(hark_event_spec, .type = "b")};
    server *poor =
        server_redis((const char *const[]){"--rename-command", "MULTI", "NO_MULTI", NULL});
    (void)snprintf(url, sizeof url, "redis+pubsub://127.0.0.1:%d", server_port(poor));
    assert_ok(&k->f, hark_open(url, NULL, &bus, &k->f.ei));
    assert_err(&k->f, HARK_EUNKNOWN, hark_publish_batch(bus, pair, 2, NULL, &k->f.ei));
    assert_says(&k->f, "MULTI");
    assert_ok(&k->f, say(bus, "a", 1, &k->f.ei));
    hark_bus_unref(bus);
    server_free(poor);
}

/* One event that the server refuses; its neighbours, in the same round trip or not, go through. */
static void test_a_channel_without_rights_is_refused_alone(void **state)
{
    kit *k = *state;
    char url[200];
    hark_bus *bus = NULL;
    const hark_event_spec *pair[] = {HARK_OPTS(hark_event_spec, .type = "free"),
                                     HARK_OPTS(hark_event_spec, .type = "closed")};
    assert_non_null(ask("ACL SETUSER limited on >pw resetchannels &lim:free +@all"));
    (void)snprintf(url, sizeof url,
                   "redis+pubsub://limited:pw@127.0.0.1:%d/lim:", server_port(redis));
    assert_not_opened(k, HARK_EDENIED, url); /* it may not subscribe */
    assert_says(&k->f, "NOPERM");
    assert_non_null(ask("ACL SETUSER limited &lim:*"));
    assert_ok(&k->f, hark_open(url, NULL, &bus, &k->f.ei));
    assert_non_null(ask("ACL SETUSER limited resetchannels &lim:free"));
    assert_ok(&k->f, say(bus, "free", 1, &k->f.ei));
    assert_err(&k->f, HARK_EDENIED, say(bus, "closed", 2, &k->f.ei));
    assert_says(&k->f, "NOPERM");
    assert_err(&k->f, HARK_EDENIED, hark_publish_batch(bus, pair, 2, NULL, &k->f.ei));
    assert_ok(&k->f, say(bus, "free", 3, &k->f.ei));
    hark_bus_unref(bus);
    assert_non_null(ask("ACL DELUSER limited"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KIT_TEST(test_a_durable_consumer_is_refused),
        KIT_TEST(test_reading_and_replaying_are_refused),
        KIT_TEST(test_dead_letters_and_schedules_are_refused),
        KIT_TEST(test_transactions_and_versions_of_subjects_are_refused),
        KIT_TEST(test_publishers_elsewhere_cannot_be_made_to_wait),
        KIT_TEST(test_a_higher_class_is_refused),
        KIT_TEST(test_a_server_that_is_not_there_is_named),
        KIT_TEST(test_a_server_that_says_nothing_is_given_up),
        KIT_TEST(test_bad_urls_are_refused),
        KIT_TEST(test_a_password_is_asked_for_and_checked),
        KIT_TEST(test_a_server_that_knows_no_login_is_not_quoted_with_the_password),
        KIT_TEST(test_a_batch_that_was_taken_apart_is_an_unknown_outcome),
        KIT_TEST(test_a_channel_without_rights_is_refused_alone),
    };
    return kit_main("redis+pubsub, refusals", tests, HK_COUNTOF(tests));
}
