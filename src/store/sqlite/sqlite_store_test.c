/* Appending to the log: what is acknowledged is there, byte for byte, once and in order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/sqlite/fixture_i.h"

static void test_an_event_comes_back_byte_for_byte(void **state)
{
    fixture *f = *state;
    page pg = {0};
    hark_ext ext[] = {{.name = "agent", .value = "a \"quoted\" \\ value\xc3\xa9"},
                      {.name = "priority", .value = "-7", .kind = HARK_EXT_INTEGER},
                      {.name = "urgent", .value = "true", .kind = HARK_EXT_BOOLEAN}};
    hark_event *e = event_of(HARK_OPTS(
        hark_event_spec, .type = "order:created", .id = "1", .source = "/shop", .subject = "o-1",
        .key = "customer-9", .time = "2026-01-31T12:00:00+01:00", .datacontenttype = "text/plain",
        .dataschema = "https://example.com/s", .correlationid = "c", .causationid = "k",
        .traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", .dataversion = 3,
        .data = "a\0b", .data_len = 3, .extensions = ext, .n_extensions = 3));
    hark_store_append a = item(e, 1);
    begin(f);
    assert_ok(f, append(f, &a, 1));
    commit(f);
    assert_int_equal(hark_event_sequence(e), 1);
    assert_ok(f, read_into(f, &pg, (hark_store_query){0}));
    assert_int_equal(pg.p.n, 1);
    hark_event *got = pg.events[0];
    char buf[HARK_TIME_TEXT];
    size_t len;
    hark_ext x;
    assert_string_equal(hark_event_type(got), "order:created");
    assert_string_equal(hark_event_id(got), "1");
    assert_string_equal(hark_event_source(got), "/shop");
    assert_string_equal(hark_event_subject(got), "o-1");
    assert_string_equal(hark_event_partitionkey(got), "customer-9");
    assert_string_equal(hark_event_time_text(got, buf), "2026-01-31T12:00:00+01:00");
    assert_string_equal(hark_event_datacontenttype(got), "text/plain");
    assert_string_equal(hark_event_dataschema(got), "https://example.com/s");
    assert_string_equal(hark_event_correlationid(got), "c");
    assert_string_equal(hark_event_causationid(got), "k");
    assert_string_equal(hark_event_traceparent(got), hark_event_traceparent(e));
    assert_int_equal(hark_event_dataversion(got), 3);
    assert_int_equal(hark_event_time_ns(got), hark_event_time_ns(e));
    assert_int_equal(hark_event_recorded_ns(got), hark_event_recorded_ns(e));
    assert_memory_equal(hark_event_data(got, &len), "a\0b", 4);
    assert_int_equal(len, 3);
    assert_int_equal(hark_event_extensions(got), 3);
    for (size_t i = 0; i < 3; i++) {
        assert_true(hark_event_extension(got, i, &x));
        assert_string_equal(x.name, ext[i].name);
        assert_string_equal(x.value, ext[i].value);
        assert_int_equal(x.kind, ext[i].kind);
    }
    drop_page(&pg);
    drop_items(&a, 1);
}

static void test_no_data_and_empty_data_stay_apart(void **state)
{
    fixture *f = *state;
    page pg = {0};
    size_t len;
    begin(f);
    (void)add_spec(f, HARK_OPTS(hark_event_spec, .type = "t", .source = "/s"));
    (void)add_spec(f, HARK_OPTS(hark_event_spec, .type = "t", .source = "/s", .data = ""));
    commit(f);
    assert_ok(f, read_into(f, &pg, (hark_store_query){0}));
    assert_null(hark_event_data(pg.events[0], &len));
    assert_non_null(hark_event_data(pg.events[1], &len));
    assert_int_equal(len, 0);
    assert_null(hark_event_datacontenttype(pg.events[0]));
    drop_page(&pg);
}

static void test_large_data_comes_back(void **state)
{
    fixture *f = *state;
    page pg = {0};
    size_t n = 3 << 20, len;
    char *data = malloc(n);
    assert_non_null(data);
    for (size_t i = 0; i < n; i++)
        data[i] = (char)(i * 31);
    begin(f);
    (void)add_spec(
        f, HARK_OPTS(hark_event_spec, .type = "t", .source = "/s", .data = data, .data_len = n));
    commit(f);
    assert_ok(f, read_into(f, &pg, (hark_store_query){0}));
    assert_memory_equal(hark_event_data(pg.events[0], &len), data, n);
    assert_int_equal(len, n);
    drop_page(&pg);
    free(data);
}

static void test_a_group_is_invisible_until_it_commits(void **state)
{
    fixture *f = *state;
    hark_store_info info;
    begin(f);
    (void)add(f, "t", "1");
    assert_reads(f, "end", .limit = 10);
    OPS.info(f->store, &info);
    assert_int_equal(info.last_sequence, 0);
    commit(f);
    assert_reads(f, "1 end", .limit = 10);
    OPS.info(f->store, &info);
    assert_int_equal(info.first_sequence, 1);
    assert_int_equal(info.last_sequence, 1);
    assert_int_equal(info.durability, HARK_DISK);
}

static void test_a_rollback_gives_back_sequences_and_names(void **state)
{
    fixture *f = *state;
    page pg = {0};
    begin(f);
    assert_int_equal(add(f, "t", "1"), 1);
    commit(f);
    begin(f);
    assert_int_equal(add(f, "never", "2"), 2);
    OPS.rollback(f->store);
    begin(f);
    assert_int_equal(add(f, "other", "2"), 2);
    commit(f);
    assert_ok(f, read_into(f, &pg, (hark_store_query){0}));
    assert_int_equal(pg.p.n, 2);
    assert_string_equal(hark_event_type(pg.events[1]), "other");
    drop_page(&pg);
    assert_reads(f, "end", .pattern = "never");
}

static void test_a_repeat_gets_the_first_sequence(void **state)
{
    fixture *f = *state;
    hark_store_append a = item(simple_event("t", "same"), 1);
    begin(f);
    (void)add(f, "t", "before");
    assert_ok(f, append(f, &a, 1));
    assert_int_equal(a.ret_sequence, 2);
    assert_false(a.ret_duplicate);
    assert_ok(f, append(f, &a, 1)); /* in the same group */
    assert_true(a.ret_duplicate);
    commit(f);
    begin(f);
    assert_ok(f, append(f, &a, 1)); /* and in a later one */
    assert_int_equal(a.ret_sequence, 2);
    assert_true(a.ret_duplicate);
    assert_int_equal(add(f, "t", "after"), 3);
    commit(f);
    drop_items(&a, 1);
}

static void test_the_same_id_of_another_source_is_another_event(void **state)
{
    fixture *f = *state;
    begin(f);
    assert_int_equal(add(f, "t", "1"), 1);
    assert_int_equal(
        add_spec(f, HARK_OPTS(hark_event_spec, .type = "t", .id = "1", .source = "/other")), 2);
    commit(f);
}

static void test_other_content_is_a_conflict_and_takes_its_unit_along(void **state)
{
    fixture *f = *state;
    begin(f);
    assert_int_equal(add(f, "t", "taken"), 1);
    hark_store_append unit[] = {item(simple_event("t", "a"), 1), item(simple_event("t", "b"), 1),
                                item(simple_event("t", "taken"), 2)};
    assert_err(f, HARK_ECONFLICT, append(f, unit, 3));
    assert_says(f, "taken");
    assert_says(f, "/test");
    assert_says(f, "sequence 1");
    assert_int_equal(OPS.append(f->store, unit, 3, NULL), HARK_ECONFLICT);
    assert_int_equal(add(f, "t", "next"), 2);
    commit(f);
    assert_reads(f, "1 2 end", .limit = 10);
    drop_items(unit, 3);
}

static void test_a_conflict_inside_one_unit_is_found(void **state)
{
    fixture *f = *state;
    hark_store_append unit[] = {item(simple_event("t", "x"), 1), item(simple_event("t", "x"), 2)};
    begin(f);
    assert_err(f, HARK_ECONFLICT, append(f, unit, 2));
    unit[1].digest[0] = 1;
    assert_ok(f, append(f, unit, 2));
    assert_int_equal(unit[0].ret_sequence, 1);
    assert_int_equal(unit[1].ret_sequence, 1);
    assert_true(unit[1].ret_duplicate);
    commit(f);
    drop_items(unit, 2);
}

static void test_of_a_derived_id_the_first_content_stands(void **state)
{
    fixture *f = *state;
    hark_store_append a = item(simple_event("t", "derived"), 2);
    a.first_stands = 1;
    begin(f);
    (void)add(f, "t", "derived");
    assert_ok(f, append(f, &a, 1));
    assert_true(a.ret_duplicate);
    assert_int_equal(a.ret_sequence, 1);
    commit(f);
    drop_items(&a, 1);
}

static void test_sequences_go_on_after_the_newest_event_is_gone(void **state)
{
    fixture *f = *state;
    begin(f);
    (void)add(f, "t", "1");
    (void)add(f, "t", "2");
    commit(f);
    close_log(f);
    run_sql(f->path, "BEGIN; INSERT INTO hark_meta VALUES('last_sequence', 2);"
                     "INSERT INTO hark_meta VALUES('last_recorded', 4000000000000000000);"
                     "DELETE FROM hark_events; COMMIT");
    assert_ok(f, open_log(f));
    begin(f);
    assert_int_equal(add(f, "t", "3"), 3);
    commit(f);
    page pg = {0};
    assert_ok(f, read_into(f, &pg, (hark_store_query){0}));
    assert_int_equal(hark_event_recorded_ns(pg.events[0]), 4000000000000000000);
    drop_page(&pg);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_an_event_comes_back_byte_for_byte),
        T(test_no_data_and_empty_data_stay_apart),
        T(test_large_data_comes_back),
        T(test_a_group_is_invisible_until_it_commits),
        T(test_a_rollback_gives_back_sequences_and_names),
        T(test_a_repeat_gets_the_first_sequence),
        T(test_the_same_id_of_another_source_is_another_event),
        T(test_other_content_is_a_conflict_and_takes_its_unit_along),
        T(test_a_conflict_inside_one_unit_is_found),
        T(test_of_a_derived_id_the_first_content_stands),
        T(test_sequences_go_on_after_the_newest_event_is_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
