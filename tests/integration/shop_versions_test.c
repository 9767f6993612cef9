/* The upcasters of the shop's order:created: what older shops have stored, as this one reads it. They
 * run here on a bus in memory; shop_versions.py has a whole shop read such events. */
#include "events.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *samples; /* folder */
static hark_bus *bus;
static hark_errinfo ei;

static int fresh_bus(void **state)
{
    (void)state;
    ei.text[0] = '\0';
    if (hark_open("memory:", NULL, &bus, &ei) || versions_register(bus, &ei))
        fail_msg("%s", ei.text);
    return 0;
}

static int close_bus(void **state)
{
    (void)state;
    bus = hark_bus_unref(bus);
    return 0;
}

static hark_err publish(int64_t version, const char *json)
{
    return hark_publish_ei(bus,
                           HARK_OPTS(hark_event_spec, .type = "order:created", .subject = "o",
                                     .dataversion = version, .time = "2024-05-06T07:08:09Z",
                                     .json = json),
                           NULL, &ei);
}

/* Publishes it as a shop did that knew this version; reads it as this one does. */
static hark_err read_back(int64_t version, const char *json, order *ret)
{
    hark_page *page;
    *ret = (order){.items = NULL};
    assert_int_equal(publish(version, json), HARK_OK);
    hark_err err = hark_read(
        bus, HARK_OPTS(hark_read_opts, .type = "order:created", .descending = 1, .limit = 1), &page,
        &ei);
    if (err)
        return err;
    assert_int_equal(hark_page_count(page), 1);
    assert_int_equal(hark_event_dataversion(hark_page_event(page, 0)), 3);
    err = hark_event_bind(hark_page_event(page, 0), order_table(), ret, &ei);
    hark_page_free(page);
    return err;
}

static void must_read(int64_t version, const char *json, order *ret)
{
    hark_err err = read_back(version, json, ret);
    if (err)
        fail_msg("%s: %s", hark_err_name(err), ei.text);
}

static char *slurp(const char *name)
{
    char path[4096], *text = calloc(1, 4096);
    assert_non_null(text);
    snprintf(path, sizeof path, "%s/%s", samples, name);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_true(fread(text, 1, 4095, f) > 0);
    fclose(f);
    return text;
}

/* ---- the samples ---- */

static void check_sample(int64_t version, int64_t total, size_t items, int64_t last_price)
{
    char name[40];
    order o;
    snprintf(name, sizeof name, "order_created_v%" PRId64 ".json", version);
    char *json = slurp(name);
    must_read(version, json, &o);
    assert_int_equal(o.total, total);
    assert_int_equal(o.n_items, items);
    assert_int_equal(o.items[items - 1].price, last_price);
    assert_string_equal(o.user_id, "user123");
    assert_string_equal(o.currency, "EUR");
    assert_string_equal(o.status, "created");
    hark_json_free(order_table(), &o);
    free(json);
}

static void test_each_stored_sample_is_read_as_version_3(void **state)
{
    (void)state;
    check_sample(1, 2285, 2, 29);
    check_sample(2, 2839, 2, 435);
    check_sample(3, 900, 1, 450);
}

/* ---- money of version 1 ---- */

enum { EVERY = 100000, POWERS = 11 };

/* Every cent up to 1000.00, then each power of ten with its neighbours. */
static int64_t cents_at(size_t i)
{
    int64_t power = 1000;
    if (i <= EVERY)
        return (int64_t)i;
    for (size_t k = 0; k < (i - EVERY - 1) / 3; k++)
        power *= 10;
    return power + (int64_t)((i - EVERY - 1) % 3) - 1;
}

static char *every_price(size_t n)
{
    char *json, *end;
    size_t size = 200 + n * 80;
    json = end = malloc(size);
    assert_non_null(json);
    end += snprintf(end, 100, "{\"id\":\"o\",\"user_id\":\"u\",\"total\":1,\"items\":[");
    for (size_t i = 0; i < n; i++)
        end +=
            snprintf(end, 80, "%s{\"product_id\":\"p\",\"quantity\":1,\"price\":%" PRId64 ".%02d}",
                     i ? "," : "", cents_at(i) / 100, (int)(cents_at(i) % 100));
    snprintf(end, 4, "]}");
    return json;
}

static void test_every_number_with_two_places_becomes_exactly_its_cents(void **state)
{
    (void)state;
    size_t n = EVERY + 1 + 3 * POWERS; /* up to 100000000000.01 */
    order o;
    char *json = every_price(n);
    must_read(1, json, &o);
    assert_int_equal(o.n_items, n);
    for (size_t i = 0; i < n; i++)
        if (o.items[i].price != cents_at(i))
            fail_msg("%" PRId64 " cents became %" PRId64, cents_at(i), o.items[i].price);
    hark_json_free(order_table(), &o);
    free(json);
}

static int64_t total_of(const char *number)
{
    order o;
    char json[300];
    snprintf(json, sizeof json,
             "{\"id\":\"o\",\"user_id\":\"u\",\"total\":%s,"
             "\"items\":[{\"product_id\":\"p\",\"quantity\":1,\"price\":0}]}",
             number);
    if (read_back(1, json, &o))
        return -1;
    int64_t total = o.total;
    hark_json_free(order_table(), &o);
    return total;
}

static void test_what_arithmetic_has_left_is_rounded_to_the_nearest_cent(void **state)
{
    (void)state;
    char sum[40];
    snprintf(sum, sizeof sum, "%.17g", 0.1 + 0.2);
    assert_string_equal(sum, "0.30000000000000004");
    assert_int_equal(total_of(sum), 30);
    assert_int_equal(total_of("29.989999999999998"), 2999);
    assert_int_equal(total_of("1e6"), 100000000);
    assert_int_equal(total_of("1"), 100);
    assert_int_equal(total_of("0"), 0);
    assert_int_equal(total_of("0.004"), 0);
}

static void test_money_that_cannot_be_is_refused_and_the_text_says_where(void **state)
{
    (void)state;
    static const char *const wrong[] = {"-0.01", "-5", "1e13", "\"12.50\"", "null", "1e400"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(total_of(wrong[i]), -1);
        assert_int_equal(ei.err, HARK_EUPCAST);
        assert_non_null(strstr(ei.text, "$.total"));
    }
}

/* ---- what is missing ---- */

static void test_a_field_that_nobody_can_guess_is_asked_for(void **state)
{
    (void)state;
    static const struct {
        const char *json, *missing;
    } of[] = {
        {"{\"user_id\":\"u\",\"total\":1,\"items\":[{\"product_id\":\"p\",\"quantity\":1,"
         "\"price\":1}]}",
         "$.id"},
        {"{\"id\":\"o\",\"total\":1,\"items\":[{\"product_id\":\"p\",\"quantity\":1,\"price\":1}]}",
         "$.user_id"},
        {"{\"id\":\"o\",\"user_id\":\"u\",\"total\":1}", "$.items"},
        {"{\"id\":\"o\",\"user_id\":\"u\",\"total\":1,\"items\":[]}", "$.items"},
        {"{\"id\":\"o\",\"user_id\":\"u\",\"items\":[{\"product_id\":\"p\",\"quantity\":1,"
         "\"price\":1}]}",
         "$.total"},
        {"{\"id\":\"o\",\"user_id\":\"u\",\"total\":1,\"items\":[{\"quantity\":1,\"price\":1}]}",
         "$.items[0].product_id"},
        {"{\"id\":\"o\",\"user_id\":\"u\",\"total\":1,\"items\":[{\"product_id\":\"p\","
         "\"quantity\":0,\"price\":1}]}",
         "$.items[0].quantity"},
    };
    order o;
    for (int64_t version = 1; version <= 2; version++)
        for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
            assert_int_equal(read_back(version, of[i].json, &o), HARK_EUPCAST);
            if (!strstr(ei.text, of[i].missing))
                fail_msg("expected a text about %s: %s", of[i].missing, ei.text);
        }
}

static void test_status_and_time_are_filled_in_where_old_shops_left_them_out(void **state)
{
    (void)state;
    order o;
    for (int64_t version = 1; version <= 2; version++) {
        must_read(version,
                  "{\"id\":\"o\",\"user_id\":\"u\",\"total\":5,"
                  "\"items\":[{\"product_id\":\"p\",\"quantity\":1,\"price\":5}]}",
                  &o);
        assert_string_equal(o.status, "created");
        assert_int_equal(o.created_at, INT64_C(1714979289) * 1000000000); /* the event's */
        assert_int_equal(o.total, version == 1 ? 500 : 5);
        hark_json_free(order_table(), &o);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, fresh_bus, close_bus)
        TEST(test_each_stored_sample_is_read_as_version_3),
        TEST(test_every_number_with_two_places_becomes_exactly_its_cents),
        TEST(test_what_arithmetic_has_left_is_rounded_to_the_nearest_cent),
        TEST(test_money_that_cannot_be_is_refused_and_the_text_says_where),
        TEST(test_a_field_that_nobody_can_guess_is_asked_for),
        TEST(test_status_and_time_are_filled_in_where_old_shops_left_them_out),
    };
    if (argc != 2) {
        fprintf(stderr, "usage: %s FOLDER, that of the samples\n", argv[0]);
        return 2;
    }
    samples = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
