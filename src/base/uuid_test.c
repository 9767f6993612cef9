/* Tests of UUIDs: the layout of RFC 9562, order, uniqueness, forks. */
#include "base/base.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>

#include <cmocka.h>

#define UNUSED __attribute__((unused))

#define MS INT64_C(1000000)

static bool is_uuid(const char *s, char version)
{
    for (size_t i = 0; i < HK_UUID_TEXT; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? s[i] != '-' : !strchr("0123456789abcdef", s[i]) || !s[i])
            return false;
    }
    return s[HK_UUID_TEXT] == '\0' && s[14] == version && s[19] && strchr("89ab", s[19]);
}

/* Must come first: later ids of the process are later than any clock that went before. */
static void test_the_layout_is_that_of_rfc_9562(void **state UNUSED)
{
    char id[HK_UUID_TEXT + 1];
    /* Appendix A.6: 2022-02-22 19:22:22 UTC, rand_a 0xCC3, here the fraction of a millisecond */
    hk_uuid7(INT64_C(1645557742000) * MS + 797900, id);
    assert_true(is_uuid(id, '7'));
    assert_memory_equal(id, "017f22e2-79b0-7cc3-", 19);
}

static void test_an_id_carries_the_milliseconds_of_the_clock(void **state UNUSED)
{
    for (int64_t ms = INT64_C(1645557800000); ms < INT64_C(1645557800100); ms++) {
        const int64_t fractions[] = {0, 1, 499999, 999990, 999999};
        for (size_t i = 0; i < HK_COUNTOF(fractions); i++) {
            char id[HK_UUID_TEXT + 1], high[16];
            hk_uuid7(ms * MS + fractions[i], id);
            memcpy(high, id, 8);
            memcpy(high + 8, id + 9, 4);
            high[12] = '\0';
            assert_int_equal(strtoll(high, NULL, 16), ms);
        }
    }
}

static void test_ids_increase_when_the_clock_stands_still_or_goes_back(void **state UNUSED)
{
    int64_t now = hk_wall_ns();
    char last[HK_UUID_TEXT + 1] = "", id[HK_UUID_TEXT + 1];
    for (int64_t i = 0; i < 200000; i++) {
        hk_uuid7(i % 2 ? now : now - i * MS, id);
        assert_true(strcmp(last, id) < 0);
        memcpy(last, id, sizeof id);
    }
}

/* ---- threads -----------------------------------------------------------------------------------
 */

enum { THREADS = 4, EACH = 250000, IN_TURN = 20000 };

typedef char uuid_text[HK_UUID_TEXT + 1];

static void *make_many(void *arg)
{
    uuid_text *ids = arg;
    uintptr_t disorder = 0;
    for (size_t i = 0; i < EACH; i++) {
        hk_uuid7(hk_wall_ns(), ids[i]);
        disorder += i > 0 && strcmp(ids[i - 1], ids[i]) >= 0;
    }
    return (void *)disorder;
}

static int compare_ids(const void *a, const void *b)
{
    return memcmp(a, b, HK_UUID_TEXT);
}

static void test_a_million_ids_of_four_threads_differ(void **state UNUSED)
{
    uuid_text *ids = calloc((size_t)THREADS * EACH, sizeof *ids);
    pthread_t t[THREADS];
    assert_non_null(ids);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, make_many, ids + i * EACH), 0);
    for (size_t i = 0; i < THREADS; i++) {
        void *disorder;
        pthread_join(t[i], &disorder);
        assert_ptr_equal(disorder, NULL);
    }
    qsort(ids, (size_t)THREADS * EACH, sizeof *ids, compare_ids);
    for (size_t i = 1; i < (size_t)THREADS * EACH; i++)
        assert_true(compare_ids(ids[i - 1], ids[i]) < 0);
    free(ids);
}

typedef struct chain {
    pthread_mutex_t lock;
    uuid_text last;
    unsigned disorder;
} chain;

static void *extend(void *arg)
{
    chain *c = arg;
    for (size_t i = 0; i < IN_TURN; i++) {
        uuid_text id;
        pthread_mutex_lock(&c->lock);
        hk_uuid7(hk_wall_ns(), id);
        c->disorder += strcmp(c->last, id) >= 0;
        memcpy(c->last, id, sizeof id);
        pthread_mutex_unlock(&c->lock);
    }
    return NULL;
}

static void test_an_id_is_above_every_id_that_any_thread_made_before(void **state UNUSED)
{
    chain c = {.lock = PTHREAD_MUTEX_INITIALIZER};
    pthread_t t[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, extend, &c), 0);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(c.disorder, 0);
}

/* ---- forks -------------------------------------------------------------------------------------
 */

enum { FORKED = 100 };

static void make_in_child(int fd, int64_t now)
{
    uuid_text ids[FORKED];
    for (size_t i = 0; i < FORKED; i++)
        hk_uuid7(now, ids[i]);
    _exit(write(fd, ids, sizeof ids) == (ssize_t)sizeof ids ? 0 : 1);
}

static void test_a_forked_child_makes_other_ids_than_its_parent(void **state UNUSED)
{
    int fds[2], status;
    uuid_text mine[FORKED], its[FORKED], warm;
    int64_t now = hk_wall_ns();
    hk_uuid7(now, warm); /* this thread's random stream is running */
    assert_int_equal(pipe(fds), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        make_in_child(fds[1], now);
    for (size_t i = 0; i < FORKED; i++)
        hk_uuid7(now, mine[i]);
    assert_int_equal(read(fds[0], its, sizeof its), sizeof its); /* less than PIPE_BUF: whole */
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    for (size_t i = 0; i < FORKED; i++)
        assert_memory_not_equal(mine[i] + 21, its[i] + 21, HK_UUID_TEXT - 21); /* random bits */
    close(fds[0]);
    close(fds[1]);
}

/* ---- version 8 ----------------------------------------------------------------------------------
 */

static void test_version_8_keeps_the_derived_bytes_in_order(void **state UNUSED)
{
    uint8_t bytes[16];
    char id[HK_UUID_TEXT + 1];
    for (size_t i = 0; i < 16; i++)
        bytes[i] = (uint8_t)(0x11 * i);
    hk_uuid8(bytes, id);
    assert_true(is_uuid(id, '8'));
    assert_string_equal(id, "00112233-4455-8677-8899-aabbccddeeff");
    memset(bytes, 0xFF, sizeof bytes);
    hk_uuid8(bytes, id);
    assert_string_equal(id, "ffffffff-ffff-8fff-bfff-ffffffffffff");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_layout_is_that_of_rfc_9562),
        cmocka_unit_test(test_an_id_carries_the_milliseconds_of_the_clock),
        cmocka_unit_test(test_ids_increase_when_the_clock_stands_still_or_goes_back),
        cmocka_unit_test(test_a_million_ids_of_four_threads_differ),
        cmocka_unit_test(test_an_id_is_above_every_id_that_any_thread_made_before),
        cmocka_unit_test(test_a_forked_child_makes_other_ids_than_its_parent),
        cmocka_unit_test(test_version_8_keeps_the_derived_bytes_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
