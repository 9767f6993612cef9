/* Typed events: structs published as JSON and read back, and what is published of a registered type
 * held against its table. */
#include "dialect.h"
#include "grown.h"

#include <hark/tx.h>

typedef struct item {
    char *sku;
    int64_t quantity;
} item;

typedef struct order {
    char *user;
    item *items;
    size_t n_items;
} order;

HARK_JSON_TABLE(item_json, item, HARK_JSON_STR(item, sku, .required = true),
                HARK_JSON_INT(item, quantity, HARK_JSON_RANGE(1, 1000)));
HARK_JSON_TABLE(order_json, order, HARK_JSON_STR(order, user, .as = "userId", .required = true),
                HARK_JSON_ARRAY(order, items, n_items, &item_json, .min_len = 1));

#define TYPE    "order:created"
#define DATA(s) .data = s, .data_len = strlen(s)

static void add_type(fixture *f, int64_t version)
{
    assert_ok(f, hark_type_add(
                     f->bus,
                     HARK_OPTS(hark_type, .type = TYPE, .version = version, .table = &order_json),
                     &f->ei));
}

static hark_err publish_data(fixture *f, int64_t version, const char *media, const char *data)
{
    return hark_publish_ei(f->bus,
                           HARK_OPTS(hark_event_spec, .type = TYPE, .dataversion = version,
                                     .datacontenttype = media, DATA(data)),
                           NULL, &f->ei);
}

#define GOOD "{\"userId\":\"u1\",\"items\":[{\"sku\":\"a\",\"quantity\":2}]}"
#define BAD  "{\"userId\":\"u1\",\"items\":[{\"sku\":\"a\",\"quantity\":0}]}"

static char user_1[] = "u1", sku_a[] = "a";
static item the_item;

static order an_order(int64_t quantity)
{
    the_item = (item){.sku = sku_a, .quantity = quantity};
    return (order){.user = user_1, .items = &the_item, .n_items = 1};
}

static void test_a_registered_type_is_checked_when_it_is_published(void **state)
{
    fixture *f = *state;
    add_type(f, 3);
    assert_err(f, HARK_ESCHEMA, publish_data(f, 3, NULL, BAD));
    assert_string_equal(f->ei.text,
                        "order:created version 3: $.items[0].quantity is 0, expected an "
                        "integer from 1 to 1000");
    assert_int_equal(f->ei.err, HARK_ESCHEMA);
    assert_ok(f, publish_data(f, 3, NULL, GOOD));
    assert_ok(f, publish_data(f, 3, "application/vnd.order+json", GOOD));
    assert_err(f, HARK_ESCHEMA, publish_data(f, 3, NULL, "{\"userId\":\"u1\""));
    assert_says(f, "order:created version 3: $");
    assert_err(f, HARK_ESCHEMA, publish_data(f, 3, NULL, ""));
    assert_err(f, HARK_ESCHEMA, publish_data(f, 3, "text/plain", GOOD));
    assert_says(f, "'text/plain', not JSON");
    assert_err(f, HARK_ESCHEMA, publish_data(f, 3, NULL, "{\"items\":[{\"quantity\":0}]}"));
    assert_says(f, "; $");
    assert_u64(publish(f, "other"), 3); /* nothing of what was refused is in the log */
}

static void test_a_version_that_is_not_registered_is_refused(void **state)
{
    fixture *f = *state;
    add_type(f, 3);
    add_type(f, 1);
    assert_err(f, HARK_ESCHEMA, publish_data(f, 2, NULL, GOOD));
    assert_says(f, "order:created version 2 is not registered, while of this type 1, 3 are");
    assert_ok(f, publish_data(f, 0, NULL, GOOD));
    assert_err(
        f, HARK_EEXIST,
        hark_type_add(f->bus, HARK_OPTS(hark_type, .type = TYPE, .table = &order_json), &f->ei));
}

static void note_published(hark_err err, const hark_receipt *receipt, void *ud)
{
    (void)err, (void)receipt;
    atomic_fetch_add((atomic_int *)ud, 1);
}

static hark_err say_bad(hark_tx *tx, void *ud)
{
    (void)ud;
    return hark_tx_publish(tx, HARK_OPTS(hark_event_spec, .type = TYPE, .json = BAD), NULL);
}

static hark_verdict answer_badly(hark_delivery *d, void *ud)
{
    atomic_store(
        (atomic_int *)ud,
        hark_delivery_publish(d, HARK_OPTS(hark_event_spec, .type = TYPE, .json = BAD), NULL));
    return HARK_ACK;
}

static void test_every_way_of_publishing_is_checked(void **state)
{
    fixture *f = *state;
    hark_sub *s;
    atomic_int called = 0, answer = -1;
    const hark_event_spec *bad = HARK_OPTS(hark_event_spec, .type = TYPE, .json = BAD),
                          *good = HARK_OPTS(hark_event_spec, .type = TYPE, .json = GOOD);
    const hark_event_spec *both[] = {good, bad};
    add_type(f, 1);
    assert_int_equal(hark_publish_async(f->bus, bad, note_published, &called), HARK_ESCHEMA);
    assert_int_equal(atomic_load(&called), 0);
    assert_err(f, HARK_ESCHEMA, hark_publish_batch(f->bus, both, 2, NULL, &f->ei));
    assert_says(f, "event 1 of the batch: order:created version 1: $.items[0].quantity");
    assert_err(f, HARK_ESCHEMA, hark_schedule(f->bus, bad, hark_after(1), NULL, &f->ei));
    assert_err(f, HARK_ESCHEMA, hark_publish_with_retry(f->bus, bad, NULL, NULL, &f->ei));
    if (dialect_of(f)) /* it has transactions */
        assert_err(f, HARK_ESCHEMA,
                   hark_transact(f->bus, say_bad, NULL,
                                 HARK_OPTS(hark_tx_opts, .deadline_ms = 10000), NULL, &f->ei));
    assert_ok(f, hark_subscribe(f->bus, "other", answer_badly, &answer, NULL, &s, &f->ei));
    assert_u64(publish(f, "other"), 1);
    WAIT_UNTIL(atomic_load(&answer) != -1);
    assert_int_equal(atomic_load(&answer), HARK_ESCHEMA);
    end_sub(s);
    assert_u64(publish(f, "other"), 2); /* nothing of what was refused is in the log */
}

static void test_what_was_scheduled_before_its_type_was_registered_is_published(void **state)
{
    fixture *f = *state;
    view *v = view_new();
    hark_sub *s;
    assert_ok(f, hark_subscribe(f->bus, TYPE, look_at, v,
                                HARK_OPTS(hark_sub_opts, .dataversion = HARK_VERSION_STORED), &s,
                                &f->ei));
    assert_ok(f, hark_schedule(f->bus, HARK_OPTS(hark_event_spec, .type = TYPE, DATA("old")),
                               hark_after(50), NULL, &f->ei));
    add_type(f, 2);
    assert_seen(v, 0, "- 1 v1 old");
    end_sub(s);
    view_free(v);
}

static void test_a_table_that_does_not_fit_is_refused_when_it_is_registered(void **state)
{
    fixture *f = *state;
    hark_json_table wrong = order_json;
    wrong.struct_size = 8;
    assert_err(f, HARK_EINVAL,
               hark_type_add(f->bus, HARK_OPTS(hark_type, .type = TYPE, .table = &wrong), &f->ei));
    assert_says(f, "order_json");
    assert_err(f, HARK_EINVAL, hark_type_add(f->bus, HARK_OPTS(hark_type, .type = TYPE), &f->ei));
    assert_says(f, "without a table");
    assert_err(
        f, HARK_EINVAL,
        hark_type_add(f->bus, HARK_OPTS(hark_type, .type = "o:*", .table = &order_json), &f->ei));
    assert_ok(f, publish_data(f, 1, NULL, BAD));
}

static void test_a_struct_is_published_and_read_back(void **state)
{
    fixture *f = *state;
    hark_page *page;
    hark_receipt r;
    order o = an_order(2), back = {0};
    assert_ok(f, hark_publish_json(f->bus, HARK_OPTS(hark_event_spec, .type = TYPE, .subject = "7"),
                                   &order_json, &o, &r, &f->ei));
    assert_ok(f, hark_read(f->bus, NULL, &page, &f->ei));
    const hark_event *e = hark_page_event(page, 0);
    assert_string_equal(hark_event_data(e, NULL), GOOD);
    assert_string_equal(hark_event_datacontenttype(e), "application/json");
    assert_string_equal(hark_event_subject(e), "7");
    assert_u64(hark_event_sequence(e), r.sequence);
    assert_ok(f, hark_event_bind(e, &order_json, &back, &f->ei));
    assert_string_equal(back.user, "u1");
    assert_u64(back.n_items, 1);
    assert_u64(back.items[0].quantity, 2);
    hark_json_free(&order_json, &back);
    hark_page_free(page);
}

static void test_a_struct_that_breaks_its_table_is_not_published(void **state)
{
    fixture *f = *state;
    order o = an_order(0), good = an_order(1);
    o.n_items = 0;
    o.user = NULL;
    assert_err(f, HARK_ESCHEMA,
               hark_publish_json(f->bus, HARK_OPTS(hark_event_spec, .type = TYPE), &order_json, &o,
                                 NULL, &f->ei));
    assert_says(f, "order:created: ");
    assert_says(f, "$.userId");
    assert_err(f, HARK_EINVAL,
               hark_publish_json(f->bus, HARK_OPTS(hark_event_spec, .type = TYPE, .json = "{}"),
                                 &order_json, &good, NULL, &f->ei));
    assert_says(f, "the spec has data of its own");
    assert_err(
        f, HARK_EINVAL,
        hark_publish_json(f->bus,
                          HARK_OPTS(hark_event_spec, .type = TYPE, .datacontenttype = "text/plain"),
                          &order_json, &good, NULL, &f->ei));
}

/* ---- in a handler ------------------------------------------------------------------------------ */

typedef struct shop {
    atomic_int bound, refused;
} shop;

static hark_verdict serve(hark_delivery *d, void *ud)
{
    shop *s = ud;
    order o = {0};
    if (hark_delivery_bind(d, &order_json, &o)) {
        atomic_fetch_add(&s->refused, 1);
        return HARK_REJECT;
    }
    hark_receipt r = {0};
    hark_errinfo ei = {0};
    MUST(hark_delivery_publish_json(d, HARK_OPTS(hark_event_spec, .type = "order:served"),
                                    &order_json, &o, &r, &ei) == HARK_OK);
    MUST(r.sequence > hark_delivery_sequence(d));
    o.items[0].quantity = 1001;
    MUST(hark_delivery_publish_json(d, HARK_OPTS(hark_event_spec, .type = "order:served"),
                                    &order_json, &o, NULL, &ei) == HARK_ESCHEMA);
    MUST(strstr(ei.text, "order:served: ") != NULL);
    hark_json_free(&order_json, &o);
    atomic_fetch_add(&s->bound, 1);
    return HARK_ACK;
}

static bool tells_faults(const hark_dead_letter *l, void *ud)
{
    assert_string_equal(l->reason, "rejected");
    assert_string_equal(l->error, "order:created version 1: $.items[0].quantity is 0, expected an "
                                  "integer from 1 to 1000");
    ++*(int *)ud;
    return true;
}

static int letters(fixture *f)
{
    int n = 0;
    assert_ok(f, hark_dead_letters(f->bus, NULL, tells_faults, &n, &f->ei));
    return n;
}

static void test_a_handler_binds_and_its_dead_letter_tells_the_faults(void **state)
{
    fixture *f = *state;
    shop here = {0};
    hark_sub *s, *served;
    hark_delivery *d;
    assert_ok(f, hark_subscribe(f->bus, "order:served", NULL, NULL, NULL, &served, &f->ei));
    assert_ok(f, hark_subscribe(f->bus, TYPE, serve, &here, CONSUMER(.workers = 1), &s, &f->ei));
    assert_ok(f, publish_data(f, 1, NULL, BAD));
    assert_ok(f, publish_data(f, 1, NULL, GOOD));
    WAIT_UNTIL(atomic_load(&here.bound) == 1 && letters(f) == 1);
    assert_int_equal(atomic_load(&here.refused), 1);
    assert_ok(f, hark_next(served, HUNG_MS, &d));
    const hark_event *e = hark_delivery_event(d);
    assert_string_equal(hark_event_data(e, NULL), GOOD);
    assert_non_null(hark_event_causationid(e));
    assert_ok(f, hark_settle(&d, NULL));
    end_sub(s);
    end_sub(served);
}

static void test_binding_what_is_no_json_says_so(void **state)
{
    fixture *f = *state;
    hark_page *page;
    order o = {0};
    assert_ok(f, publish_data(f, 1, "text/plain", GOOD));
    assert_ok(f, publish_data(f, 1, NULL, "[1,"));
    assert_ok(f, hark_read(f->bus, NULL, &page, &f->ei));
    assert_err(f, HARK_EMEDIA, hark_event_bind(hark_page_event(page, 0), &order_json, &o, &f->ei));
    assert_says(f, "text/plain");
    assert_err(f, HARK_ESYNTAX, hark_event_bind(hark_page_event(page, 1), &order_json, &o, &f->ei));
    assert_err(f, HARK_EINVAL, hark_event_bind(NULL, &order_json, &o, &f->ei));
    assert_null(o.user);
    hark_page_free(page);
}

/* ---- from version to version ------------------------------------------------------------------- */

typedef struct old_order {
    char *user;
    char *sku;
} old_order;
HARK_JSON_TABLE(old_json, old_order, HARK_JSON_STR(old_order, user, .as = "userId"),
                HARK_JSON_STR(old_order, sku));

static hark_err modernise(const hark_event *event, hark_upcast *out, void *ud)
{
    old_order old = {0};
    hark_errinfo ei = {0};
    (void)ud;
    hark_err err = hark_event_bind(event, &old_json, &old, &ei);
    if (err)
        return hark_upcast_fail(out, err, "%s", ei.text);
    item one = {.sku = old.sku, .quantity = 1};
    order o = {.user = old.user, .items = &one, .n_items = 1};
    err = hark_upcast_json(out, &order_json, &o);
    hark_json_free(&old_json, &old);
    return err;
}

static void test_an_upcaster_goes_from_table_to_table(void **state)
{
    fixture *f = *state;
    hark_page *page;
    order o = {0};
    assert_ok(f, publish_data(f, 1, NULL, "{\"userId\":\"u1\",\"sku\":\"a\"}"));
    assert_ok(f, publish_data(f, 1, NULL, "{\"userId\":\"u1\"}"));
    add_type(f, 2);
    assert_ok(f, hark_upcaster_add(
                     f->bus,
                     HARK_OPTS(hark_upcaster, .type = TYPE, .from = 1, .to = 2, .fn = modernise),
                     &f->ei));
    assert_ok(f, hark_read(f->bus, HARK_OPTS(hark_read_opts, .limit = 1), &page, &f->ei));
    assert_ok(f, hark_event_bind(hark_page_event(page, 0), &order_json, &o, &f->ei));
    assert_string_equal(o.items[0].sku, "a");
    hark_json_free(&order_json, &o);
    hark_page_free(page);
    assert_err(f, HARK_EUPCAST, hark_read(f->bus, NULL, &page, &f->ei));
    assert_says(f, "sequence 2: order:created version 1: the upcaster from 1 to 2 failed: ");
    assert_says(f, "$.items[0].sku");
}

static const struct CMUnitTest tests[] = {
    TEST(test_a_registered_type_is_checked_when_it_is_published),
    TEST(test_a_version_that_is_not_registered_is_refused),
    TEST(test_every_way_of_publishing_is_checked),
    TEST(test_what_was_scheduled_before_its_type_was_registered_is_published),
    TEST(test_a_table_that_does_not_fit_is_refused_when_it_is_registered),
    TEST(test_a_struct_is_published_and_read_back),
    TEST(test_a_struct_that_breaks_its_table_is_not_published),
    TEST(test_a_handler_binds_and_its_dead_letter_tells_the_faults),
    TEST(test_binding_what_is_no_json_says_so),
    TEST(test_an_upcaster_goes_from_table_to_table),
};

CONFORMANCE_MAIN("typed")
