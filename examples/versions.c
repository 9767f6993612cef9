/* versions: an event that changed twice, and a program that reads all three. Older programs have
 * left their events; an upcaster fails, is mended, and what it failed on is redriven; a part of the
 * program still reads version 2. docs/how-to/versions.md goes through it.
 * Usage: versions [STORE], by default sqlite:versions.db; postgresql: and redis: do as well, but not
 * memory:, since it is opened more than once */
#include "order_versions.h"

#include <hark/hark.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static const char *store;
static hark_bus *bus;
static hark_errinfo ei; /* of the main thread's last call that failed */

static void must(hark_err err)
{
    if (err)
        exit((fprintf(stderr, "versions: %s\n", ei.err == err ? ei.text : hark_err_text(err)), 1));
}

static uint64_t old_program(int64_t version, const char *customer, const char *json)
{
    hark_receipt at;
    must(hark_open(store, NULL, &bus, &ei)); /* it knows of no other version */
    must(hark_publish_ei(bus,
                         HARK_OPTS(hark_event_spec, .type = "order:created", .subject = customer,
                                   .dataversion = version, .json = json),
                         &at, &ei));
    hark_bus_unref(bus);
    return at.sequence;
}

static uint64_t new_order(const order_3 *order)
{
    hark_receipt at;
    must(hark_publish_json(bus,
                           HARK_OPTS(hark_event_spec, .type = "order:created",
                                     .subject = order->customer, .dataversion = 3),
                           &order_3_json, order, &at, &ei));
    return at.sequence;
}

static void tell(const char *who, const hark_event *e)
{
    size_t len;
    printf("%s: version %" PRId64 " %s\n", who, hark_event_dataversion(e),
           (const char *)hark_event_data(e, &len));
}

static hark_verdict read_order(hark_delivery *d, void *ud)
{
    tell(ud, hark_delivery_event(d));
    return HARK_ACK;
}

/* The first try at the step from 1 to 2, by somebody who thinks that there are only whole cents. */
static hark_err whole_cents(const hark_event *event, hark_upcast *out, void *ud)
{
    order_1 old = {.total = 0};
    hark_err err = hark_event_bind(event, &order_1_json, &old, NULL);
    if (!err && old.total * 100 != (double)(int64_t)(old.total * 100))
        return hark_upcast_fail(out, HARK_ESCHEMA, "a total of %g is no whole cents", old.total);
    return err ? err : to_cents(event, out, ud);
}

static hark_sub *bill(void)
{
    static char name[] = "billing";
    hark_sub *sub;
    must(hark_subscribe(bus, "order:created", read_order, name,
                        HARK_OPTS(hark_sub_opts, .consumer = "billing", .start = HARK_START_FIRST),
                        &sub, &ei));
    return sub;
}

/* Returns the id of bob's dead letter. */
static uint64_t first_try(uint64_t ann, uint64_t bob)
{
    hark_settlement how;
    must(hark_open(store, NULL, &bus, &ei));
    must(hark_upcaster_add(
        bus,
        HARK_OPTS(hark_upcaster, .type = "order:created", .from = 1, .to = 2, .fn = whole_cents),
        &ei));
    must(hark_upcaster_add(
        bus,
        HARK_OPTS(hark_upcaster, .type = "order:created", .from = 2, .to = 3, .fn = with_currency),
        &ei));
    hark_sub *billing = bill();
    must(hark_settled(bus, "billing", ann, 30000, NULL, &ei));
    if (hark_settled(bus, "billing", bob, 30000, &how, &ei) != HARK_EDEAD)
        exit((fprintf(stderr, "versions: bob's order is no dead letter\n"), 1));
    hark_sub_unref(billing);
    return how.dead_letter;
}

static bool print_letter(const hark_dead_letter *l, void *ud)
{
    (void)ud;
    return printf("dead letter: %s, %s\n", l->reason, l->error ? l->error : "") > 0;
}

static void mended(uint64_t letter, uint64_t bob, uint64_t cleo)
{
    must(hark_open(store, NULL, &bus, &ei));
    must(order_versions_add(bus, &ei));
    must(hark_versions_check(bus, NULL, NULL, &ei)); /* what it cannot read, it does not start on */
    must(hark_redrive(bus, letter, &ei));
    hark_sub *billing = bill();
    must(hark_settled(bus, "billing", bob, 30000, NULL, &ei));
    must(hark_settled(bus, "billing", cleo, 30000, NULL, &ei));
    hark_sub_unref(billing);
}

/* A part of the program that has not learned of currencies yet. */
static void report(uint64_t dora, uint64_t cleo)
{
    static char name[] = "report";
    hark_sub *sub;
    hark_why_info why = {.size = sizeof why};
    const hark_sub_opts *opts =
        HARK_OPTS(hark_sub_opts, .consumer = "report", .start = HARK_START_FIRST, .dataversion = 2,
                  .newer = HARK_NEWER_WAIT);
    must(hark_subscribe(bus, "order:created", read_order, name, opts, &sub, &ei));
    must(hark_settled(bus, "report", cleo, 30000, NULL, &ei));
    if (hark_settled(bus, "report", dora, 1000, NULL, &ei) == HARK_ETIMEDOUT)
        printf("%s\n", ei.text);
    must(hark_why(bus, "report", &why, &ei));
    printf("%s\n", why.text);
    hark_sub_close(sub);
    must(hark_sub_join(sub, 10000));
    hark_sub_unref(sub);
    opts =
        HARK_OPTS(hark_sub_opts, .consumer = "report", .newer = HARK_NEWER_WAIT); /* now it has */
    must(hark_subscribe(bus, "order:created", read_order, name, opts, &sub, &ei));
    must(hark_settled(bus, "report", dora, 30000, NULL, &ei));
    hark_sub_unref(sub);
}

static void print_stored(void)
{
    hark_page *page;
    const hark_read_opts *what = HARK_OPTS(hark_read_opts, .type = "order:created", .descending = 1,
                                           .limit = 4, .dataversion = HARK_VERSION_STORED);
    must(hark_read(bus, what, &page, &ei));
    for (size_t i = 0; i < hark_page_count(page); i++)
        tell("stored", hark_page_event(page, i));
    hark_page_free(page);
}

int main(int argc, char **argv)
{
    store = argc > 1 ? argv[1] : "sqlite:versions.db";
    uint64_t ann = old_program(1, "ann", "{\"customer\":\"ann\",\"total\":12.5}");
    uint64_t bob = old_program(1, "bob", "{\"customer\":\"bob\",\"total\":9.999}");
    uint64_t letter = first_try(ann, bob);
    must(hark_dead_letter_get(bus, letter, print_letter, NULL, &ei));
    uint64_t dora = new_order(&(order_3){.customer = "dora", .total = 700, .currency = "SEK"});
    hark_bus_unref(bus);
    uint64_t cleo = old_program(2, "cleo", "{\"customer\":\"cleo\",\"total\":990}"); /* still */
    mended(letter, bob, cleo);
    report(dora, cleo);
    print_stored();
    must(hark_drain(bus, 5000, &ei));
    hark_bus_unref(bus);
}
