/* Tests of the ring by sequence: the newest N, and never a wrong object. */
#include "base/base.h"

#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#define UNUSED __attribute__((unused))

typedef struct thing {
    hk_ref ref;
    uint64_t seq;
} thing;

static hk_ref *thing_new(uint64_t seq)
{
    thing *t = hk_slab_alloc(sizeof *t);
    if (!t)
        return NULL;
    t->seq = seq;
    hk_ref_init(&t->ref, 1);
    return &t->ref;
}

static void thing_drop(hk_ref *r)
{
    if (hk_ref_put(r))
        hk_slab_free(r);
}

static uint64_t seq_of(const hk_ref *r)
{
    return ((const thing *)(const void *)r)->seq;
}

static int nothing_is_left(void **state UNUSED)
{
    return hk_slab_live() == 0 ? 0 : -1;
}

static void test_the_newest_are_found_and_the_overwritten_are_gone(void **state UNUSED)
{
    hk_seqring *r = hk_seqring_new(100, thing_drop);
    assert_int_equal(hk_seqring_capacity(r), 128);
    for (uint64_t seq = 1; seq <= 1000; seq++)
        hk_seqring_put(r, seq, thing_new(seq));
    assert_int_equal(hk_slab_live(), 128);
    for (uint64_t seq = 0; seq <= 1001; seq++) {
        hk_ref *got = hk_seqring_get(r, seq);
        bool newest = seq > 1000 - 128 && seq <= 1000;
        assert_int_equal(got != NULL, newest);
        assert_int_equal(hk_seqring_has(r, seq), newest);
        if (got) {
            assert_int_equal(seq_of(got), seq);
            assert_ptr_equal(hk_seqring_peek(r, seq), got);
            thing_drop(got);
        }
    }
    hk_seqring_free(r);
}

static void test_a_reference_outlives_the_ring(void **state UNUSED)
{
    hk_seqring *r = hk_seqring_new(64, thing_drop);
    hk_seqring_put(r, 7, thing_new(7));
    hk_ref *got = hk_seqring_get(r, 7);
    hk_seqring_free(r);
    assert_int_equal(seq_of(got), 7);
    thing_drop(got);
    hk_seqring_free(NULL);
}

static void test_evicting_empties_that_position_only(void **state UNUSED)
{
    hk_seqring *r = hk_seqring_new(64, thing_drop);
    hk_seqring_put(r, 1, thing_new(1));
    hk_seqring_put(r, 2, thing_new(2));
    hk_seqring_evict(r, 1);
    hk_seqring_evict(r, 1);      /* twice is once */
    hk_seqring_evict(r, 2 + 64); /* the slot holds another one: left alone */
    assert_null(hk_seqring_get(r, 1));
    assert_false(hk_seqring_has(r, 1));
    assert_true(hk_seqring_has(r, 2));
    assert_int_equal(hk_slab_live(), 1);
    hk_seqring_free(r);
}

/* ---- readers against a writer ------------------------------------------------------------------
 */

enum { WRITES = 200000, READERS = 2 };

typedef struct race {
    hk_seqring *ring;
    hk_mark newest;
    bool evicts;
} race;

typedef struct reader {
    race *race;
    uint64_t seed, found, wrong;
} reader;

/* Asks for positions near the newest and near the end that is being overwritten, and keeps blocks
 * in motion, so that stale pointers name recycled objects. */
static void *read_back(void *arg)
{
    reader *me = arg;
    race *r = me->race;
    for (uint64_t newest; (newest = hk_mark_get(&r->newest)) < WRITES;) {
        me->seed = me->seed * 6364136223846793005u + 1442695040888963407u;
        uint64_t back = (me->seed >> 33) % 70;
        uint64_t seq = newest > back ? newest - back : 1;
        hk_ref *got = hk_seqring_get(r->ring, seq);
        if (got) {
            me->found++;
            me->wrong += seq_of(got) != seq;
            thing_drop(got);
        }
        hk_ref *other = thing_new(UINT64_MAX);
        if (other)
            thing_drop(other);
    }
    return NULL;
}

static void run_race(bool evicts)
{
    race r = {.ring = hk_seqring_new(64, thing_drop), .evicts = evicts};
    reader readers[READERS];
    pthread_t t[READERS];
    for (size_t i = 0; i < READERS; i++) {
        readers[i] = (reader){.race = &r, .seed = i + 1};
        assert_int_equal(pthread_create(&t[i], NULL, read_back, &readers[i]), 0);
    }
    for (uint64_t seq = 1; seq <= WRITES; seq++) {
        hk_seqring_put(r.ring, seq, thing_new(seq));
        if (r.evicts && seq > 32)
            hk_seqring_evict(r.ring, seq - 32);
        hk_mark_set(&r.newest, seq);
        if (seq % 512 == 0)
            sched_yield(); /* lets the readers in, also on one core */
    }
    uint64_t wrong = 0;
    for (size_t i = 0; i < READERS; i++) {
        pthread_join(t[i], NULL);
        wrong += readers[i].wrong;
    }
    hk_seqring_free(r.ring);
    assert_int_equal(wrong, 0);
}

static void test_a_reader_never_gets_a_wrong_object_while_slots_are_overwritten(void **state UNUSED)
{
    run_race(false);
}

static void test_a_reader_never_gets_a_wrong_object_while_slots_are_evicted(void **state UNUSED)
{
    run_race(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_the_newest_are_found_and_the_overwritten_are_gone,
                                  nothing_is_left),
        cmocka_unit_test_teardown(test_a_reference_outlives_the_ring, nothing_is_left),
        cmocka_unit_test_teardown(test_evicting_empties_that_position_only, nothing_is_left),
        cmocka_unit_test_teardown(
            test_a_reader_never_gets_a_wrong_object_while_slots_are_overwritten, nothing_is_left),
        cmocka_unit_test_teardown(test_a_reader_never_gets_a_wrong_object_while_slots_are_evicted,
                                  nothing_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
