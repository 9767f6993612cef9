/* Replies as hark_idempotency stores them: what was written is read, and nothing else. */
#include "http/middleware/idempotency_i.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const uint8_t digest[16] = "0123456789abcdef";

static void write_one(hk_buf *b, const char *type, const void *body, size_t len)
{
    hark_ctx *c = calloc(1, sizeof *c);
    assert_non_null(c);
    c->reply.fd = -1;
    hk_arena_init(&c->arena, NULL, 0);
    assert_int_equal(hark_ctx_set_header(c, "X-Outer", "1"), HARK_OK);
    assert_int_equal(hark_ctx_set_header(c, "X-Changed", "1"), HARK_OK);
    hk_noted *before = hk_headers_note(c);
    assert_non_null(before);
    assert_int_equal(hark_ctx_set_header(c, "X-Changed", "1"), HARK_OK);
    assert_int_equal(hark_ctx_set_header(c, "X-Empty", ""), HARK_OK);
    assert_int_equal(hk_reply_set(c, 201, type, body, len, NULL), HARK_OK);
    hk_stored_write(b, c, before, digest);
    assert_false(b->failed);
    hk_arena_reset(&c->arena);
    free(c);
}

static void test_what_was_written_is_read(void **state)
{
    (void)state;
    hk_buf b = {0};
    hk_stored s;
    write_one(&b, "text/plain", "a\0b", 3);
    assert_int_equal(hk_stored_read(b.data, b.len, &s, NULL), HARK_OK);
    assert_memory_equal(s.digest, digest, 16);
    assert_int_equal(s.status, 201);
    assert_string_equal(s.type, "text/plain");
    assert_int_equal(s.n_headers, 2);
    assert_memory_equal(s.headers,
                        "X-Changed\0"
                        "1\0X-Empty\0",
                        21);
    assert_int_equal(s.len, 3);
    assert_memory_equal(s.body, "a\0b", 3);
    hk_buf_free(&b);
}

static void expect_headers(const hark_ctx *c, const char *want)
{
    char all[200] = "";
    size_t n = 0;
    for (const hk_out_header *h = c->out_headers; h; h = h->next)
        n += (size_t)snprintf(all + n, sizeof all - n, "%s=%s ", h->name, h->value);
    assert_string_equal(all, want);
}

static void test_headers_that_were_replaced_and_added_come_back_as_they_were(void **state)
{
    (void)state;
    hark_ctx *c = calloc(1, sizeof *c);
    assert_non_null(c);
    hk_arena_init(&c->arena, NULL, 0);
    hk_noted *none = hk_headers_note(c);
    (void)hark_ctx_add_header(c, "A", "1");
    (void)hark_ctx_add_header(c, "B", "b");
    (void)hark_ctx_add_header(c, "a", "2");
    (void)hark_ctx_add_header(c, "C", "c");
    (void)hark_ctx_add_header(c, "A", "3");
    hk_noted *before = hk_headers_note(c);
    assert_non_null(before);
    (void)hark_ctx_set_header(c, "a", "4");
    expect_headers(c, "A=4 B=b C=c ");
    (void)hark_ctx_add_header(c, "D", "d");
    expect_headers(c, "A=4 B=b C=c D=d ");
    hk_headers_back(c, before);
    expect_headers(c, "A=1 B=b a=2 C=c A=3 ");
    hk_headers_back(c, none);
    expect_headers(c, "");
    hk_arena_reset(&c->arena);
    free(c);
}

static void test_a_reply_without_body_and_type_is_read(void **state)
{
    (void)state;
    hk_buf b = {0};
    hk_stored s;
    write_one(&b, NULL, "", 0);
    assert_int_equal(hk_stored_read(b.data, b.len, &s, NULL), HARK_OK);
    assert_string_equal(s.type, "");
    assert_int_equal(s.len, 0);
    hk_buf_free(&b);
}

/* Each in memory of its very size, so that a sanitizer sees a read past the end. */
static hark_err read_copy(const char *data, size_t len)
{
    hk_stored s;
    hark_errinfo ei = {0};
    char *copy = malloc(len ? len : 1);
    assert_non_null(copy);
    memcpy(copy, data, len);
    hark_err err = hk_stored_read(copy, len, &s, &ei);
    assert_true(!err || ei.text[0]);
    free(copy);
    return err;
}

static void test_no_part_of_one_is_taken_for_the_whole(void **state)
{
    (void)state;
    hk_buf b = {0};
    write_one(&b, "text/plain", "body", 4);
    for (size_t len = 0; len < b.len; len++)
        assert_int_equal(read_copy(b.data, len), HARK_EFORMAT);
    hk_buf_addc(&b, 'x');
    assert_int_equal(read_copy(b.data, b.len), HARK_EFORMAT);
    hk_buf_free(&b);
}

static void test_damage_is_found_or_harmless(void **state)
{
    (void)state;
    hk_buf b = {0};
    write_one(&b, "text/plain", "body", 4);
    for (size_t i = 0; i < b.len; i++)
        for (unsigned bit = 0; bit < 8; bit++) {
            b.data[i] = (char)(b.data[i] ^ (1 << bit));
            hark_err err = read_copy(b.data, b.len);
            if (i == 0)
                assert_int_equal(err, HARK_EFORMAT); /* another version */
            b.data[i] = (char)(b.data[i] ^ (1 << bit));
        }
    hk_buf_free(&b);
}

static void test_a_header_that_could_end_the_head_is_refused(void **state)
{
    (void)state;
    hk_buf b = {0};
    write_one(&b, "text/plain", "body", 4);
    char *value = memchr(b.data, '1', b.len);
    for (; value && memcmp(value - 1, "\0001", 3) != 0;)
        value = memchr(value + 1, '1', b.len - (size_t)(value + 1 - b.data));
    assert_non_null(value);
    *value = '\n';
    assert_int_equal(read_copy(b.data, b.len), HARK_EFORMAT);
    hk_buf_free(&b);
}

static void test_a_key_is_entered_once_until_it_is_left(void **state)
{
    (void)state;
    enum { MANY = 1000 };
    static hk_running *running[MANY];
    char key[16];
    hk_running_set s;
    assert_int_equal(hk_running_init(&s), HARK_OK);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < MANY; i++) {
            hk_running *same = NULL;
            snprintf(key, sizeof key, "k%d", i);
            assert_int_equal(hk_running_enter(&s, key, &running[i]), HARK_OK);
            assert_int_equal(hk_running_enter(&s, key, &same), HARK_EEXIST);
        }
        for (int i = 0; round == 0 && i < MANY; i++)
            hk_running_leave(&s, running[i]);
    }
    hk_running_clear(&s); /* frees those that are still there */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_written_is_read),
        cmocka_unit_test(test_a_reply_without_body_and_type_is_read),
        cmocka_unit_test(test_no_part_of_one_is_taken_for_the_whole),
        cmocka_unit_test(test_damage_is_found_or_harmless),
        cmocka_unit_test(test_a_header_that_could_end_the_head_is_refused),
        cmocka_unit_test(test_a_key_is_entered_once_until_it_is_left),
        cmocka_unit_test(test_headers_that_were_replaced_and_added_come_back_as_they_were),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
