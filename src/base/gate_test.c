/* Tests of the gate and the condition variable: who waits is woken, or times out. */
#include "base/base.h"

#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#define UNUSED __attribute__((unused))

static void test_a_gate_that_was_opened_since_the_look_does_not_hold(void **state UNUSED)
{
    hk_gate g;
    hk_gate_init(&g);
    unsigned seen = hk_gate_look(&g);
    hk_gate_open(&g);
    assert_true(hk_gate_wait(&g, seen, -1));
    assert_true(hk_gate_wait(&g, seen, 0));
    assert_int_not_equal(hk_gate_look(&g), seen);
}

static void test_a_closed_gate_holds_until_the_time_limit(void **state UNUSED)
{
    hk_gate g;
    hk_gate_init(&g);
    int64_t start = hk_mono_ns();
    assert_false(hk_gate_wait(&g, hk_gate_look(&g), 2000000));
    assert_true(hk_mono_ns() - start >= 2000000);
    assert_false(hk_gate_wait(&g, hk_gate_look(&g), 0));
}

typedef struct waiter {
    hk_gate *gate;
    unsigned seen;
    int64_t timeout_ns;
    bool passed;
} waiter;

static void *wait_there(void *arg)
{
    waiter *w = arg;
    w->passed = hk_gate_wait(w->gate, w->seen, w->timeout_ns);
    return NULL;
}

static void test_opening_wakes_everybody_whatever_their_time_limit(void **state UNUSED)
{
    static const int64_t limits[] = {-1, INT64_MAX, INT64_MAX / 2, INT64_C(3600) * 1000000000};
    enum { WAITERS = HK_COUNTOF(limits) };
    hk_gate g;
    waiter w[WAITERS];
    pthread_t t[WAITERS];
    hk_gate_init(&g);
    for (size_t i = 0; i < WAITERS; i++) {
        w[i] = (waiter){.gate = &g, .seen = hk_gate_look(&g), .timeout_ns = limits[i]};
        assert_int_equal(pthread_create(&t[i], NULL, wait_there, &w[i]), 0);
    }
    while (!(atomic_load(&g.word) & HK_GATE_SLEEPER))
        sched_yield();
    hk_gate_open(&g);
    for (size_t i = 0; i < WAITERS; i++) {
        pthread_join(t[i], NULL);
        assert_true(w[i].passed);
    }
}

enum { TURNS = 20000 };

typedef struct turns {
    hk_gate gate;
    hk_mark turn; /* even: the test's, odd: the other's */
} turns;

static void take_turns(turns *t, uint64_t first)
{
    for (uint64_t mine = first; mine < TURNS; mine += 2) {
        for (;;) {
            unsigned seen = hk_gate_look(&t->gate);
            if (hk_mark_get(&t->turn) == mine)
                break;
            (void)hk_gate_wait(&t->gate, seen, -1);
        }
        hk_mark_set(&t->turn, mine + 1);
        hk_gate_open(&t->gate);
    }
}

static void *play(void *arg)
{
    take_turns(arg, 1);
    return NULL;
}

static void test_no_opening_is_lost_between_the_look_and_the_wait(void **state UNUSED)
{
    turns t = {0};
    pthread_t other;
    hk_gate_init(&t.gate);
    assert_int_equal(pthread_create(&other, NULL, play, &t), 0);
    take_turns(&t, 0); /* a lost opening would hang here */
    pthread_join(other, NULL);
    assert_int_equal(hk_mark_get(&t.turn), TURNS);
}

/* Openers that come together with a sleeper: each opening ends exactly one wait, or a later one. */
enum { OPENERS = 3, OPENINGS = 20000 };

static void *open_often(void *arg)
{
    turns *t = arg;
    for (unsigned i = 0; i < OPENINGS; i++) {
        (void)hk_mark_claim(&t->turn, 1);
        hk_gate_open(&t->gate);
    }
    return NULL;
}

static void test_no_opening_is_lost_when_many_open_at_once(void **state UNUSED)
{
    turns t = {0};
    pthread_t openers[OPENERS];
    hk_gate_init(&t.gate);
    for (size_t i = 0; i < OPENERS; i++)
        assert_int_equal(pthread_create(&openers[i], NULL, open_often, &t), 0);
    for (uint64_t known = 0; known < OPENERS * OPENINGS;) {
        unsigned seen = hk_gate_look(&t.gate);
        uint64_t now = hk_mark_get(&t.turn);
        if (now == known)
            (void)hk_gate_wait(&t.gate, seen, -1); /* a lost opening would hang here */
        known = now;
    }
    for (size_t i = 0; i < OPENERS; i++)
        pthread_join(openers[i], NULL);
}

static void *open_through(void *arg)
{
    hk_gate *_Atomic *slot = arg;
    for (unsigned i = 0; i < TURNS; i++) {
        hk_gate *g;
        while (!(g = atomic_exchange(slot, NULL)))
            sched_yield();
        hk_gate_open(g);
    }
    return NULL;
}

/* A gate of one use in memory that its waiter frees at once: an opener that still touched it would
 * be caught by the address sanitizer. */
static void test_a_gate_may_be_gone_as_soon_as_its_waiter_returns(void **state UNUSED)
{
    hk_gate *_Atomic slot = NULL;
    pthread_t opener;
    assert_int_equal(pthread_create(&opener, NULL, open_through, &slot), 0);
    for (unsigned i = 0; i < TURNS; i++) {
        hk_gate *g = malloc(sizeof *g);
        assert_non_null(g);
        hk_gate_init(g);
        atomic_store(&slot, g);
        while (hk_gate_look(g) == 0)
            (void)hk_gate_wait(g, 0, -1);
        free(g);
    }
    pthread_join(opener, NULL);
}

/* ---- the condition variable --------------------------------------------------------------------
 */

typedef struct box {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool waiting, full, ended_in_time;
    int64_t timeout_ns;
} box;

static void *wait_for_box(void *arg)
{
    box *b = arg;
    bool in_time = true;
    pthread_mutex_lock(&b->lock);
    b->waiting = true;
    while (!b->full && in_time)
        in_time = hk_cond_wait(&b->changed, &b->lock, b->timeout_ns);
    b->ended_in_time = in_time;
    pthread_mutex_unlock(&b->lock);
    return NULL;
}

static bool waits(box *b)
{
    pthread_mutex_lock(&b->lock);
    bool waiting = b->waiting;
    pthread_mutex_unlock(&b->lock);
    return waiting;
}

static void test_a_condition_is_waited_for_with_any_time_limit(void **state UNUSED)
{
    static const int64_t limits[] = {-1, INT64_MAX, INT64_C(3600) * 1000000000};
    for (size_t i = 0; i < HK_COUNTOF(limits); i++) {
        box b = {.lock = PTHREAD_MUTEX_INITIALIZER, .timeout_ns = limits[i]};
        pthread_t t;
        hk_cond_init(&b.changed);
        assert_int_equal(pthread_create(&t, NULL, wait_for_box, &b), 0);
        while (!waits(&b))
            sched_yield();
        pthread_mutex_lock(&b.lock);
        b.full = true;
        pthread_cond_signal(&b.changed);
        pthread_mutex_unlock(&b.lock);
        pthread_join(t, NULL);
        assert_true(b.ended_in_time);
        pthread_cond_destroy(&b.changed);
    }
}

static void test_a_condition_that_never_comes_times_out(void **state UNUSED)
{
    box b = {.lock = PTHREAD_MUTEX_INITIALIZER, .timeout_ns = 2000000};
    hk_cond_init(&b.changed);
    int64_t start = hk_mono_ns();
    (void)wait_for_box(&b);
    assert_false(b.ended_in_time);
    assert_true(hk_mono_ns() - start >= 2000000);
    pthread_cond_destroy(&b.changed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_gate_that_was_opened_since_the_look_does_not_hold),
        cmocka_unit_test(test_a_closed_gate_holds_until_the_time_limit),
        cmocka_unit_test(test_opening_wakes_everybody_whatever_their_time_limit),
        cmocka_unit_test(test_no_opening_is_lost_between_the_look_and_the_wait),
        cmocka_unit_test(test_no_opening_is_lost_when_many_open_at_once),
        cmocka_unit_test(test_a_gate_may_be_gone_as_soon_as_its_waiter_returns),
        cmocka_unit_test(test_a_condition_is_waited_for_with_any_time_limit),
        cmocka_unit_test(test_a_condition_that_never_comes_times_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
