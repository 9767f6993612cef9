/* The connection to the server is cut before the reply to a commit. Where another connection is to be had, the
 * publisher hears what became of its event, as if nothing had happened; where not, it hears that this is not
 * known, and finds out by publishing the same event again. Each event is in the log once. */
#include "kit.h"
#include "proxy.h"
#include "servers.h"

#include <hark/hark.h>

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ROUNDS = 20, MOST = 3 * ROUNDS };

/* How the reply to a commit is recognised on its way. */
typedef struct wire {
    const char *scheme, *path;
    proxy_way way;
    const char *needle;
} wire;

static const wire wires[] = {
    {"postgresql", "hark@127.0.0.1:%d/hark?log=%s", PROXY_TO_CLIENT, "COMMIT"},
    {"redis", "127.0.0.1:%d?log=%s", PROXY_TO_SERVER, "commit"}};

typedef struct lost {
    const wire *wire;
    server *server;
    proxy *proxy;
    hark_bus *bus;
    uint64_t sequence[MOST]; /* by number */
    unsigned said;
} lost;

static void set_up(lost *x, const wire *w)
{
    char rest[96], url[160];
    hark_errinfo ei = {.text = ""};
    *x = (lost){.wire = w, .server = server_of(w->scheme)};
    x->proxy = proxy_new(server_port(x->server));
    (void)snprintf(rest, sizeof rest, w->path, proxy_port(x->proxy), "lost");
    (void)snprintf(url, sizeof url, "%s://%s", w->scheme, rest);
    if (hark_open(url, NULL, &x->bus, &ei))
        fail_msg("%s: %s", url, ei.text);
}

static void tear_down(lost *x)
{
    x->bus = hark_bus_unref(x->bus);
    proxy_free(x->proxy);
    server_free(x->server);
}

static hark_err publish(lost *x, unsigned n, hark_receipt *ret, hark_errinfo *ei)
{
    char id[16];
    (void)snprintf(id, sizeof id, "%u", n);
    return hark_publish_ei(
        x->bus, HARK_OPTS(hark_event_spec, .type = "t", .source = "/lost", .id = id, .json = "1"),
        ret, ei);
}

static void must_publish(lost *x, bool duplicate)
{
    hark_errinfo ei = {.text = ""};
    hark_receipt r;
    hark_err err = HARK_OK;
    int64_t end = kit_ms() + KIT_HUNG_MS;
    do
        err = publish(x, x->said, &r, &ei);
    while (hark_err_class(err) == HARK_CLASS_TRANSIENT && kit_ms() < end); /* while it connects */
    if (err)
        fail_msg("event %u: %s: %s", x->said, hark_err_name(err), ei.text);
    assert_int_equal(r.duplicate, duplicate);
    x->sequence[x->said++] = r.sequence;
}

/* Every event once, in its place, and no other. */
static void check_log(lost *x)
{
    hark_page *page;
    hark_errinfo ei = {.text = ""};
    if (hark_read(x->bus, HARK_OPTS(hark_read_opts, .type = "t", .limit = MOST + 1), &page, &ei))
        fail_msg("hark_read: %s", ei.text);
    assert_int_equal(hark_page_count(page), x->said);
    for (unsigned n = 0; n < x->said; n++) {
        const hark_event *e = hark_page_event(page, n);
        assert_int_equal(strtoul(hark_event_id(e), NULL, 10), n);
        assert_int_equal(hark_event_sequence(e), x->sequence[n]);
    }
    hark_page_free(page);
}

static void found_out(const wire *w)
{
    lost x;
    set_up(&x, w);
    for (size_t i = 0; i < ROUNDS; i++) {
        size_t cuts = proxy_counted(x.proxy).cuts;
        proxy_cut_reply(x.proxy, w->way, w->needle, 1);
        must_publish(&x, false);
        proxy_await_cuts(x.proxy, cuts + 1);
        must_publish(&x, false);
    }
    check_log(&x);
    tear_down(&x);
}

/* What it heard; then the same event again. The connection that was cut may have been another one's, or have done
 * another group's commit: then nothing of this one was stored. */
static bool is_unknown(lost *x)
{
    hark_errinfo ei = {.text = ""};
    hark_receipt r;
    proxy_refuse(x->proxy, true);
    proxy_cut_reply(x->proxy, x->wire->way, x->wire->needle, 1);
    hark_err err = publish(x, x->said, &r, &ei);
    proxy_pass(x->proxy);
    if (err && err != HARK_ESTORE && err != HARK_EUNKNOWN)
        fail_msg("expected HARK_EUNKNOWN, got %s: %s", hark_err_name(err), ei.text);
    must_publish(x, err != HARK_ESTORE);
    return err == HARK_EUNKNOWN;
}

static void unknown(const wire *w)
{
    lost x;
    unsigned n = 0;
    set_up(&x, w);
    for (int i = 0; i < ROUNDS && n < 1; i++) {
        must_publish(&x, false);
        n += is_unknown(&x);
    }
    assert_int_equal(n, 1);
    must_publish(&x, false);
    check_log(&x);
    tear_down(&x);
}

static void test_a_publish_to_postgresql_whose_reply_was_lost_is_found_out(void **state)
{
    (void)state;
    found_out(&wires[0]);
}

static void test_a_publish_to_redis_whose_reply_was_lost_is_found_out(void **state)
{
    (void)state;
    found_out(&wires[1]);
}

static void test_what_postgresql_cannot_be_asked_for_is_unknown_and_may_be_repeated(void **state)
{
    (void)state;
    unknown(&wires[0]);
}

static void test_what_redis_cannot_be_asked_for_is_unknown_and_may_be_repeated(void **state)
{
    (void)state;
    unknown(&wires[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_publish_to_postgresql_whose_reply_was_lost_is_found_out),
        cmocka_unit_test(test_a_publish_to_redis_whose_reply_was_lost_is_found_out),
        cmocka_unit_test(test_what_postgresql_cannot_be_asked_for_is_unknown_and_may_be_repeated),
        cmocka_unit_test(test_what_redis_cannot_be_asked_for_is_unknown_and_may_be_repeated),
    };
    (void)setenv("HARK_LOG", "error", 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
