/* Tests of the slabs: sizes, recycling, and blocks that wander between threads. */
#include "base/base.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#define UNUSED __attribute__((unused))

/* A block as everybody uses it: a count that is 0 before it is freed. */
typedef struct item {
    hk_ref ref;
    unsigned number;
    struct item *next;
} item;

static item *item_new(unsigned number)
{
    item *i = hk_slab_alloc(sizeof *i);
    if (i) {
        i->number = number;
        hk_ref_init(&i->ref, 1);
    }
    return i;
}

static void item_drop(item *i)
{
    if (hk_ref_put(&i->ref))
        hk_slab_free(i);
}

static int no_block_is_left(void **state UNUSED)
{
    return hk_slab_live() == 0 ? 0 : -1;
}

static void test_every_size_gets_an_aligned_block_of_its_own(void **state UNUSED)
{
    for (size_t size = 1; size <= HK_SLAB_MAX; size++) {
        unsigned char *a = hk_slab_alloc(size), *b = hk_slab_alloc(size);
        assert_non_null(a);
        assert_non_null(b);
        assert_int_equal((uintptr_t)a % 16, 0);
        assert_int_equal((uintptr_t)b % 16, 0);
        uintptr_t apart = a < b ? (uintptr_t)b - (uintptr_t)a : (uintptr_t)a - (uintptr_t)b;
        assert_true(apart >= size);
        memset(a + sizeof(hk_ref), 0xAA, size > sizeof(hk_ref) ? size - sizeof(hk_ref) : 0);
        memset(b + sizeof(hk_ref), 0x55, size > sizeof(hk_ref) ? size - sizeof(hk_ref) : 0);
        if (size > sizeof(hk_ref)) {
            assert_int_equal(a[sizeof(hk_ref)], 0xAA);
            assert_int_equal(a[size - 1], 0xAA);
        }
        hk_slab_free(a);
        hk_slab_free(b);
    }
}

static void test_neighbours_of_one_class_do_not_overlap(void **state UNUSED)
{
    static const size_t sizes[] = {1, 64, 65, 1000, 1024, 1025, 1280, 5000, 40000, 65536};
    enum { BLOCKS = 150 }; /* more than a chunk and a stock hold */
    unsigned char *blocks[BLOCKS];
    for (size_t s = 0; s < HK_COUNTOF(sizes); s++) {
        for (size_t i = 0; i < BLOCKS; i++) {
            blocks[i] = hk_slab_alloc(sizes[s]);
            assert_non_null(blocks[i]);
            memset(blocks[i], (int)i, sizes[s]);
        }
        for (size_t i = 0; i < BLOCKS; i++) {
            assert_int_equal(blocks[i][0], i);
            assert_int_equal(blocks[i][sizes[s] - 1], i);
            assert_int_equal(blocks[i][sizes[s] / 2], i);
            memset(blocks[i], 0, sizes[s] < sizeof(hk_ref) ? sizes[s] : sizeof(hk_ref));
            hk_slab_free(blocks[i]);
        }
    }
}

static void test_a_block_beyond_the_largest_is_refused(void **state UNUSED)
{
    assert_null(hk_slab_alloc(HK_SLAB_MAX + 1));
    assert_null(hk_slab_alloc(SIZE_MAX));
    void *none = hk_slab_alloc(0);
    assert_non_null(none);
    hk_slab_free(none);
    hk_slab_free(NULL);
}

static void test_a_freed_block_is_used_again(void **state UNUSED)
{
    void *first = hk_slab_alloc(200);
    hk_slab_free(first);
    void *again = hk_slab_alloc(200);
    assert_ptr_equal(first, again);
    hk_slab_free(again);
}

static void test_a_fresh_or_freed_block_counts_no_reference(void **state UNUSED)
{
    item *i = hk_slab_alloc(sizeof *i);
    assert_false(hk_ref_try(&i->ref));
    hk_ref_init(&i->ref, 1);
    assert_true(hk_ref_try(&i->ref));
    item_drop(i);
    item_drop(i);
    assert_false(hk_ref_try(&i->ref)); /* a stale pointer may be tried, by contract */
}

static void test_live_blocks_are_counted_over_all_sizes(void **state UNUSED)
{
    void *blocks[300];
    for (size_t i = 0; i < HK_COUNTOF(blocks); i++)
        blocks[i] = hk_slab_alloc(i * 200 + 1);
    assert_int_equal(hk_slab_live(), HK_COUNTOF(blocks));
    for (size_t i = 0; i < HK_COUNTOF(blocks); i++)
        hk_slab_free(blocks[i]);
    assert_int_equal(hk_slab_live(), 0);
}

/* ---- threads --------------------------------------------------------------------------------- */

static void *free_list(void *arg)
{
    for (item *i = arg, *next; i; i = next) {
        next = i->next;
        item_drop(i);
    }
    return NULL;
}

static item *make_list(unsigned n)
{
    item *list = NULL;
    for (unsigned k = 0; k < n; k++) {
        item *i = item_new(k);
        i->next = list;
        list = i;
    }
    return list;
}

/* Distinct blocks seen so far: an open hash table of addresses. */
static size_t note_blocks(const item *list, uintptr_t *seen, size_t room)
{
    size_t fresh = 0;
    for (const item *i = list; i; i = i->next) {
        uintptr_t p = (uintptr_t)i;
        size_t k = (size_t)hk_hash(&p, sizeof p) % room;
        while (seen[k] && seen[k] != p)
            k = (k + 1) % room;
        fresh += seen[k] == 0;
        seen[k] = p;
    }
    return fresh;
}

static void test_blocks_freed_on_another_thread_come_back(void **state UNUSED)
{
    enum { BLOCKS = 4096, ROUNDS = 20 };
    static uintptr_t seen[2 * ROUNDS * BLOCKS];
    size_t distinct = 0;
    for (int round = 0; round < ROUNDS; round++) {
        item *list = make_list(BLOCKS);
        distinct += note_blocks(list, seen, HK_COUNTOF(seen));
        pthread_t t;
        assert_int_equal(pthread_create(&t, NULL, free_list, list), 0);
        pthread_join(t, NULL);
        assert_int_equal(hk_slab_live(), 0);
    }
    assert_in_range(distinct, BLOCKS, BLOCKS + 256); /* without recycling, ROUNDS times as many */
}

static void *alloc_and_leave(void *arg)
{
    *(item **)arg = make_list(1000);
    return NULL;
}

static void test_blocks_outlive_the_thread_that_made_them(void **state UNUSED)
{
    item *list = NULL;
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, alloc_and_leave, &list), 0);
    pthread_join(t, NULL);
    assert_int_equal(hk_slab_live(), 1000);
    unsigned expected = 999;
    for (item *i = list; i; i = i->next)
        assert_int_equal(i->number, expected--);
    (void)free_list(list);
    assert_int_equal(hk_slab_live(), 0);
}

enum { TABLE = 256, SWAPS = 100000, WORKERS = 3 };
static item *_Atomic table[TABLE];

/* Swaps fresh blocks into a shared table and checks what it gets out. */
static void *swap_blocks(void *arg)
{
    uint64_t seed = (uint64_t)(uintptr_t)arg + 1, wrong = 0;
    for (unsigned k = 0; k < SWAPS; k++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        size_t slot = (size_t)(seed >> 40) % TABLE;
        item *mine = item_new((unsigned)slot);
        item *old = atomic_exchange_explicit(&table[slot], mine, memory_order_acq_rel);
        if (old) {
            wrong += old->number != slot;
            item_drop(old);
        }
    }
    return (void *)(uintptr_t)wrong;
}

static void test_blocks_wander_between_threads_without_mixing(void **state UNUSED)
{
    pthread_t t[WORKERS];
    for (uintptr_t i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, swap_blocks, (void *)i), 0);
    for (size_t i = 0; i < WORKERS; i++) {
        void *wrong;
        pthread_join(t[i], &wrong);
        assert_int_equal((uintptr_t)wrong, 0);
    }
    for (size_t i = 0; i < TABLE; i++) {
        item *left = atomic_exchange(&table[i], NULL);
        if (left)
            item_drop(left);
    }
    assert_int_equal(hk_slab_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_every_size_gets_an_aligned_block_of_its_own,
                                  no_block_is_left),
        cmocka_unit_test_teardown(test_neighbours_of_one_class_do_not_overlap, no_block_is_left),
        cmocka_unit_test_teardown(test_a_block_beyond_the_largest_is_refused, no_block_is_left),
        cmocka_unit_test_teardown(test_a_freed_block_is_used_again, no_block_is_left),
        cmocka_unit_test_teardown(test_a_fresh_or_freed_block_counts_no_reference,
                                  no_block_is_left),
        cmocka_unit_test_teardown(test_live_blocks_are_counted_over_all_sizes, no_block_is_left),
        cmocka_unit_test_teardown(test_blocks_freed_on_another_thread_come_back, no_block_is_left),
        cmocka_unit_test_teardown(test_blocks_outlive_the_thread_that_made_them, no_block_is_left),
        cmocka_unit_test_teardown(test_blocks_wander_between_threads_without_mixing,
                                  no_block_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
