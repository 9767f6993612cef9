/* hark_publish_with_retry: repeating while the store fails, giving up, and saying so later. Stores
 * without outages fail by a full subscription only. */
#include "outage.h"

#define RETRY(...) HARK_OPTS(hark_retry_opts, __VA_ARGS__)

static uint64_t failed_groups(fixture *f)
{
    hark_stats s = {.size = sizeof s};
    MUST(hark_stats_get(f->bus, &s) == HARK_OK);
    return s.failed_commits;
}

/* ---- what was given up, what was announced ---------------------------------------------------- */

typedef struct loss {
    atomic_int n;
    hark_event *event;
    hark_err err;
} loss;

static void lost(const hark_event *e, hark_err err, void *ud)
{
    loss *l = ud;
    atomic_fetch_add(&l->n, 1);
    hark_event_unref(l->event);
    l->event = hark_event_ref(e);
    l->err = err;
}

static void loss_free(loss *l)
{
    l->event = hark_event_unref(l->event);
}

/* In an outage: one attempt. */
static void lose_at_once(fixture *f, const char *type, loss *l, int64_t flags)
{
    assert_err(
        f, HARK_ESTORE,
        hark_publish_with_retry(f->bus, HARK_OPTS(hark_event_spec, .type = type),
                                RETRY(.max_attempts = 1, .gave_up = lost, .ud = l, .flags = flags),
                                NULL, &f->ei));
}

static hark_page *read_type(fixture *f, const char *type)
{
    hark_page *page;
    MUST(hark_read(f->bus, HARK_OPTS(hark_read_opts, .type = type, .limit = 10000), &page, NULL) ==
         HARK_OK);
    return page;
}

static size_t count_of(fixture *f, const char *type)
{
    hark_page *page = read_type(f, type);
    size_t n = hark_page_count(page);
    hark_page_free(page);
    return n;
}

static void assert_announces(fixture *f, size_t i, const char *const *parts, size_t n)
{
    hark_page *page = read_type(f, "dead_letter");
    const hark_event *e = hark_page_event(page, i);
    assert_non_null(e);
    size_t len;
    const char *data = hark_event_data(e, &len);
    for (size_t k = 0; k < n; k++)
        if (!strstr(data, parts[k]))
            fail_msg("expected '%s' in: %s", parts[k], data);
    hark_page_free(page);
}

/* ---- a call on a thread of its own ------------------------------------------------------------ */

typedef struct caller {
    pthread_t thread;
    hark_bus *bus;
    hark_retry_opts opts;
    const char *id;
    hark_receipt receipt;
    hark_errinfo ei;
    hark_err err;
} caller;

static void *call(void *arg)
{
    caller *c = arg;
    c->err = hark_publish_with_retry(
        c->bus, HARK_OPTS(hark_event_spec, .type = "t", .id = c->id, .json = "1"), &c->opts,
        &c->receipt, &c->ei);
    return NULL;
}

static void call_begin(caller *c, fixture *f, const hark_retry_opts *opts)
{
    c->bus = f->bus;
    c->opts = *opts;
    assert_int_equal(pthread_create(&c->thread, NULL, call, c), 0);
}

/* ---- tests ------------------------------------------------------------------------------------ */

static void test_a_store_that_works_has_it_at_once(void **state)
{
    fixture *f = *state;
    loss l = {0};
    hark_receipt r;
    assert_ok(f, hark_publish_with_retry(f->bus, HARK_OPTS(hark_event_spec, .type = "t"), NULL, &r,
                                         &f->ei));
    assert_int_equal(strlen(r.id), 36); /* made up before the first attempt */
    assert_ok(f, hark_publish_with_retry(f->bus, HARK_OPTS(hark_event_spec, .type = "t"),
                                         RETRY(.gave_up = lost, .ud = &l), NULL, NULL));
    assert_u64(count_of(f, "t"), 2);
    assert_u64(r.sequence, 1);
    assert_int_equal(atomic_load(&l.n), 0);
}

static void test_a_repeat_of_what_is_stored_is_a_duplicate(void **state)
{
    fixture *f = *state;
    hark_receipt first, again;
    const hark_event_spec *spec = HARK_OPTS(hark_event_spec, .type = "t", .id = "a", .json = "1");
    assert_ok(f, hark_publish_ei(f->bus, spec, &first, &f->ei));
    assert_ok(f, hark_publish_with_retry(f->bus, spec, NULL, &again, &f->ei));
    assert_u64(again.sequence, first.sequence);
    assert_true(again.duplicate);
    assert_u64(count_of(f, "t"), 1);
}

static void test_wrong_options_are_refused(void **state)
{
    fixture *f = *state;
    static const hark_retry_opts wrong[] = {
        {.size = sizeof(hark_retry_opts), .max_attempts = -2},
        {.size = sizeof(hark_retry_opts), .first_delay_ms = -1},
        {.size = sizeof(hark_retry_opts), .max_delay_ms = -1},
        {.size = sizeof(hark_retry_opts), .deadline_ms = -2},
        {.size = sizeof(hark_retry_opts), .flags = 2},
    };
    for (size_t i = 0; i < HK_COUNTOF(wrong); i++) {
        assert_err(f, HARK_EINVAL,
                   hark_publish_with_retry(f->bus, HARK_OPTS(hark_event_spec, .type = "t"),
                                           &wrong[i], NULL, &f->ei));
        assert_says(f, "hark_retry_opts.");
    }
    assert_u64(count_of(f, "t"), 0);
}

static void test_a_refusal_is_not_repeated(void **state)
{
    fixture *f = *state;
    loss l = {0};
    const hark_retry_opts *opts =
        RETRY(.first_delay_ms = HOUR_MS, .deadline_ms = -1, .gave_up = lost, .ud = &l);
    assert_err(f, HARK_EINVAL,
               hark_publish_with_retry(f->bus, HARK_OPTS(hark_event_spec, .type = ""), opts, NULL,
                                       &f->ei));
    assert_err(f, HARK_EDURABILITY,
               hark_publish_with_retry(
                   f->bus,
                   HARK_OPTS(hark_event_spec, .type = "t", .min_durability = HARK_REPLICATED), opts,
                   NULL, &f->ei));
    bool before = hark_thread_nonblocking(true);
    assert_err(f, HARK_EWRONGTHREAD,
               hark_publish_with_retry(f->bus, HARK_OPTS(hark_event_spec, .type = "t"), opts, NULL,
                                       &f->ei));
    (void)hark_thread_nonblocking(before);
    assert_int_equal(atomic_load(&l.n), 0);
}

static void test_it_repeats_until_the_store_is_back_and_stores_it_once(void **state)
{
    fixture *f = *state;
    if (!has_outages(f))
        return;
    caller c = {0};
    loss l = {0};
    sqlite3 *outage = outage_begin(f);
    call_begin(&c, f,
               RETRY(.max_attempts = -1, .first_delay_ms = 1, .max_delay_ms = 5, .deadline_ms = -1,
                     .gave_up = lost, .ud = &l));
    WAIT_UNTIL(failed_groups(f) >= 5);
    outage_end(outage);
    assert_int_equal(pthread_join(c.thread, NULL), 0);
    assert_int_equal(c.err, HARK_OK);
    assert_u64(c.receipt.sequence, 1);
    assert_false(c.receipt.duplicate);
    assert_u64(count_of(f, "t"), 1);
    assert_int_equal(atomic_load(&l.n), 0);
    assert_u64(count_of(f, "dead_letter"), 0);
}

static void test_what_it_gives_up_is_handed_over_and_announced_when_the_store_is_back(void **state)
{
    fixture *f = *state;
    if (!has_outages(f))
        return;
    loss l = {0};
    sqlite3 *outage = outage_begin(f);
    assert_err(f, HARK_ESTORE,
               hark_publish_with_retry(
                   f->bus, HARK_OPTS(hark_event_spec, .type = "t", .key = "k", .json = "[42]"),
                   RETRY(.max_attempts = 3, .first_delay_ms = 1, .gave_up = lost, .ud = &l), NULL,
                   &f->ei));
    assert_says(f, "given up after 3 attempts");
    assert_says(f, "lock");
    assert_int_equal(atomic_load(&l.n), 1);
    assert_int_equal(l.err, HARK_ESTORE);
    assert_string_equal(hark_event_key(l.event), "k");
    assert_u64(hark_event_sequence(l.event), 0);
    uint64_t failed = failed_groups(f);
    WAIT_UNTIL(failed_groups(f) > failed); /* nobody else publishes: it looks by itself */
    outage_end(outage);
    WAIT_UNTIL(count_of(f, "dead_letter") == 1);
    const char *parts[] = {"\"reason\":\"publish\"", "\"attempts\":3", "[42]",
                           hark_event_id(l.event),   "lock",           "\"consumer\":null"};
    assert_announces(f, 0, parts, HK_COUNTOF(parts));
    assert_u64(count_of(f, "t"), 0);
    loss_free(&l);
}

static void test_a_silent_one_is_not_announced(void **state)
{
    fixture *f = *state;
    if (!has_outages(f))
        return;
    loss l = {0};
    sqlite3 *outage = outage_begin(f);
    lose_at_once(f, "t", &l, HARK_RETRY_SILENT);
    lose_at_once(f, "u", &l, 0);
    assert_int_equal(atomic_load(&l.n), 2);
    outage_end(outage);
    WAIT_UNTIL(count_of(f, "dead_letter") == 1);
    const char *parts[] = {"\"type\":\"u\""};
    assert_announces(f, 0, parts, 1);
    reopen_bus(f, NULL); /* and nothing comes later */
    assert_u64(count_of(f, "dead_letter"), 1);
    loss_free(&l);
}

static void test_an_announcement_is_not_announced_itself(void **state)
{
    fixture *f = *state;
    if (!has_outages(f))
        return;
    loss l = {0};
    sqlite3 *outage = outage_begin(f);
    lose_at_once(f, "dead_letter", &l, 0);
    assert_int_equal(atomic_load(&l.n), 1);
    outage_end(outage);
    reopen_bus(f, NULL);
    assert_u64(count_of(f, "dead_letter"), 0);
    loss_free(&l);
}

enum { LOSERS = 128, LOSSES = 9 }; /* 1152; those of one moment fail in one group */

static void *lose(void *arg)
{
    fixture *f = arg;
    for (int i = 0; i < LOSSES; i++)
        MUST(hark_publish_with_retry(f->bus, HARK_OPTS(hark_event_spec, .type = "t"),
                                     RETRY(.max_attempts = 1), NULL, NULL) == HARK_ESTORE);
    return NULL;
}

static void test_at_most_1024_wait_to_be_announced(void **state)
{
    fixture *f = *state;
    if (!has_outages(f))
        return;
    pthread_t threads[LOSERS];
    sqlite3 *outage = outage_begin(f);
    for (size_t i = 0; i < LOSERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, lose, f), 0);
    for (size_t i = 0; i < LOSERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    outage_end(outage);
    WAIT_UNTIL(count_of(f, "dead_letter") == 1024);
    reopen_bus(f, NULL);
    assert_u64(count_of(f, "dead_letter"), 1024);
}

static void test_the_deadline_ends_it(void **state)
{
    fixture *f = *state;
    if (!has_outages(f))
        return;
    loss l = {0};
    sqlite3 *outage = outage_begin(f);
    int64_t began = hk_mono_ms();
    assert_err(f, HARK_ESTORE,
               hark_publish_with_retry(f->bus, HARK_OPTS(hark_event_spec, .type = "t"),
                                       RETRY(.max_attempts = -1, .first_delay_ms = HOUR_MS,
                                             .max_delay_ms = HOUR_MS, .deadline_ms = 50,
                                             .gave_up = lost, .ud = &l),
                                       NULL, &f->ei));
    assert_true(hk_mono_ms() - began >= 50);
    assert_int_equal(atomic_load(&l.n), 1);
    outage_end(outage);
    loss_free(&l);
}

static void test_a_drain_ends_its_wait_at_once(void **state)
{
    fixture *f = *state;
    if (!has_outages(f))
        return;
    caller c = {0};
    loss l = {0};
    sqlite3 *outage = outage_begin(f);
    call_begin(&c, f,
               RETRY(.max_attempts = -1, .first_delay_ms = HOUR_MS, .max_delay_ms = HOUR_MS,
                     .deadline_ms = -1, .gave_up = lost, .ud = &l));
    WAIT_UNTIL(failed_groups(f) >= 1);
    assert_ok(f, hark_drain(f->bus, HUNG_MS, &f->ei));
    assert_int_equal(pthread_join(c.thread, NULL), 0);
    assert_int_equal(c.err, HARK_ECLOSED);
    assert_int_equal(atomic_load(&l.n), 1);
    outage_end(outage);
    loss_free(&l);
}

/* ---- a full subscription: every store ---------------------------------------------------------- */

typedef struct meeting {
    latch at;
    loss l;
    atomic_int given_up;
    hark_err first, second;
    atomic_int done;
} meeting;

/* Handlers do not wait for full subscriptions: they get HARK_EAGAIN. */
static hark_verdict publish_twice(hark_delivery *d, void *ud)
{
    meeting *m = ud;
    hark_bus *bus = hark_delivery_bus(d);
    latch_wait(&m->at);
    m->first = hark_publish_with_retry(
        bus, HARK_OPTS(hark_event_spec, .type = "early"),
        RETRY(.max_attempts = 3, .first_delay_ms = 1, .gave_up = lost, .ud = &m->l), NULL, NULL);
    atomic_fetch_add(&m->given_up, 1);
    m->second = hark_publish_with_retry(
        bus, HARK_OPTS(hark_event_spec, .type = "late"),
        RETRY(.max_attempts = -1, .first_delay_ms = 1, .max_delay_ms = 2, .deadline_ms = -1), NULL,
        NULL);
    atomic_fetch_add(&m->done, 1);
    return HARK_ACK;
}

static hark_sub *full_sub(fixture *f)
{
    hark_sub *s;
    assert_ok(f,
              hark_subscribe(f->bus, "full", NULL, NULL,
                             HARK_OPTS(hark_sub_opts, .ring = 64, .overflow = HARK_OVERFLOW_WAIT),
                             &s, &f->ei));
    while (stats_of(s).pending <= 64) { /* the writer's queue may be full before it */
        hark_err err =
            hark_publish_async(f->bus, HARK_OPTS(hark_event_spec, .type = "full"), NULL, NULL);
        assert_true(!err || err == HARK_EAGAIN);
        (void)sched_yield();
    }
    return s;
}

static void make_room(hark_sub *s)
{
    hark_delivery *d;
    while (hark_next(s, 0, &d) == HARK_OK)
        MUST(hark_settle(&d, NULL) == HARK_OK);
}

static void test_a_full_subscription_is_waited_for_or_given_up(void **state)
{
    fixture *f = *state;
    meeting m = {0};
    hark_sub *handler;
    latch_init(&m.at);
    assert_ok(f, hark_subscribe(f->bus, "go", publish_twice, &m, NULL, &handler, &f->ei));
    publish(f, "go");
    WAIT_UNTIL(atomic_load(&m.at.arrived) == 1);
    hark_sub *full = full_sub(f);
    latch_open(&m.at);
    WAIT_UNTIL(atomic_load(&m.given_up) == 1);
    assert_int_equal(m.first, HARK_EAGAIN);
    assert_int_equal(atomic_load(&m.l.n), 1);
    assert_string_equal(hark_event_type(m.l.event), "early");
    WAIT_UNTIL(count_of(f, "dead_letter") == 1); /* that one waits for nobody */
    assert_u64(count_of(f, "late"), 0);
    while (!atomic_load(&m.done))
        make_room(full);
    assert_int_equal(m.second, HARK_OK);
    assert_u64(count_of(f, "late"), 1);
    assert_u64(count_of(f, "early"), 0);
    end_sub(full);
    end_sub(handler);
    loss_free(&m.l);
}

#define T(fn) TEST(fn)
static const struct CMUnitTest tests[] = {
    T(test_a_store_that_works_has_it_at_once),
    T(test_a_repeat_of_what_is_stored_is_a_duplicate),
    T(test_wrong_options_are_refused),
    T(test_a_refusal_is_not_repeated),
    T(test_it_repeats_until_the_store_is_back_and_stores_it_once),
    T(test_what_it_gives_up_is_handed_over_and_announced_when_the_store_is_back),
    T(test_a_silent_one_is_not_announced),
    T(test_an_announcement_is_not_announced_itself),
    T(test_at_most_1024_wait_to_be_announced),
    T(test_the_deadline_ends_it),
    T(test_a_drain_ends_its_wait_at_once),
    T(test_a_full_subscription_is_waited_for_or_given_up),
};

int main(int argc, char **argv)
{
    (void)setenv("HARK_LOG", "error", 0); /* each failed group would have its line */
    return conformance_main(argc, argv, "publishing that insists", tests, HK_COUNTOF(tests));
}
