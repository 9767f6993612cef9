/* A consumer that is not divided does as the core does: the same random script for both. */
#include "delivery/core_i.h"
#include "delivery/cores_test_i.h"

enum { STEPS = 3000, RUNS = 40, RUNNING = 8, LOG = 400 };

typedef struct pair {
    fixture *f;
    hk_core *core;
    hk_cores *cores;
    uint64_t rng, read;
    hk_lease a[RUNNING], b[RUNNING]; /* ended ones, too */
    size_t n;
    bool saving;
} pair;

static uint64_t roll(pair *p, uint64_t n)
{
    p->rng += UINT64_C(0x9E3779B97F4A7C15);
    uint64_t z = p->rng;
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    return (z ^ z >> 31) % n;
}

static void read_some(pair *p)
{
    static const char *const keys[] = {"a", "b", "c", NULL};
    assert_int_equal(hk_core_room(p->core), hk_cores_room(p->cores));
    for (size_t i = roll(p, 4); i > 0 && hk_core_room(p->core) && p->read < LOG; i--) {
        const char *key = keys[roll(p, 4)];
        void *x = payload_new(p->f), *y = payload_new(p->f);
        bool kept_x = false, kept_y = false;
        uint64_t after = p->read++;
        if (roll(p, 5)) {
            assert_false(hk_core_arrive(p->core, p->read, key, x, now(p->f), &kept_x));
            assert_false(hk_cores_arrive(p->cores, after, p->read, key, y, now(p->f), &kept_y));
        }
        hk_core_cover(p->core, p->read);
        hk_cores_cover(p->cores, after, p->read);
        assert_int_equal(kept_x, kept_y);
        if (!kept_x)
            drop(x);
        if (!kept_y)
            drop(y);
    }
    assert_int_equal(hk_core_covered(p->core), hk_cores_covered(p->cores));
}

static void start_some(pair *p)
{
    hk_started x, y;
    int64_t until = roll(p, 2) ? -1 : p->f->clock + (int64_t)roll(p, 30) * MS;
    bool begun = hk_core_start(p->core, now(p->f), until, &x);
    assert_int_equal(begun, hk_cores_start(p->cores, now(p->f), until, &y));
    if (!begun)
        return;
    assert_int_equal(x.seq, y.seq);
    assert_int_equal(x.attempt, y.attempt);
    assert_int_equal(x.lease.place, y.lease.place);
    assert_int_equal(x.lease.token, y.lease.token);
    assert_int_equal(x.replayed, y.replayed);
    assert_int_equal(!x.payload, !y.payload);
    if (!x.payload) {
        assert_false(hk_core_payload_set(p->core, x.lease, payload_new(p->f)));
        assert_false(hk_cores_payload_set(p->cores, y.lease, payload_new(p->f)));
    }
    size_t at = p->n < RUNNING ? p->n++ : roll(p, RUNNING);
    p->a[at] = x.lease;
    p->b[at] = y.lease;
}

static void answer(pair *p)
{
    size_t i = p->n ? roll(p, p->n) : 0;
    hark_verdict verdict = roll(p, 3) ? HARK_ACK : (hark_verdict)roll(p, 3), x = HARK_ACK,
                 y = HARK_ACK;
    if (!p->n)
        return;
    switch (roll(p, 6)) {
    case 0:
        hk_core_unstart(p->core, p->a[i]);
        hk_cores_unstart(p->cores, p->b[i]);
        break;
    case 1:
        assert_int_equal(hk_core_extend(p->core, p->a[i], p->f->clock + 20 * MS),
                         hk_cores_extend(p->cores, p->b[i], p->f->clock + 20 * MS));
        break;
    case 2:
        assert_int_equal(hk_core_postpone(p->core, p->a[i], 5 * MS, NULL, now(p->f)),
                         hk_cores_postpone(p->cores, p->b[i], 5 * MS, NULL, now(p->f)));
        break;
    default:
        assert_int_equal(hk_core_settle(p->core, p->a[i], verdict, -1, "e", now(p->f), &x),
                         hk_cores_settle(p->cores, p->b[i], verdict, -1, "e", now(p->f), &y));
        assert_int_equal(x, y);
    }
}

static void expire(pair *p)
{
    hk_lease x, y;
    uint64_t seq_x, seq_y;
    hark_verdict came;
    for (;;) {
        bool ended = hk_core_expire(p->core, now(p->f), &x, &seq_x, &came);
        assert_int_equal(ended, hk_cores_expire(p->cores, now(p->f), &y, &seq_y, &came));
        if (!ended)
            return;
        assert_int_equal(seq_x, seq_y);
        assert_int_equal(x.place, y.place);
        assert_int_equal(x.token, y.token);
    }
}

static void assert_same_rows(const hark_store_save *x, const hark_store_save *y)
{
    assert_int_equal(x->n_put, y->n_put);
    for (size_t i = 0; i < x->n_put; i++) {
        assert_int_equal(x->put[i].sequence, y->put[i].sequence);
        assert_int_equal(x->put[i].state, y->put[i].state);
        assert_int_equal(x->put[i].attempts, y->put[i].attempts);
        assert_int_equal(x->put[i].due_ns, y->put[i].due_ns); /* the same pauses */
    }
    assert_int_equal(x->n_drop, y->n_drop);
    assert_int_equal(x->n_dead, y->n_dead);
    assert_int_equal(x->n_attempts, y->n_attempts);
}

static void save_some(pair *p)
{
    hark_store_save x, *y;
    size_t n;
    if (p->saving) {
        bool ok = roll(p, 4) > 0;
        hk_core_saved(p->core, ok);
        assert_int_equal(hk_cores_saved(p->cores, ok), 0);
        p->saving = false;
        return;
    }
    if (hk_core_dirt(p->core) == HK_CLEAN)
        return;
    assert_int_equal(hk_core_collect(p->core, &x), HARK_OK);
    assert_int_equal(hk_cores_collect(p->cores, now(p->f), &y, &n), HARK_OK);
    assert_int_equal(n, 1);
    assert_int_equal(x.floor, y->floor);
    assert_int_equal(x.highest, y->highest);
    assert_int_equal(x.n_settled, y->n_settled);
    assert_same_rows(&x, y);
    p->saving = true;
}

static void assert_same(const pair *p)
{
    hk_core_facts x, y;
    hk_core_facts_get(p->core, &x);
    hk_cores_facts_get(p->cores, &y);
    x.running_key = y.running_key = x.retry_key = y.retry_key = NULL;
    x.parked_key = y.parked_key = x.retry_error = y.retry_error = NULL;
    assert_memory_equal(&x, &y, sizeof x);
    assert_int_equal(hk_core_dirt(p->core), hk_cores_dirt(p->cores, now(p->f)));
    assert_int_equal(hk_core_due(p->core), hk_cores_due(p->cores));
}

static void step(pair *p)
{
    bool paused;
    switch (roll(p, 8)) {
    case 0:
        read_some(p);
        break;
    case 1:
    case 2:
        start_some(p);
        break;
    case 3:
    case 4:
        answer(p);
        break;
    case 5:
        save_some(p);
        break;
    case 6:
        p->f->clock += (int64_t)roll(p, 10) * MS;
        expire(p);
        break;
    default:
        paused = roll(p, 5) == 0;
        hk_core_pause(p->core, paused);
        hk_cores_pause(p->cores, paused);
    }
    assert_same(p);
}

/* How far it read: a parked lane may fill the ledger. */
static uint64_t run(fixture *f, uint64_t seed)
{
    pair p = {.f = f, .rng = seed};
    const hark_store_consumer state = {.ret_rerun = {.id = "r", .upto = 50, .rate = 300}};
    f->opts.park = roll(&p, 2);
    f->opts.window = roll(&p, 10) + 1;
    f->opts.max_deferred = roll(&p, 30) + 5;
    p.core = hk_core_new(&f->opts);
    p.cores = hk_cores_new(&f->opts, 1);
    assert_true(p.core && p.cores);
    assert_int_equal(hk_core_load(p.core, &state, now(f)), HARK_OK);
    assert_int_equal(
        hk_cores_claim(p.cores, (hark_store_owned){0, 0}, &state, (hk_reach){0}, now(f)), HARK_OK);
    for (size_t i = 0; i < STEPS; i++)
        step(&p);
    hk_core_free(p.core);
    hk_cores_free(p.cores);
    return p.read;
}

static void test_one_share_does_as_the_core_does(void **state)
{
    uint64_t read = 0;
    for (uint64_t seed = 1; seed <= RUNS; seed++)
        read += run(*state, seed);
    assert_in_range(read, RUNS * 25, RUNS * LOG); /* it came somewhere */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_one_share_does_as_the_core_does, set_up, tear_down)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
