/* What the memory store's ledger is kept in: a map and a list, against plain arrays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/memory/ledger_i.h"

#include <stdlib.h>

enum { KEYS = 700, STEPS = 40000 };

static uint64_t draw(uint64_t *rng, uint64_t below)
{
    *rng = *rng * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (*rng >> 33) % below;
}

/* Keys that lie close together, and far apart. */
static uint64_t key_of(size_t i)
{
    return i % 2 ? (uint64_t)i + 1 : (uint64_t)i << 40;
}

static void assert_same(const hk_mem_map *m, char *const model[KEYS])
{
    size_t n = 0, at = 0;
    for (size_t i = 1; i < KEYS; i++) {
        assert_ptr_equal(hk_mem_map_find(m, key_of(i)), model[i]);
        n += model[i] != NULL;
    }
    assert_int_equal(m->n, n);
    while (hk_mem_map_next(m, &at))
        n--;
    assert_int_equal(n, 0);
}

static void test_a_map_finds_what_was_put_and_not_taken(void **state)
{
    static char values[KEYS];
    char *model[KEYS] = {NULL};
    hk_mem_map m = {0};
    uint64_t rng = 3;
    (void)state;
    assert_null(hk_mem_map_find(&m, 5));
    hk_mem_map_take(&m, 5);
    for (size_t step = 0; step < STEPS; step++) {
        size_t i = 1 + draw(&rng, KEYS - 1);
        if (draw(&rng, 2)) {
            assert_true(hk_mem_map_room(&m, 1));
            hk_mem_map_put(&m, key_of(i), model[i] = &values[draw(&rng, KEYS)]);
        } else {
            hk_mem_map_take(&m, key_of(i));
            model[i] = NULL;
        }
        if (step % 1000 == 0)
            assert_same(&m, model);
    }
    assert_same(&m, model);
    hk_mem_map_free(&m);
}

static bool is_marked(void *value, void *ud)
{
    (void)ud;
    return *(char *)value != 0;
}

static void test_a_sweep_takes_all_that_it_is_told_to(void **state)
{
    char values[KEYS] = {0};
    (void)state;
    for (uint64_t seed = 1; seed < 50; seed++) {
        char *model[KEYS] = {NULL};
        hk_mem_map m = {0};
        uint64_t rng = seed;
        for (size_t i = 1; i < KEYS; i++) {
            values[i] = draw(&rng, 3) != 0;
            assert_true(hk_mem_map_room(&m, 1));
            hk_mem_map_put(&m, key_of(i), &values[i]);
            model[i] = values[i] ? NULL : &values[i];
        }
        hk_mem_map_sweep(&m, is_marked, NULL);
        assert_same(&m, model);
        hk_mem_map_free(&m);
    }
}

static void test_a_map_without_memory_says_so(void **state)
{
    hk_mem_map m = {0};
    (void)state;
    assert_false(hk_mem_map_room(&m, SIZE_MAX / 2));
    assert_null(hk_mem_map_find(&m, 1));
}

static void test_a_list_keeps_the_order_of_ids_while_some_are_taken(void **state)
{
    static char value;
    bool model[KEYS] = {false};
    hk_mem_list l = {0};
    uint64_t rng = 9, id = 0;
    (void)state;
    assert_null(hk_mem_list_find(&l, 0));
    for (uint64_t i = 1; i < KEYS; i++) {
        assert_true(hk_mem_list_room(&l, 1));
        hk_mem_list_add(&l, i, &value);
        model[i] = true;
        for (int k = 0; k < 2; k++) {
            uint64_t gone = 1 + draw(&rng, i);
            hk_mem_list_take(&l, gone);
            model[gone] = false;
        }
    }
    hk_mem_list_take(&l, KEYS + 1);
    for (uint64_t i = 1; i < KEYS; i++) {
        assert_ptr_equal(hk_mem_list_find(&l, i), model[i] ? &value : NULL);
        if (model[i]) {
            assert_non_null(hk_mem_list_above(&l, id, &id));
            assert_int_equal(id, i);
        }
    }
    assert_null(hk_mem_list_above(&l, id, &id));
    hk_mem_list_free(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_map_finds_what_was_put_and_not_taken),
        cmocka_unit_test(test_a_sweep_takes_all_that_it_is_told_to),
        cmocka_unit_test(test_a_map_without_memory_says_so),
        cmocka_unit_test(test_a_list_keeps_the_order_of_ids_while_some_are_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
