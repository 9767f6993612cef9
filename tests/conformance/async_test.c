/* Publishing without waiting, and from many threads. */
#include "fixture.h"

#define SPEC(...) HARK_OPTS(hark_event_spec, __VA_ARGS__)

typedef struct outcome {
    fixture *f;
    atomic_int calls;
    hark_err err;
    hark_receipt receipt;
    hark_err inner; /* what a blocking publish in the callback gave */
} outcome;

static void told(hark_err err, const hark_receipt *receipt, void *ud)
{
    outcome *o = ud;
    o->err = err;
    MUST((receipt != NULL) == (err == HARK_OK));
    if (receipt)
        o->receipt = *receipt;
    atomic_fetch_add(&o->calls, 1);
}

static void told_and_publish(hark_err err, const hark_receipt *receipt, void *ud)
{
    outcome *o = ud;
    o->inner = hark_publish(o->f->bus, SPEC(.type = "inner"), NULL);
    told(err, receipt, ud);
}

static void test_an_async_publish_is_called_back_once(void **state)
{
    fixture *f = *state;
    static outcome o[100];
    memset(o, 0, sizeof o);
    for (size_t i = 0; i < 100; i++) {
        assert_ok(f, hark_publish_async(f->bus, SPEC(.type = "t"), told, &o[i]));
        if (f->store->direct)
            assert_int_equal(atomic_load(&o[i].calls), 1); /* before the call returned */
    }
    uint64_t last = publish(f, "t"); /* behind all of them */
    for (size_t i = 0; i < 100; i++) {
        assert_int_equal(atomic_load(&o[i].calls), 1);
        assert_int_equal(o[i].err, HARK_OK);
        assert_u64(o[i].receipt.sequence, i + 1);
        assert_int_equal(o[i].receipt.durability, f->store->durability);
        assert_int_equal(strlen(o[i].receipt.id), HK_UUID_TEXT);
    }
    assert_u64(last, 101);
    assert_ok(f, hark_publish_async(f->bus, SPEC(.type = "t"), NULL, NULL));
    assert_u64(publish(f, "t"), 103);
}

static void test_an_async_conflict_and_repeat_are_told(void **state)
{
    fixture *f = *state;
    outcome repeat = {0}, conflict = {0};
    assert_ok(f, hark_publish(f->bus, SPEC(.type = "t", .id = "a"), NULL));
    assert_ok(f, hark_publish_async(f->bus, SPEC(.type = "t", .id = "a"), told, &repeat));
    assert_ok(f, hark_publish_async(f->bus, SPEC(.type = "u", .id = "a"), told, &conflict));
    publish(f, "t");
    assert_int_equal(atomic_load(&repeat.calls), 1);
    assert_int_equal(repeat.err, HARK_OK);
    assert_true(repeat.receipt.duplicate);
    assert_int_equal(atomic_load(&conflict.calls), 1);
    assert_int_equal(conflict.err, HARK_ECONFLICT);
}

static void test_a_refused_async_publish_is_not_called_back(void **state)
{
    fixture *f = *state;
    outcome o = {0};
    assert_err(f, HARK_EINVAL, hark_publish_async(f->bus, SPEC(.type = ""), told, &o));
    assert_err(
        f, HARK_EDURABILITY,
        hark_publish_async(f->bus, SPEC(.type = "t", .min_durability = HARK_REPLICATED), told, &o));
    assert_ok(f, hark_drain(f->bus, -1, &f->ei));
    assert_err(f, HARK_ECLOSED, hark_publish_async(f->bus, SPEC(.type = "t"), told, &o));
    assert_int_equal(atomic_load(&o.calls), 0);
}

static void test_a_blocking_publish_in_the_callback_never_deadlocks(void **state)
{
    fixture *f = *state;
    outcome o = {.f = f};
    assert_ok(f, hark_publish_async(f->bus, SPEC(.type = "t"), told_and_publish, &o));
    WAIT_UNTIL(atomic_load(&o.calls) == 1);
    assert_int_equal(o.inner, f->store->direct ? HARK_OK : HARK_EWRONGTHREAD);
}

static void told_and_publish_async(hark_err err, const hark_receipt *receipt, void *ud)
{
    outcome *o = ud;
    o->inner = hark_publish_async(o->f->bus, SPEC(.type = "inner"), told, ud);
    MUST(err == HARK_OK && receipt);
}

static void test_an_async_publish_in_the_callback_works(void **state)
{
    fixture *f = *state;
    outcome o = {.f = f};
    assert_ok(f, hark_publish_async(f->bus, SPEC(.type = "t"), told_and_publish_async, &o));
    WAIT_UNTIL(atomic_load(&o.calls) == 1);
    assert_int_equal(o.inner, HARK_OK);
    assert_u64(o.receipt.sequence, 2);
}

static void test_a_thread_that_must_not_block_is_refused_at_once(void **state)
{
    fixture *f = *state;
    outcome o = {0};
    hark_receipt r;
    hark_page *page;
    hark_sub *sub;
    const hark_event_spec *spec = SPEC(.type = "t");
    assert_false(hark_thread_nonblocking(true));
    hark_err blocking = hark_publish(f->bus, spec, &r);
    hark_err batch = hark_publish_batch(f->bus, &spec, 1, &r, NULL);
    hark_err read = hark_read(f->bus, NULL, &page, NULL);
    hark_err drain = hark_drain(f->bus, 0, NULL);
    hark_err consumer = hark_subscribe(f->bus, "t", NULL, NULL,
                                       HARK_OPTS(hark_sub_opts, .consumer = "c"), &sub, NULL);
    hark_err async = hark_publish_async(f->bus, spec, told, &o);
    assert_true(hark_thread_nonblocking(false));
    assert_int_equal(blocking, f->store->direct ? HARK_OK : HARK_EWRONGTHREAD);
    assert_int_equal(batch, f->store->direct ? HARK_OK : HARK_EWRONGTHREAD);
    assert_int_equal(read, HARK_EWRONGTHREAD);
    assert_int_equal(drain, HARK_EWRONGTHREAD);
    assert_int_equal(consumer, HARK_EWRONGTHREAD);
    assert_int_equal(async, HARK_OK);
    WAIT_UNTIL(atomic_load(&o.calls) == 1);
}

/* ---- a bounded queue ----------------------------------------------------------------------------- */

typedef struct held {
    latch at;
    atomic_int calls;
} held;

static void told_and_wait(hark_err err, const hark_receipt *receipt, void *ud)
{
    held *h = ud;
    (void)err, (void)receipt;
    if (atomic_fetch_add(&h->calls, 1) == 0)
        latch_wait(&h->at);
}

static void test_a_full_queue_refuses_async_publishes_and_recovers(void **state)
{
    fixture *f = *state;
    if (f->store->direct)
        return; /* has no queue */
    held h = {.calls = 0};
    int taken = 1;
    latch_init(&h.at);
    reopen_bus(f, HARK_OPTS(hark_bus_opts, .queue_events = 10));
    assert_ok(f, hark_publish_async(f->bus, SPEC(.type = "t"), told_and_wait, &h));
    WAIT_UNTIL(atomic_load(&h.at.arrived) == 1); /* the writer is held */
    hark_err err = HARK_OK;
    for (; taken < 100 && !err; taken += !err)
        err = hark_publish_async(f->bus, SPEC(.type = "t"), told_and_wait, &h);
    assert_int_equal(err, HARK_EAGAIN);
    assert_int_equal(taken, 11);
    latch_open(&h.at);
    WAIT_UNTIL(atomic_load(&h.calls) == taken);
    assert_u64(publish(f, "t"), (uint64_t)taken + 1);
}

/* ---- many threads -------------------------------------------------------------------------------- */

enum { THREADS = 8, EACH = 2000 };

typedef struct publisher {
    fixture *f;
    pthread_t thread;
    char name[16];
    int mode; /* blocking, async, batches */
    uint64_t seqs[EACH];
    atomic_int n;
} publisher;

static void told_publisher(hark_err err, const hark_receipt *receipt, void *ud)
{
    publisher *p = ud;
    MUST(err == HARK_OK);
    p->seqs[atomic_load(&p->n)] = receipt->sequence; /* in order of publishing */
    atomic_fetch_add(&p->n, 1);
}

static void publish_batch(publisher *p)
{
    enum { SIZE = 10 };
    const hark_event_spec *spec = SPEC(.type = "t", .key = p->name);
    const hark_event_spec *specs[SIZE];
    hark_receipt r[SIZE];
    for (size_t i = 0; i < SIZE; i++)
        specs[i] = spec;
    MUST(hark_publish_batch(p->f->bus, specs, SIZE, r, NULL) == HARK_OK);
    for (size_t i = 0; i < SIZE; i++) {
        MUST(r[i].sequence == r[0].sequence + i);
        p->seqs[atomic_load(&p->n)] = r[i].sequence;
        atomic_fetch_add(&p->n, 1);
    }
}

static void *publisher_main(void *arg)
{
    publisher *p = arg;
    const hark_event_spec *spec = SPEC(.type = "t", .key = p->name);
    hark_receipt r;
    int count = p->f->store->direct || p->mode ? EACH : EACH / 10;
    for (int i = 0; i < count;) {
        if (p->mode == 0) {
            MUST(hark_publish(p->f->bus, spec, &r) == HARK_OK);
            p->seqs[i++] = r.sequence;
            atomic_store(&p->n, i);
        } else if (p->mode == 1) {
            hark_err err = hark_publish_async(p->f->bus, spec, told_publisher, p);
            MUST(err == HARK_OK || err == HARK_EAGAIN);
            i += err == HARK_OK;
        } else {
            publish_batch(p);
            i += 10;
        }
    }
    int64_t until = 0;
    while (atomic_load(&p->n) != count)
        wait_yield(&until, "callbacks", __FILE__, __LINE__);
    return NULL;
}

static void test_many_threads_publish_in_order_and_nothing_twice(void **state)
{
    fixture *f = *state;
    publisher *all = calloc(THREADS, sizeof *all);
    char *seen = calloc(THREADS * EACH + 1, 1);
    recorder *r = recorder_new();
    hark_sub *sub;
    assert_true(all && seen);
    reopen_bus(f, HARK_OPTS(hark_bus_opts, .tail_events = 32768));
    assert_ok(f, hark_subscribe(f->bus, "**", record, r, NULL, &sub, &f->ei));
    for (int i = 0; i < THREADS; i++) {
        all[i].f = f;
        all[i].mode = i % 3;
        (void)snprintf(all[i].name, sizeof all[i].name, "p%d", i);
        MUST(pthread_create(&all[i].thread, NULL, publisher_main, &all[i]) == 0);
    }
    size_t total = 0;
    for (int i = 0; i < THREADS; i++) {
        pthread_join(all[i].thread, NULL);
        total += (size_t)all[i].n;
    }
    for (int i = 0; i < THREADS; i++)
        for (int k = 0; k < all[i].n; k++) {
            uint64_t seq = all[i].seqs[k];
            assert_in_range(seq, 1, total);
            assert_true(k == 0 || seq > all[i].seqs[k - 1]); /* each thread's order */
            assert_false(seen[seq]);
            seen[seq] = 1;
        }
    WAIT_UNTIL(atomic_load(&r->n) == total);
    assert_consecutive(r, 1, total); /* all there, in the log's order */
    end_sub(sub);
    recorder_free(r);
    free(seen);
    free(all);
}

static void *repeat_main(void *arg)
{
    publisher *p = arg;
    for (int i = 0; i < 200; i++) {
        char id[16];
        hark_receipt r;
        (void)snprintf(id, sizeof id, "id-%d", i);
        MUST(hark_publish(p->f->bus, SPEC(.type = "t", .id = id), &r) == HARK_OK);
        p->seqs[i] = r.sequence;
        atomic_fetch_add(&p->n, !r.duplicate);
    }
    return NULL;
}

static void test_threads_that_publish_the_same_ids_agree_on_one_sequence(void **state)
{
    fixture *f = *state;
    publisher *all = calloc(4, sizeof *all);
    int fresh = 0;
    assert_non_null(all);
    for (int i = 0; i < 4; i++) {
        all[i].f = f;
        MUST(pthread_create(&all[i].thread, NULL, repeat_main, &all[i]) == 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(all[i].thread, NULL);
        fresh += all[i].n;
    }
    assert_int_equal(fresh, 200);
    for (int k = 0; k < 200; k++)
        for (int i = 1; i < 4; i++)
            assert_u64(all[i].seqs[k], all[0].seqs[k]);
    assert_u64(publish(f, "t"), 201);
    free(all);
}

static const struct CMUnitTest tests[] = {
    TEST(test_an_async_publish_is_called_back_once),
    TEST(test_an_async_conflict_and_repeat_are_told),
    TEST(test_a_refused_async_publish_is_not_called_back),
    TEST(test_a_blocking_publish_in_the_callback_never_deadlocks),
    TEST(test_an_async_publish_in_the_callback_works),
    TEST(test_a_thread_that_must_not_block_is_refused_at_once),
    TEST(test_a_full_queue_refuses_async_publishes_and_recovers),
    TEST(test_many_threads_publish_in_order_and_nothing_twice),
    TEST(test_threads_that_publish_the_same_ids_agree_on_one_sequence),
};
CONFORMANCE_MAIN("async")
