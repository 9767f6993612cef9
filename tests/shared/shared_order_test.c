/* Transactions of four buses on one log that are committed in another order than they began, one of them
 * undone: sequences are drawn in the order of the commits, without holes, and a reader that polls all the time
 * never passes one over. */
#include "pair.h"

#include <hark/tx.h>

enum { BUSES = 4, ROUNDS = 12, DEADLINE_MS = 10000 };

typedef struct work {
    hark_bus *bus;
    pthread_t thread;
    latch at;
    bool undo;
    char name[32];
    hark_err err;
    hark_receipt last;
} work;

static hark_err closure(hark_tx *tx, void *ud)
{
    work *w = ud;
    hark_err err =
        hark_tx_publish(tx, HARK_OPTS(hark_event_spec, .type = "t", .id = w->name), NULL);
    latch_wait(&w->at);
    return err ? err : w->undo ? hark_tx_fail(tx, HARK_ECONFLICT, "undone") : HARK_OK;
}

static void *transact(void *arg)
{
    work *w = arg;
    hark_errinfo ei = {.text = ""};
    w->err = hark_transact(w->bus, closure, w, HARK_OPTS(hark_tx_opts, .deadline_ms = DEADLINE_MS),
                           &w->last, &ei);
    if (w->err != (w->undo ? HARK_ECONFLICT : HARK_OK))
        (void)fprintf(stderr, "%s: %s: %s\n", w->name, hark_err_name(w->err), ei.text);
    return NULL;
}

/* ---- a reader that polls ----------------------------------------------------------------------- */

typedef struct reader {
    hark_bus *bus;
    pthread_t thread;
    atomic_int end;
    atomic_size_t n; /* events read; they are those up to this sequence */
    uint64_t broken; /* the sequence that came out of its turn; 0 = none */
} reader;

static void read_some(reader *r)
{
    hark_page *page;
    hark_errinfo ei;
    MUST(hark_read(r->bus, HARK_OPTS(hark_read_opts, .after = atomic_load(&r->n)), &page, &ei) ==
         HARK_OK);
    for (size_t i = 0; i < hark_page_count(page); i++) {
        uint64_t seq = hark_event_sequence(hark_page_event(page, i));
        if (seq != atomic_fetch_add(&r->n, 1) + 1 && !r->broken)
            r->broken = seq;
    }
    hark_page_free(page);
}

static void *poll_log(void *arg)
{
    reader *r = arg;
    while (!atomic_load(&r->end))
        read_some(r);
    return NULL;
}

static void reader_start(reader *r, hark_bus *bus)
{
    *r = (reader){.bus = bus};
    assert_int_equal(pthread_create(&r->thread, NULL, poll_log, r), 0);
}

static void reader_end(reader *r, size_t expected, const char *whose)
{
    WAIT_UNTIL(atomic_load(&r->n) >= expected);
    atomic_store(&r->end, 1);
    pthread_join(r->thread, NULL);
    if (r->broken)
        fail_msg("the reader on %s should read one sequence after the other; %llu came out of turn",
                 whose, (unsigned long long)r->broken);
    assert_u64(atomic_load(&r->n), expected);
}

/* ---- rounds ------------------------------------------------------------------------------------ */

static void begin_all(work *works, hark_bus *const *buses, unsigned round, unsigned undone)
{
    for (unsigned i = 0; i < BUSES; i++) {
        works[i] = (work){.bus = buses[i], .undo = i == undone};
        (void)snprintf(works[i].name, sizeof works[i].name, "round-%u-%u", round, i);
        latch_init(&works[i].at);
        assert_int_equal(pthread_create(&works[i].thread, NULL, transact, &works[i]), 0);
        WAIT_UNTIL(atomic_load(&works[i].at.arrived) == 1);
    }
}

/* Ends them in that order, each when the one before is committed. Returns the log's last sequence. */
static uint64_t end_all(work *works, const unsigned *order, uint64_t last)
{
    for (unsigned i = 0; i < BUSES; i++) {
        work *w = &works[order[i]];
        latch_open(&w->at);
        pthread_join(w->thread, NULL);
        assert_int_equal(w->err, w->undo ? HARK_ECONFLICT : HARK_OK);
        if (!w->undo)
            assert_u64(w->last.sequence, ++last);
    }
    return last;
}

/* Ends them all at once; they fight for the last places. */
static uint64_t release_all(work *works, uint64_t last)
{
    uint64_t sum = 0;
    unsigned committed = 0;
    for (unsigned i = 0; i < BUSES; i++)
        latch_open(&works[i].at);
    for (unsigned i = 0; i < BUSES; i++) {
        pthread_join(works[i].thread, NULL);
        assert_int_equal(works[i].err, works[i].undo ? HARK_ECONFLICT : HARK_OK);
        committed += !works[i].undo;
        sum += works[i].undo ? 0 : works[i].last.sequence - last;
    }
    assert_u64(sum, (uint64_t)committed * (committed + 1) / 2); /* 1 + 2 + 3 */
    return last + committed;
}

/* splitmix64, from HARK_TEST_SEED or by chance. */
static uint64_t by_chance(void)
{
    static uint64_t state;
    const char *given = getenv("HARK_TEST_SEED");
    if (state == 0) {
        if (given && *given)
            state = strtoull(given, NULL, 10);
        else
            hk_random(&state, 4);
        (void)fprintf(stderr, "seed %llu (repeat with HARK_TEST_SEED)\n",
                      (unsigned long long)state);
    }
    uint64_t z = (state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void shuffle(unsigned *order, unsigned round)
{
    for (unsigned i = 0; i < BUSES; i++)
        order[i] = BUSES - 1 - i; /* the first round: the wrong way round */
    for (unsigned i = BUSES - 1; round > 0 && i > 0; i--) {
        unsigned k = (unsigned)(by_chance() % (i + 1)), x = order[i];
        order[i] = order[k];
        order[k] = x;
    }
}

static bool has_transactions(fixture *f)
{
    hark_bus_info info = {.size = sizeof info};
    assert_ok(f, hark_bus_info_get(f->bus, &info));
    return info.transactions != 0;
}

static void test_commits_out_of_order_are_numbered_in_order_and_none_is_passed_over(void **state)
{
    fixture *f = *state;
    work works[BUSES];
    reader own, other;
    recorder *heard = recorder_new();
    uint64_t last = 0;
    if (!has_transactions(f)) {
        assert_err(f, HARK_ENOTSUP, hark_transact(f->bus, closure, NULL, NULL, NULL, &f->ei));
        recorder_free(heard);
        return;
    }
    hark_bus *buses[BUSES] = {f->bus, another(f), another(f), another(f)}, *idle = another(f);
    pair p = {.f = f, .a = f->bus, .b = idle};
    hark_sub *live = listen_on(&p, idle, heard, NULL);
    reader_start(&own, f->bus);
    reader_start(&other, idle);
    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned order[BUSES];
        shuffle(order, round);
        begin_all(works, buses, round, order[round % BUSES]);
        last = round % 3 == 2 ? release_all(works, last) : end_all(works, order, last);
    }
    assert_u64(last, (uint64_t)ROUNDS * (BUSES - 1));
    reader_end(&own, last, "a bus that transacts");
    reader_end(&other, last, "a bus that only reads");
    WAIT_UNTIL(atomic_load(&heard->n) >= last);
    assert_consecutive(heard, 1, last);
    end_sub(live);
    recorder_free(heard);
    for (unsigned i = 1; i < BUSES; i++)
        hark_bus_unref(buses[i]);
    hark_bus_unref(idle);
}

/* Between a closure's first statement and its commit the others publish; its event comes behind theirs. */
static void test_a_long_transaction_holds_up_no_other_bus(void **state)
{
    fixture *f = *state;
    if (!has_transactions(f))
        return;
    pair p = pair_open(state);
    work w = {.bus = p.a, .name = "long"};
    latch_init(&w.at);
    assert_int_equal(pthread_create(&w.thread, NULL, transact, &w), 0);
    WAIT_UNTIL(atomic_load(&w.at.arrived) == 1);
    for (uint64_t i = 1; i <= 20; i++)
        assert_u64(say_on(&p, p.b, "t", "k"), i);
    latch_open(&w.at);
    pthread_join(w.thread, NULL);
    assert_int_equal(w.err, HARK_OK);
    assert_u64(w.last.sequence, 21);
    WAIT_UNTIL(count_on(&p, p.b, "t") == 21);
    pair_close(&p);
}

static const struct CMUnitTest tests[] = {
    TEST(test_commits_out_of_order_are_numbered_in_order_and_none_is_passed_over),
    TEST(test_a_long_transaction_holds_up_no_other_bus),
};

CONFORMANCE_MAIN("order of commits")
