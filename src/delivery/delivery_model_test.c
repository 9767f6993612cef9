/* A model of the delivery core: random arrivals with keys, answers, saves that fail and restarts
 * from the last one that did not, checked by an auditor that knows what is promised: order inside a
 * key, nothing lost, nothing again whose end was saved, no more running than there are workers, the
 * bound of the window. The seed of a failing run is printed; run `delivery_model_test SEED` to
 * repeat it, `delivery_model_test FIRST N` for other seeds. */
#include "delivery/delivery_test_i.h"

enum { EVENTS = 120, KEYS = 4 };

/* What the auditor knows of each event. */
typedef struct truth {
    char key[4]; /* empty = none; "x" = does not concern the consumer */
    int state;   /* of this run: 0 open, 1 acked, 2 rejected, not saved or saved */
    bool saved;  /* and that is committed */
    bool running;
    int64_t attempts;       /* that failed, as this run knows */
    int64_t saved_attempts; /* and the disk */
} truth;

typedef struct model {
    fixture *f;
    uint64_t rng;
    truth events[EVENTS + 1];
    uint64_t read; /* next to arrive */
    hk_lease running[64];
    uint64_t running_seq[64];
    size_t n_running;
    bool flight;
    truth at_collect[EVENTS + 1]; /* what the save under way makes durable */
} model;

static uint64_t roll(model *m, uint64_t n)
{
    m->rng += UINT64_C(0x9E3779B97F4A7C15); /* SplitMix64 */
    uint64_t z = m->rng;
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return (z ^ z >> 31) % n;
}

static void model_read(model *m)
{
    size_t room = hk_core_room(m->f->core);
    for (size_t n = roll(m, 8) + 1; n > 0 && room > 0 && m->read <= EVENTS; n--, room--) {
        truth *t = &m->events[m->read];
        if (strcmp(t->key, "x") == 0)
            hk_core_cover(m->f->core, m->read);
        else
            arrive(m->f, m->read, t->key[0] ? t->key : NULL);
        m->read++;
    }
    assert_true(facts(m->f).in_memory <= m->f->opts.window);
    assert_true(facts(m->f).deferred <= m->f->opts.max_deferred + m->f->opts.window);
}

/* Nothing of the same key before it is open. */
static void audit_order(model *m, uint64_t seq)
{
    truth *t = &m->events[seq];
    for (uint64_t i = 1; t->key[0] && i < seq; i++)
        if (strcmp(m->events[i].key, t->key) == 0 && m->events[i].state == 0)
            fail_msg("%llu of key %s started before %llu was settled", (unsigned long long)seq,
                     t->key, (unsigned long long)i);
}

static void model_start(model *m)
{
    hk_started s;
    while (roll(m, 4) && hk_core_start(m->f->core, now(m->f), -1, &s)) {
        truth *t = &m->events[s.seq];
        assert_true(s.seq >= 1 && s.seq <= EVENTS && strcmp(t->key, "x") != 0);
        assert_false(t->running);
        if (t->state != 0)
            fail_msg("%llu came again after it was settled", (unsigned long long)s.seq);
        audit_order(m, s.seq);
        assert_int_equal(s.attempt, t->attempts + 1);
        if (!s.payload)
            (void)hk_core_payload_set(m->f->core, s.lease, payload_new(m->f));
        if (roll(m, 20) == 0) {
            hk_core_unstart(m->f->core, s.lease);
            continue;
        }
        t->running = true;
        m->running[m->n_running] = s.lease;
        m->running_seq[m->n_running++] = s.seq;
        assert_true(m->n_running <= m->f->opts.workers);
    }
}

static void model_settle(model *m)
{
    if (!m->n_running)
        return;
    size_t i = roll(m, m->n_running);
    truth *t = &m->events[m->running_seq[i]];
    hark_verdict v = (hark_verdict)(roll(m, 10) < 6 ? 0 : roll(m, 8) ? 1 : 2);
    hark_verdict came;
    assert_int_equal(hk_core_settle(m->f->core, m->running[i], v, roll(m, 3) ? -1 : 0,
                                    roll(m, 2) ? "why" : NULL, now(m->f), &came),
                     HARK_OK);
    t->running = false;
    t->attempts += v != HARK_ACK;
    hark_verdict expected =
        v == HARK_RETRY && t->attempts >= m->f->opts.max_attempts ? HARK_REJECT : v;
    assert_int_equal(came, expected);
    t->state = came == HARK_ACK ? 1 : came == HARK_REJECT ? 2 : 0;
    m->n_running--;
    m->running[i] = m->running[m->n_running];
    m->running_seq[i] = m->running_seq[m->n_running];
}

static void model_save(model *m)
{
    if (!m->flight) {
        if (hk_core_dirt(m->f->core) == HK_CLEAN)
            return;
        begin_save(m->f);
        memcpy(m->at_collect, m->events, sizeof m->events);
        m->flight = true;
        return;
    }
    m->flight = false;
    if (roll(m, 4) == 0) {
        hk_core_saved(m->f->core, false);
        return;
    }
    commit(m->f);
    for (uint64_t i = 1; i <= EVENTS; i++) {
        m->events[i].saved = m->at_collect[i].state != 0;
        m->events[i].saved_attempts = m->at_collect[i].attempts;
    }
}

/* Where an event is by what is on the disk: settled, in a row, or to be read. Never two, never
 * none, and no more than the truth. */
static void audit_disk(model *m)
{
    const disk *d = &m->f->disk;
    for (uint64_t seq = 1; seq <= EVENTS; seq++) {
        const truth *t = &m->events[seq];
        bool settled = seq <= d->floor, row = false;
        for (size_t i = 0; i < d->n_settled; i++)
            settled |= d->settled[i].first <= seq && seq <= d->settled[i].last;
        for (size_t i = 0; i < d->n_rows; i++)
            row |= d->rows[i].sequence == seq;
        if (strcmp(t->key, "x") == 0)
            assert_false(row);
        else if (settled && !row && !t->saved)
            fail_msg("%llu is lost", (unsigned long long)seq);
        else if (t->saved && (!settled || row))
            fail_msg("%llu would come again, though its end was saved", (unsigned long long)seq);
    }
}

static void model_restart(model *m)
{
    audit_disk(m);
    m->flight = false;
    m->n_running = 0;
    restart(m->f);
    m->read = hk_core_covered(m->f->core) + 1;
    for (uint64_t i = 1; i <= EVENTS; i++) { /* what was not saved is open again */
        truth *t = &m->events[i];
        t->running = false;
        t->state = t->saved ? (t->state ? t->state : 1) : 0;
        t->attempts = t->saved_attempts;
    }
}

static bool all_settled(const model *m)
{
    for (uint64_t i = 1; i <= EVENTS; i++)
        if (strcmp(m->events[i].key, "x") != 0 && m->events[i].state == 0)
            return false;
    return true;
}

static void run_model(fixture *f, uint64_t seed)
{
    model *m = calloc(1, sizeof *m);
    assert_non_null(m);
    *m = (model){.f = f, .rng = seed, .read = 1};
    f->opts.workers = roll(m, 4) + 1;
    f->opts.window = roll(m, 20) + 1;
    f->opts.max_deferred = roll(m, 4) ? 1000 : roll(m, 10) + 1;
    f->opts.max_attempts = (int64_t)roll(m, 4) + 1;
    core_anew(f);
    f->disk = (disk){0};
    for (uint64_t i = 1; i <= EVENTS; i++) {
        uint64_t k = roll(m, KEYS + 2);
        if (k < KEYS)
            (void)snprintf(m->events[i].key, sizeof m->events[i].key, "k%d", (int)k);
        else if (k == KEYS)
            (void)snprintf(m->events[i].key, sizeof m->events[i].key, "x");
    }
    size_t steps = 0, restarts = roll(m, 6);
    for (; !(all_settled(m) && m->read > EVENTS); steps++) {
        assert_true(steps < 200000); /* else it stands still */
        switch (roll(m, 6)) {
        case 0:
            model_read(m);
            break;
        case 1:
            model_start(m);
            break;
        case 2:
        case 3:
            model_settle(m);
            break;
        case 4:
            model_save(m);
            break;
        default:
            f->clock += (int64_t)roll(m, 5) * MS;
        }
        if (restarts && roll(m, 200) == 0) {
            model_restart(m);
            restarts--;
        }
    }
    while (m->flight || hk_core_dirt(f->core) != HK_CLEAN)
        model_save(m);
    audit_disk(m);
    assert_int_equal(f->disk.n_rows, 0); /* and nothing is left */
    assert_int_equal(f->disk.floor, EVENTS);
    assert_int_equal(f->disk.n_settled, 0);
    hk_core_facts x = facts(f);
    assert_int_equal(x.in_memory + x.deferred + x.running + x.ready + x.waiting, 0);
    assert_int_equal(f->payloads, 0);
    free(m);
}

static uint64_t first_seed = 1, n_seeds = 2000;
static uint64_t seed_now;

static void test_no_run_of_the_model_breaks_a_promise(void **state)
{
    for (seed_now = first_seed; seed_now < first_seed + n_seeds; seed_now++)
        run_model(*state, seed_now);
    seed_now = 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(
        test_no_run_of_the_model_breaks_a_promise, set_up, tear_down)};
    if (argc > 1) {
        first_seed = strtoull(argv[1], NULL, 10);
        n_seeds = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (seed_now)
        (void)fprintf(stderr, "the model failed with seed %llu\n", (unsigned long long)seed_now);
    return failed;
}
