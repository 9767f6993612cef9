/* The guard reads heads as libmicrohttpd leaves them in memory (NULs where it cut), and targets. */
#include "http/http_i.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static _Alignas(16) char memory[32768];
static hark_ctx ctx;

static hark_ctx *fresh(void)
{
    memset(&ctx, 0, sizeof ctx);
    hk_arena_init(&ctx.arena, memory, sizeof memory);
    return &ctx;
}

/* Turns a head as sent into what the parser leaves: line ends and the first colon of a line become
 * NULs, a bare LF one NUL. */
static size_t cut(char *out, const char *head, size_t len)
{
    bool colon = true; /* none in the request line */
    memcpy(out, head, len);
    for (size_t i = 0; i < len; i++) {
        if (out[i] == '\r' || out[i] == '\n') {
            colon = false;
            out[i] = '\0';
        } else if (out[i] == ':' && !colon) {
            colon = true;
            out[i] = '\0';
        }
    }
    return len;
}

/* Status for "GET /x HTTP/1.1" with these lines, each of which ends as it is written. */
static int head_bytes(const char *lines, size_t n, const char **why)
{
    static char raw[4096]; /* the context's headers point into it */
    char sent[4096] = "GET /x HTTP/1.1\r\n";
    size_t first = strlen(sent);
    hark_ctx *c = fresh();
    memcpy(sent + first, lines, n);
    memcpy(sent + first + n, "\r\n", 2);
    size_t len = cut(raw, sent, first + n + 2);
    raw[3] = raw[6] = '\0';
    c->method_len = 3;
    c->raw_len = 2;
    int status = hk_guard_head(c, raw, len, why);
    return status ? status : hk_guard_fields(c, false, why);
}

static void refused(const char *lines, size_t n, const char *part)
{
    const char *why = "";
    int status = head_bytes(lines, n, &why);
    if (status != 400 || !strstr(why, part))
        fail_msg("%d %s; expected 400 ...%s...", status, why, part);
}
#define REFUSED(lines, part) refused(lines, sizeof(lines) - 1, part)

static void taken(const char *lines)
{
    const char *why = "";
    int status = head_bytes(lines, strlen(lines), &why);
    if (status)
        fail_msg("%d %s", status, why);
}

static void test_well_formed_heads_pass(void **state)
{
    (void)state;
    taken("Host: a\r\n");
    taken("Host:a\r\nX-Empty:\r\nX-Tab:\ta\tb\r\nContent-Length: 5\r\n");
    taken("Host: [::1]:80\r\nTransfer-Encoding: chunked\r\n");
    taken("host: a\r\nTRANSFER-ENCODING: Chunked\r\n");
    taken("Host: a\r\nX: \x80\xff obs-text \r\n");
}

static void test_headers_are_kept_without_blanks_around_the_value(void **state)
{
    (void)state;
    taken("Host: a\r\nX-A: \t b c \t \r\n");
    assert_int_equal(ctx.n_headers, 2);
    assert_string_equal(hark_ctx_header(&ctx, "x-a"), "b c");
    assert_null(hark_ctx_header(&ctx, "x-b"));
}

static void test_names_that_are_no_tokens_are_refused(void **state)
{
    (void)state;
    REFUSED("Host: a\r\n: x\r\n", "empty");
    REFUSED("Host: a\r\nX : x\r\n", "name");
    REFUSED("Host: a\r\nX\t: x\r\n", "name");
    REFUSED("Host: a\r\nX Y: x\r\n", "name");
    REFUSED("Host: a\r\n X: x\r\n", "name");
    REFUSED("Host: a\r\nX\x01: x\r\n", "name");
    REFUSED("Host: a\r\nX(: x\r\n", "name");
    REFUSED("Host: a\r\nX\xc3\xa4: x\r\n", "name");
}

static void test_control_characters_in_values_are_refused(void **state)
{
    (void)state;
    REFUSED("Host: a\r\nX: a\0b\r\n", "");
    REFUSED("Host: a\r\nX: a\0\r\n", "");
    REFUSED("Host: a\r\nX: a\0b\r\nY: c\r\n", "NUL");
    REFUSED("Host: a\r\nX: a\x01\r\n", "control");
    REFUSED("Host: a\r\nX: a\x7f\r\n", "control");
}

static void test_folded_lines_and_bare_line_feeds_are_refused(void **state)
{
    (void)state;
    REFUSED("Host: a\r\nX: a\r\n b: c\r\n", "name");
    REFUSED("Host: a\r\nX: a\r\n b\r\n", "");
    REFUSED("Host: a\nX: a\r\n", "bare LF");
    REFUSED("Host: a\r\nX: a\n", "");
    REFUSED("Host: a\r\nX: a\n:b\r\n", "");
    REFUSED("Host: a\r\nX: a\n:b\r\n:c\r\nY: d\r\n", "");
}

static void test_framing_that_can_be_read_in_two_ways_is_refused(void **state)
{
    (void)state;
    REFUSED("Host: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n", "both");
    REFUSED("Host: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n", "two Content-Length");
    REFUSED("Host: a\r\nContent-Length: +5\r\n", "decimal");
    REFUSED("Host: a\r\nContent-Length: -1\r\n", "decimal");
    REFUSED("Host: a\r\nContent-Length: 0x5\r\n", "decimal");
    REFUSED("Host: a\r\nContent-Length: 5, 5\r\n", "decimal");
    REFUSED("Host: a\r\nContent-Length:\r\n", "decimal");
    REFUSED("Host: a\r\nContent-Length: 18446744073709551616\r\n", "decimal");
    REFUSED("Host: a\r\nTransfer-Encoding: gzip, chunked\r\n", "exactly");
    REFUSED("Host: a\r\nTransfer-Encoding: chunked \r\n", "exactly");
    REFUSED("Host: a\r\nTransfer-Encoding: identity\r\n", "exactly");
    REFUSED("Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "exactly");
}

static void test_there_is_exactly_one_host(void **state)
{
    (void)state;
    REFUSED("X: a\r\n", "no Host");
    REFUSED("Host: a\r\nHost: a\r\n", "two Host");
    REFUSED("Host: a b\r\n", "Host");
    REFUSED("Host: a/b\r\n", "Host");
}

static void test_http_1_0_needs_no_host_and_has_no_chunks(void **state)
{
    (void)state;
    const char *why = "";
    hark_ctx *c = fresh();
    assert_int_equal(hk_guard_fields(c, true, &why), 0);
    char v[] = "chunked";
    c->headers = &(hk_header){"Transfer-Encoding", v, 17, 7};
    c->n_headers = 1;
    assert_int_equal(hk_guard_fields(c, true, &why), 400);
}

/* ---- targets ---- */

static const char *target(const char *raw)
{
    hark_ctx *c = fresh();
    return hk_target_parse(c, raw, strlen(raw));
}

static void test_paths_are_decoded_once(void **state)
{
    (void)state;
    assert_null(target("/a%20b/%2541/c%2Fd?x=%26y&z=a+b&e&f="));
    assert_string_equal(ctx.path.text, "/a b/%41/c/d");
    assert_int_equal(ctx.path.n, 3);
    assert_int_equal(ctx.path.seg_len[2], 3);
    assert_string_equal(hark_ctx_query(&ctx, "x"), "&y");
    assert_string_equal(hark_ctx_query(&ctx, "z"), "a b");
    assert_string_equal(hark_ctx_query(&ctx, "e"), "");
    assert_string_equal(hark_ctx_query(&ctx, "f"), "");
    assert_null(hark_ctx_query(&ctx, "g"));
}

static void test_absolute_targets_are_read_by_their_path(void **state)
{
    (void)state;
    assert_null(target("http://example.com/a/b?c=d"));
    assert_string_equal(ctx.path.text, "/a/b");
    assert_string_equal(hark_ctx_query(&ctx, "c"), "d");
    assert_null(target("http://example.com"));
    assert_string_equal(ctx.path.text, "/");
    assert_null(target("*"));
    assert_string_equal(ctx.path.text, "*");
}

static void test_malformed_targets_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",      "a",         "/%",   "/%4",     "/%zz", "/%00",    "/a%00b", "/a?b=%00", "/a b",
        "/\x01", "/\xc3\xa4", "/%ff", "/%c0%af", "/a#b", "/?x=%ff", "/?x=%4", "http:/a"};
    for (size_t i = 0; i < HK_COUNTOF(bad); i++)
        if (!target(bad[i]))
            fail_msg("'%s' was taken", bad[i]);
}

static void test_a_path_has_a_bounded_number_of_segments(void **state)
{
    (void)state;
    char raw[2 * HK_PATH_SEGMENTS + 2];
    for (int i = 0; i < HK_PATH_SEGMENTS; i++)
        memcpy(raw + 2 * i, "/a", 2);
    memcpy(raw + 2 * HK_PATH_SEGMENTS, "", 1);
    assert_null(target(raw));
    memcpy(raw + 2 * HK_PATH_SEGMENTS, "/", 2);
    assert_non_null(target(raw));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_well_formed_heads_pass),
        cmocka_unit_test(test_headers_are_kept_without_blanks_around_the_value),
        cmocka_unit_test(test_names_that_are_no_tokens_are_refused),
        cmocka_unit_test(test_control_characters_in_values_are_refused),
        cmocka_unit_test(test_folded_lines_and_bare_line_feeds_are_refused),
        cmocka_unit_test(test_framing_that_can_be_read_in_two_ways_is_refused),
        cmocka_unit_test(test_there_is_exactly_one_host),
        cmocka_unit_test(test_http_1_0_needs_no_host_and_has_no_chunks),
        cmocka_unit_test(test_paths_are_decoded_once),
        cmocka_unit_test(test_absolute_targets_are_read_by_their_path),
        cmocka_unit_test(test_malformed_targets_are_refused),
        cmocka_unit_test(test_a_path_has_a_bounded_number_of_segments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
