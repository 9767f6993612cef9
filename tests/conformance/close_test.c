/* Ends in the middle of everything: no deadlock, nothing told twice, nothing claimed that is not so. */
#include "fixture.h"

#define SPEC(...) HARK_OPTS(hark_event_spec, __VA_ARGS__)

enum { PUBLISHERS = 8, MOST = 20000 };

typedef struct publisher {
    fixture *f;
    pthread_t thread;
    int mode;
    char name[8];
    atomic_int accepted;   /* async: taken over */
    atomic_int told[MOST]; /* async: how often, by number */
    atomic_int good;       /* receipts */
    atomic_int bad;        /* async: told of a failure */
    uint64_t seqs[MOST];   /* of receipts */
    struct async_call *calls;
} publisher;

typedef struct async_call {
    publisher *p;
    int number;
} async_call;

static void told(hark_err err, const hark_receipt *receipt, void *ud)
{
    async_call *c = ud;
    publisher *p = c->p;
    MUST(atomic_fetch_add(&p->told[c->number], 1) == 0);
    MUST(err == HARK_OK || err == HARK_ECLOSED);
    if (err)
        atomic_fetch_add(&p->bad, 1);
    else
        p->seqs[atomic_fetch_add(&p->good, 1)] = receipt->sequence;
}

static hark_err publish_one(publisher *p, int i)
{
    hark_receipt r[3];
    const hark_event_spec *spec = SPEC(.type = "t", .key = p->name);
    const hark_event_spec *specs[3] = {spec, spec, spec};
    hark_err err;
    if (p->mode == 0) {
        p->calls[i] = (async_call){p, i};
        err = hark_publish_async(p->f->bus, spec, told, &p->calls[i]);
        if (!err)
            atomic_fetch_add(&p->accepted, 1);
        return err == HARK_EAGAIN ? HARK_OK : err;
    }
    err = p->mode == 1 ? hark_publish(p->f->bus, spec, &r[0])
                       : hark_publish_batch(p->f->bus, specs, 3, r, NULL);
    for (int k = 0; !err && k < (p->mode == 1 ? 1 : 3); k++)
        p->seqs[atomic_fetch_add(&p->good, 1)] = r[k].sequence;
    return err;
}

static void *publisher_main(void *arg)
{
    publisher *p = arg;
    hark_err err = HARK_OK;
    for (int i = 0; !err && i < MOST / 3; i++)
        err = publish_one(p, i);
    MUST(err == HARK_OK || err == HARK_ECLOSED);
    return NULL;
}

static publisher *start_publishers(fixture *f)
{
    publisher *p = calloc(PUBLISHERS, sizeof *p);
    assert_non_null(p);
    for (int i = 0; i < PUBLISHERS; i++) {
        p[i].f = f;
        p[i].mode = i % 3;
        p[i].calls = calloc(MOST, sizeof(async_call));
        assert_non_null(p[i].calls);
        (void)snprintf(p[i].name, sizeof p[i].name, "p%d", i);
        MUST(pthread_create(&p[i].thread, NULL, publisher_main, &p[i]) == 0);
    }
    return p;
}

static int by_value(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

/* Every receipt names a place of its own, and every call was answered. Returns the receipts. */
static size_t join_publishers(publisher *p, uint64_t *seqs)
{
    size_t n = 0;
    for (int i = 0; i < PUBLISHERS; i++) {
        pthread_join(p[i].thread, NULL);
        if (p[i].mode == 0)
            assert_int_equal(atomic_load(&p[i].good) + atomic_load(&p[i].bad),
                             atomic_load(&p[i].accepted));
        memcpy(seqs + n, p[i].seqs, (size_t)p[i].good * sizeof *seqs);
        n += (size_t)p[i].good;
        free(p[i].calls);
    }
    free(p);
    qsort(seqs, n, sizeof *seqs, by_value);
    for (size_t i = 1; i < n; i++)
        assert_true(seqs[i] > seqs[i - 1]);
    return n;
}

static void test_draining_while_eight_threads_publish(void **state)
{
    fixture *f = *state;
    uint64_t *seqs = calloc((size_t)PUBLISHERS * MOST, sizeof *seqs);
    assert_non_null(seqs);
    for (int round = 0; round < 3; round++) {
        recorder *r = recorder_new();
        hark_sub *live, *consumer;
        hark_bus_info before = {.size = sizeof before}, after = {.size = sizeof after};
        assert_ok(f, hark_bus_info_get(f->bus, &before));
        assert_ok(f, hark_subscribe(f->bus, "none", record, r, NULL, &live, &f->ei));
        assert_ok(f, hark_subscribe(f->bus, "none", record, r,
                                    HARK_OPTS(hark_sub_opts, .consumer = "c", .workers = 2),
                                    &consumer, &f->ei));
        publisher *p = start_publishers(f);
        for (int i = 0; i < PUBLISHERS; i++) {
            int64_t until = 0;
            while (atomic_load(&p[i].good) < 20)
                wait_yield(&until, "publishers at work", __FILE__, __LINE__);
        }
        assert_ok(f, hark_drain(f->bus, -1, &f->ei));
        size_t n = join_publishers(p, seqs);
        assert_ok(f, hark_bus_info_get(f->bus, &after));
        assert_u64(after.last_sequence - before.last_sequence, n); /* what has a receipt is there */
        assert_u64(seqs[n - 1], after.last_sequence);
        hark_sub_unref(live);
        hark_sub_unref(consumer);
        reopen_bus(f, NULL);
        if (f->store->survives) {
            assert_ok(f, hark_bus_info_get(f->bus, &before));
            assert_u64(before.last_sequence, after.last_sequence);
        }
        recorder_free(r);
    }
    free(seqs);
}

static hark_verdict publish_more(hark_delivery *d, void *ud)
{
    atomic_int *calls = ud;
    atomic_fetch_add(calls, 1);
    hark_err err = hark_delivery_publish(d, SPEC(.type = "answer"), NULL);
    MUST(err == HARK_OK || err == HARK_ECLOSED);
    return HARK_ACK;
}

static void test_draining_while_handlers_publish(void **state)
{
    fixture *f = *state;
    for (int round = 0; round < 5; round++) {
        static atomic_int calls;
        atomic_store(&calls, 0);
        for (int i = 0; i < 4; i++) {
            char name[8];
            (void)snprintf(name, sizeof name, "c%d", i);
            assert_ok(f, hark_subscribe(f->bus, i == 3 ? "answer" : "t", publish_more, &calls,
                                        HARK_OPTS(hark_sub_opts, .consumer = i % 2 ? name : NULL,
                                                  .workers = 2, .start = HARK_START_NOW),
                                        NULL, &f->ei));
        }
        publish_many(f, "t", 500);
        WAIT_UNTIL(atomic_load(&calls) > 50);
        reopen_bus(f, NULL);
    }
}

static void counted(hark_err err, const hark_receipt *receipt, void *ud)
{
    atomic_int *n = ud;
    MUST((err == HARK_OK) == (receipt != NULL));
    MUST(err == HARK_OK || err == HARK_ECLOSED);
    atomic_fetch_add(&n[err != HARK_OK], 1);
}

static void test_the_last_reference_dropped_with_async_publishes_pending(void **state)
{
    fixture *f = *state;
    uint64_t total = 0;
    for (int round = 0; round < 10; round++) {
        atomic_int n[2] = {0};
        for (int i = 0; i < 3000; i++)
            assert_ok(f, hark_publish_async(f->bus, SPEC(.type = "t"), counted, n));
        close_bus(f);
        assert_int_equal(atomic_load(&n[0]), 3000); /* accepted before the end: in the log */
        assert_int_equal(atomic_load(&n[1]), 0);
        total += 3000;
        open_bus(f, NULL);
        hark_bus_info info = {.size = sizeof info};
        assert_ok(f, hark_bus_info_get(f->bus, &info));
        if (f->store->survives)
            assert_u64(info.last_sequence, total);
    }
}

typedef struct subscriber {
    fixture *f;
    pthread_t thread;
    recorder *r;
    const char *name;
    int made;
} subscriber;

static hark_verdict count_call(hark_delivery *d, void *ud)
{
    (void)d;
    MUST(ud != NULL);
    return HARK_ACK;
}

static void *subscriber_main(void *arg)
{
    subscriber *x = arg;
    hark_err err = HARK_OK;
    while (!err || err == HARK_EEXIST) {
        hark_sub *sub = NULL;
        err = hark_subscribe(x->f->bus, "t", count_call, x->r,
                             HARK_OPTS(hark_sub_opts, .consumer = x->name, .ring = 16,
                                       .overflow = x->made % 3, .free_ud = recorder_freed),
                             &sub, NULL);
        if (err)
            continue;
        x->made++;
        if (x->made % 3 != 2) /* each third one lives on */
            hark_sub_close(sub);
        hark_sub_unref(sub);
        if (x->made % 3 == 2 && x->name)
            break;
        if (x->made >= 60)
            break;
    }
    MUST(err == HARK_OK || err == HARK_ECLOSED);
    return NULL;
}

static void test_subscriptions_come_and_go_while_events_flow_and_the_bus_ends(void **state)
{
    fixture *f = *state;
    uint64_t *seqs = calloc((size_t)PUBLISHERS * MOST, sizeof *seqs);
    assert_non_null(seqs);
    for (int round = 0; round < 3; round++) {
        static const char *const names[] = {NULL, "a", NULL, "b"};
        subscriber x[4];
        hark_bus *bus = hark_bus_ref(f->bus);
        publisher *p = start_publishers(f);
        for (int i = 0; i < 4; i++) {
            x[i] = (subscriber){.f = f, .r = recorder_new(), .name = names[i]};
            MUST(pthread_create(&x[i].thread, NULL, subscriber_main, &x[i]) == 0);
        }
        WAIT_UNTIL(atomic_load(&p[0].good) > 100 && atomic_load(&p[1].good) > 30);
        if (round == 2) /* in the middle of it */
            assert_ok(f, hark_drain(bus, -1, &f->ei));
        for (int i = 0; i < 4; i++)
            pthread_join(x[i].thread, NULL);
        assert_ok(f, hark_drain(bus, -1, &f->ei));
        (void)join_publishers(p, seqs);
        hark_bus_unref(bus);
        reopen_bus(f, NULL);
        for (int i = 0; i < 4; i++) {
            WAIT_UNTIL(atomic_load(&x[i].r->freed) == x[i].made); /* each exactly once */
            recorder_free(x[i].r);
        }
    }
    free(seqs);
}

static void test_a_bus_opens_and_ends_at_once(void **state)
{
    fixture *f = *state;
    for (int i = 0; i < 50; i++) {
        hark_sub *sub;
        assert_ok(f, hark_subscribe(f->bus, "t", NULL, NULL,
                                    HARK_OPTS(hark_sub_opts, .consumer = i % 2 ? "c" : NULL), &sub,
                                    &f->ei));
        hark_sub_unref(sub);
        reopen_bus(f, NULL);
    }
}

static const struct CMUnitTest tests[] = {
    TEST(test_draining_while_eight_threads_publish),
    TEST(test_draining_while_handlers_publish),
    TEST(test_the_last_reference_dropped_with_async_publishes_pending),
    TEST(test_subscriptions_come_and_go_while_events_flow_and_the_bus_ends),
    TEST(test_a_bus_opens_and_ends_at_once),
};
CONFORMANCE_MAIN("close")
