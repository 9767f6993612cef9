/* Closures that share a commit with others of all kinds: many culprits at once, publishes and schedules, those
 * that do something else when they run again. */
#include "party.h"

/* Every third one is a culprit, each of another kind. */
static void with_many_culprits(void **state, size_t from, size_t step)
{
    party *p = begin_party(state);
    if (!p)
        return;
    shut(p);
    for (int64_t n = 0; n < GROUP; n++)
        invite(p, n, n % 3 ? NULL : vice_at(p->f, from + (size_t)n / 3 * step));
    (void)celebrate(p);
    assert_outcome(p);
    clear_up(*state, p);
}

static void test_culprits_of_all_kinds_leave_the_others(void **state)
{
    with_many_culprits(state, 0, 1);
}

static void test_culprits_in_another_order_leave_the_others(void **state)
{
    with_many_culprits(state, 5, 7);
}

static void test_only_culprits_leave_nothing(void **state)
{
    party *p = begin_party(state);
    if (!p)
        return;
    shut(p);
    for (int64_t n = 0; n < GROUP; n++)
        invite(p, n, vice_at(p->f, (size_t)n));
    (void)celebrate(p);
    assert_outcome(p);
    clear_up(*state, p);
}

/* ---- others in the same group ------------------------------------------------------------------------ */

typedef struct sent {
    atomic_int calls;
    hark_err err;
    uint64_t seq;
} sent;

static void was_published(hark_err err, const hark_receipt *r, void *ud)
{
    sent *s = ud;
    s->err = err;
    s->seq = r ? r->sequence : 0;
    atomic_fetch_add(&s->calls, 1);
}

static void send(fixture *f, sent *s, const char *type, int64_t n)
{
    char json[24];
    (void)snprintf(json, sizeof json, "%lld", (long long)n);
    assert_ok(f, hark_publish_async(f->bus, HARK_OPTS(hark_event_spec, .type = type, .json = json),
                                    was_published, s));
}

static void assert_all_in_order(fixture *f, const char *type, int64_t n)
{
    int64_t said[4 * GROUP];
    assert_u64(shop_said(f, type, said, HK_COUNTOF(said)), n);
    for (int64_t i = 0; i < n; i++)
        assert_u64(said[i], i);
}

static void mixed_with(void **state, const char *const *names, size_t n_names)
{
    enum { SCHEDULES = 8, DUE_MS = 30 };
    fixture *f = *state;
    party *p = begin_party(state);
    static sent plain[GROUP];
    recorder *r;
    hark_sub *sub;
    if (!p)
        return;
    memset(plain, 0, sizeof plain);
    r = recorder_new();
    assert_ok(f, hark_subscribe(f->bus, "**", record, r, NULL, &sub, &f->ei));
    for (int i = 0; i < SCHEDULES; i++)
        assert_ok(f, hark_schedule(f->bus, HARK_OPTS(hark_event_spec, .type = "later"),
                                   hark_after(DUE_MS), NULL, &f->ei));
    shut(p);
    for (int64_t n = 0; n < GROUP; n++) {
        const vice *v = n % 8 == 7 ? vice_named(f, names[(size_t)(n / 8) % n_names]) : NULL;
        send(f, &plain[n], "plain", n);
        invite(p, n, v);
    }
    int64_t due = hk_mono_ms() + DUE_MS;
    WAIT_UNTIL(hk_mono_ms() >= due);
    (void)celebrate(p);
    assert_outcome(p);
    for (int i = 0; i < GROUP; i++) {
        WAIT_UNTIL(atomic_load(&plain[i].calls) == 1);
        assert_ok(f, plain[i].err);
        assert_true(i == 0 || plain[i].seq > plain[i - 1].seq);
        if (!p->guests[i].vice)
            assert_true(p->guests[i].receipt.sequence > plain[i].seq);
    }
    assert_all_in_order(f, "plain", GROUP);
    WAIT_UNTIL(shop_said(f, "later", NULL, 0) == SCHEDULES);
    uint64_t last = publish(f, "last");
    WAIT_UNTIL(atomic_load(&r->n) > 0 && r->seen[atomic_load(&r->n) - 1].seq == last);
    assert_consecutive(r, last + 1 - atomic_load(&r->n), atomic_load(&r->n));
    assert_u64(shop_said(f, "later", NULL, 0), SCHEDULES);
    end_sub(sub);
    recorder_free(r);
    clear_up(f, p);
}

static void test_publishes_and_schedules_in_the_group_are_there_once(void **state)
{
    const dialect *d = dialect_of(*state);
    const char *const names[] = {d ? d->spoiler : "", "returns an error", "RAISE",
                                 "deferred foreign key"};
    mixed_with(state, names, HK_COUNTOF(names));
}

static void test_publishes_and_schedules_beside_late_ones_are_there_once(void **state)
{
    static const char *const names[] = {"late in SQL", "conflict of ids", "late in C",
                                        "goes on after the deadline"};
    mixed_with(state, names, HK_COUNTOF(names));
}

/* ---- closures that do something else when they run again --------------------------------------------- */

enum { FULL = 4096, GREEDY = 6 };

typedef struct greedy {
    atomic_int runs, calls;
    hark_err err;
    uint64_t last;
} greedy;

static hark_err say_more_each_time(hark_tx *tx, void *ud)
{
    greedy *g = ud;
    hark_err err = HARK_OK;
    bool again = atomic_fetch_add(&g->runs, 1) > 0;
    for (int i = 0; i < (again ? FULL : 1) && !err; i++)
        err = hark_tx_publish(tx, HARK_OPTS(hark_event_spec, .type = "more"), NULL);
    return err;
}

static void was_greedy(hark_err err, const hark_receipt *last, const hark_errinfo *ei, void *ud)
{
    greedy *g = ud;
    (void)ei;
    g->err = err;
    g->last = last ? last->sequence : 0;
    atomic_fetch_add(&g->calls, 1);
}

static void test_closures_may_publish_more_when_they_run_again(void **state)
{
    fixture *f = *state;
    greedy all[GREEDY];
    uint64_t events = 0;
    party *p = begin_party(state);
    if (!p)
        return;
    recorder *r = recorder_new();
    hark_sub *sub;
    assert_ok(f, hark_subscribe(f->bus, "more", record, r, NULL, &sub, &f->ei));
    memset(all, 0, sizeof all);
    shut(p);
    for (int i = 0; i < GREEDY; i++)
        assert_ok(f, hark_transact_async(f->bus, say_more_each_time, was_greedy, &all[i],
                                         SHOP_PATIENT, &f->ei));
    for (int64_t n = 0; n < GROUP; n++)
        invite(p, n, n == 0 ? spoiler(f) : NULL);
    (void)celebrate(p);
    assert_outcome(p);
    for (int i = 0; i < GREEDY; i++) {
        WAIT_UNTIL(atomic_load(&all[i].calls) == 1);
        assert_ok(f, all[i].err);
        events += atomic_load(&all[i].runs) > 1 ? FULL : 1;
        assert_true(i == 0 || all[i].last > all[i - 1].last);
    }
    assert_true(f->store->tx_alone || events > FULL); /* they did share */
    WAIT_UNTIL(atomic_load(&r->n) == events);
    assert_ascending(r);
    end_sub(sub);
    recorder_free(r);
    clear_up(f, p);
}

typedef struct chain {
    fixture *f;
    atomic_int left, ended;
    shop_work w; /* its receipt is filled in when the closure has long returned */
} chain;

static hark_err link(hark_tx *tx, void *ud)
{
    chain *c = ud;
    c->w.n = atomic_load(&c->left);
    return shop_both(tx, &c->w);
}

static void send_the_next(hark_err err, const hark_receipt *last, const hark_errinfo *ei, void *ud)
{
    chain *c = ud;
    (void)last, (void)ei;
    MUST(err == HARK_OK);
    if (atomic_fetch_sub(&c->left, 1) > 1)
        MUST(hark_transact_async(c->f->bus, link, send_the_next, c, SHOP_PATIENT, NULL) == HARK_OK);
    else
        atomic_store(&c->ended, 1);
}

static void test_the_next_one_may_be_sent_off_when_one_is_done(void **state)
{
    fixture *f = *state;
    chain c = {.f = f};
    if (!shop_open(f))
        return;
    atomic_store(&c.left, 50);
    assert_ok(f, hark_transact_async(f->bus, link, send_the_next, &c, SHOP_PATIENT, &f->ei));
    WAIT_UNTIL(atomic_load(&c.ended));
    shop_has(f, 50);
    shop_agrees(f);
}

/* ---- neighbours ---------------------------------------------------------------------------------------- */

typedef struct neighbour {
    const char *sql;
    party *p;    /* NULL sql: what spoils the group is done */
    bool fickle; /* fails when it runs again */
    atomic_int runs, calls;
    hark_err err;
} neighbour;

static hark_err move_in(hark_tx *tx, void *ud)
{
    neighbour *n = ud;
    int run = atomic_fetch_add(&n->runs, 1);
    hark_err err =
        n->sql ? hark_tx_exec(tx, n->sql, HARK_NO_ARGS) : spoiler(n->p->f)->act(tx, n->p);
    return !err && n->fickle && run ? hark_tx_fail(tx, HARK_EINVAL, "not again") : err;
}

static void moved(hark_err err, const hark_receipt *last, const hark_errinfo *ei, void *ud)
{
    neighbour *n = ud;
    (void)last, (void)ei;
    n->err = err;
    atomic_fetch_add(&n->calls, 1);
}

static void test_nobody_is_refused_for_rows_that_were_never_committed(void **state)
{
    fixture *f = *state;
    party *p = begin_party(state);
    if (!p)
        return;
    neighbour all[] = {{.sql = "INSERT INTO one VALUES(100)", .fickle = true},
                       {.sql = "INSERT INTO one VALUES(100)"},
                       {.p = p}};
    shut(p);
    for (size_t i = 0; i < HK_COUNTOF(all); i++)
        assert_ok(f, hark_transact_async(f->bus, move_in, moved, &all[i], SHOP_PATIENT, &f->ei));
    latch_open(&p->at);
    for (size_t i = 0; i < HK_COUNTOF(all); i++)
        WAIT_UNTIL(atomic_load(&all[i].calls) == 1);
    bool shared = atomic_load(&all[0].runs) > 1; /* nearly always */
    assert_int_equal(all[0].err, shared ? HARK_EINVAL : HARK_OK);
    assert_int_equal(all[1].err, shared ? HARK_OK : HARK_ECONSTRAINT);
    assert_int_equal(all[2].err, spoiler(f)->expected);
    clear_up(f, p);
}

static const struct CMUnitTest tests[] = {
    TEST(test_culprits_of_all_kinds_leave_the_others),
    TEST(test_culprits_in_another_order_leave_the_others),
    TEST(test_only_culprits_leave_nothing),
    TEST(test_publishes_and_schedules_in_the_group_are_there_once),
    TEST(test_publishes_and_schedules_beside_late_ones_are_there_once),
    TEST(test_closures_may_publish_more_when_they_run_again),
    TEST(test_the_next_one_may_be_sent_off_when_one_is_done),
    TEST(test_nobody_is_refused_for_rows_that_were_never_committed),
};

CONFORMANCE_MAIN("tx_mixed")
