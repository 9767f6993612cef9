/* Tests of the inbox: many senders, one receiver, nothing lost and nobody left asleep. */
#include "base/base.h"

#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#define UNUSED __attribute__((unused))

typedef struct letter {
    hk_node node; /* first */
    unsigned sender, number;
} letter;

static letter *letter_of(hk_node *n)
{
    return (letter *)(void *)n;
}

static void test_letters_come_out_oldest_first_and_all_at_once(void **state UNUSED)
{
    hk_inbox b;
    letter l[3] = {{.number = 1}, {.number = 2}, {.number = 3}};
    hk_inbox_init(&b);
    assert_null(hk_inbox_take(&b));
    for (size_t i = 0; i < 3; i++)
        hk_inbox_push(&b, &l[i].node);
    hk_node *n = hk_inbox_take(&b);
    for (unsigned i = 1; i <= 3; i++, n = n->next)
        assert_int_equal(letter_of(n)->number, i);
    assert_null(n);
    assert_null(hk_inbox_take(&b));
}

static void test_waiting_on_a_filled_inbox_returns_at_once(void **state UNUSED)
{
    hk_inbox b;
    letter l = {0};
    hk_inbox_init(&b);
    hk_inbox_push(&b, &l.node);
    hk_inbox_wait(&b, -1);
    assert_ptr_equal(hk_inbox_take(&b), &l.node);
}

static void test_waiting_on_an_empty_inbox_ends_with_the_time_limit(void **state UNUSED)
{
    hk_inbox b;
    hk_inbox_init(&b);
    int64_t start = hk_mono_ns();
    hk_inbox_wait(&b, 2000000);
    assert_true(hk_mono_ns() - start >= 2000000);
    hk_inbox_wait(&b, 0);
}

/* ---- threads -----------------------------------------------------------------------------------
 */

enum { SENDERS = 4, LETTERS = 20000 };

typedef struct sender {
    hk_inbox *to;
    unsigned number;
    letter *letters;
} sender;

static void *send_all(void *arg)
{
    sender *s = arg;
    for (unsigned i = 0; i < LETTERS; i++) {
        s->letters[i] = (letter){.sender = s->number, .number = i};
        hk_inbox_push(s->to, &s->letters[i].node);
        if (i % 64 == 0)
            sched_yield(); /* the receiver empties the box, and sleeps, every now and then */
    }
    return NULL;
}

static void test_many_senders_lose_nothing_and_keep_their_own_order(void **state UNUSED)
{
    hk_inbox b;
    sender s[SENDERS];
    pthread_t t[SENDERS];
    unsigned next[SENDERS] = {0}, total = 0;
    hk_inbox_init(&b);
    for (unsigned i = 0; i < SENDERS; i++) {
        s[i] = (sender){.to = &b, .number = i, .letters = calloc(LETTERS, sizeof(letter))};
        assert_non_null(s[i].letters);
        assert_int_equal(pthread_create(&t[i], NULL, send_all, &s[i]), 0);
    }
    while (total < SENDERS * LETTERS) { /* a lost wake-up would hang here */
        hk_inbox_wait(&b, -1);
        for (hk_node *n = hk_inbox_take(&b); n; n = n->next, total++)
            assert_int_equal(letter_of(n)->number, next[letter_of(n)->sender]++);
    }
    for (size_t i = 0; i < SENDERS; i++) {
        pthread_join(t[i], NULL);
        assert_int_equal(next[i], LETTERS);
        free(s[i].letters);
    }
    assert_null(hk_inbox_take(&b));
}

enum { RALLIES = 20000 };

typedef struct table {
    hk_inbox a, b;
} table;

static hk_node *receive(hk_inbox *b)
{
    hk_node *n;
    while (!(n = hk_inbox_take(b)))
        hk_inbox_wait(b, -1);
    return n;
}

static void *play(void *arg)
{
    table *t = arg;
    for (unsigned i = 0; i < RALLIES; i++)
        hk_inbox_push(&t->a, receive(&t->b));
    return NULL;
}

static void test_no_wake_up_is_lost_when_both_sides_sleep_between_letters(void **state UNUSED)
{
    table t;
    letter ball = {0};
    pthread_t other;
    hk_inbox_init(&t.a);
    hk_inbox_init(&t.b);
    assert_int_equal(pthread_create(&other, NULL, play, &t), 0);
    hk_node *n = &ball.node;
    for (unsigned i = 0; i < RALLIES; i++) {
        hk_inbox_push(&t.b, n);
        n = receive(&t.a);
        assert_ptr_equal(n, &ball.node);
    }
    pthread_join(other, NULL);
}

static void *wait_once(void *arg)
{
    hk_inbox_wait(arg, -1);
    return NULL;
}

static void test_a_receiver_can_be_woken_without_a_letter(void **state UNUSED)
{
    hk_inbox b;
    pthread_t t;
    hk_inbox_init(&b);
    assert_int_equal(pthread_create(&t, NULL, wait_once, &b), 0);
    while (
        !(atomic_load(&b.gate.word) & HK_GATE_SLEEPER)) /* a wake before the wait would not count */
        sched_yield();
    hk_inbox_wake(&b);
    pthread_join(t, NULL);
    assert_null(hk_inbox_take(&b));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_letters_come_out_oldest_first_and_all_at_once),
        cmocka_unit_test(test_waiting_on_a_filled_inbox_returns_at_once),
        cmocka_unit_test(test_waiting_on_an_empty_inbox_ends_with_the_time_limit),
        cmocka_unit_test(test_many_senders_lose_nothing_and_keep_their_own_order),
        cmocka_unit_test(test_no_wake_up_is_lost_when_both_sides_sleep_between_letters),
        cmocka_unit_test(test_a_receiver_can_be_woken_without_a_letter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
