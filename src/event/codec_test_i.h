/* codec_test_i.h: what the tests of the JSON format share: reading and writing that must succeed. */
#ifndef HK_CODEC_TEST_I_H
#define HK_CODEC_TEST_I_H

#include "event/event.h"
#include "json/json.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#define UNUSED   __attribute__((unused))
#define REQUIRED "\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\""

static inline int no_event_is_left(void **state UNUSED)
{
    return hk_slab_live() == 0 ? 0 : -1;
}

/* The text in a block of exactly its size, so that a read past its end is caught. */
static inline hark_err decode(const char *text, size_t len, const hark_event_spec *defaults,
                              hark_event **ret, hark_errinfo *ei)
{
    char *exact = malloc(len + !len);
    assert_non_null(exact);
    memcpy(exact, text, len);
    hark_err err = hark_event_from_json(exact, len, defaults, ret, ei);
    free(exact);
    return err;
}

static inline hark_event *must_decode(const char *text)
{
    hark_event *e = NULL;
    hark_errinfo ei = {0};
    if (decode(text, strlen(text), NULL, &e, &ei))
        fail_msg("%.200s\nwas refused: %s", text, ei.text);
    return e;
}

static inline hark_event *must_make(const hark_event_spec *spec)
{
    hark_event *e = NULL;
    hark_errinfo ei = {0};
    if (hark_event_new(spec, &e, &ei))
        fail_msg("refused: %s", ei.text);
    return e;
}

/* The JSON format of an event, checked to be JSON. */
static inline char *must_encode(const hark_event *e)
{
    char *text = NULL;
    size_t len = 0;
    hk_json_limits limits = {.max_depth = HK_JSON_DEPTH_DEFAULT + 1};
    assert_int_equal(hark_event_to_json(e, &text, &len), HARK_OK);
    assert_int_equal(strlen(text), len);
    assert_int_equal(hk_json_check(text, len, &limits, NULL, NULL), HARK_OK);
    return text;
}

static inline void check_data(const hark_event *e, const void *expected, size_t len)
{
    size_t n;
    const void *data = hark_event_data(e, &n);
    assert_int_equal(n, len);
    if (!expected)
        assert_null(data);
    else
        assert_memory_equal(data, expected, len);
}

#endif
