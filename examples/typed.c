/* typed: an event as a C struct: its field table checks it when it is published, reads it in the
 * handler and describes it to others. docs/how-to/typed-events.md goes through it.
 * Usage: typed [STORE], by default sqlite:typed.db; postgresql: and redis: do as well */
#include <hark/hark.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct item {
    char sku[20];
    int quantity;
    int64_t price; /* cents */
} item;

typedef struct invoice {
    char *customer;
    int64_t due; /* ns since 1970 */
    item *items;
    size_t n_items;
    unsigned char *seal; /* a signature, as it comes from elsewhere */
    size_t seal_len;
} invoice;

HARK_JSON_TABLE_STRICT(item_json, item, HARK_JSON_CHARS(item, sku, .required = true),
                       HARK_JSON_INT(item, quantity, .required = true, HARK_JSON_RANGE(1, 1000)),
                       HARK_JSON_DECIMAL(item, price, 2, .required = true,
                                         HARK_JSON_RANGE(0, 10000000)));
HARK_JSON_TABLE(invoice_json, invoice,
                HARK_JSON_STR(invoice, customer, .required = true, .min_len = 1, .doc = "who pays"),
                HARK_JSON_TIME(invoice, due, .required = true),
                HARK_JSON_ARRAY(invoice, items, n_items, &item_json, .required = true, .min_len = 1,
                                .max_len = 100),
                HARK_JSON_BYTES(invoice, seal, seal_len, .max_len = 64));

static hark_bus *bus;
static hark_errinfo ei; /* of the main thread's last call that failed */

static void must(hark_err err)
{
    if (err)
        exit((fprintf(stderr, "typed: %s\n", ei.err == err ? ei.text : hark_err_text(err)), 1));
}

static hark_verdict print_invoice(hark_delivery *d, void *ud)
{
    (void)ud;
    int64_t total = 0;
    invoice in = {.customer = NULL};
    if (hark_delivery_bind(d, &invoice_json, &in))
        return HARK_REJECT; /* what was wrong with it is kept with the dead letter */
    for (size_t i = 0; i < in.n_items; i++)
        total += in.items[i].quantity * in.items[i].price;
    printf("%s pays %" PRId64 ".%02d, sealed with %zu bytes\n", in.customer, total / 100,
           (int)(total % 100), in.seal_len);
    hark_json_free(&invoice_json, &in);
    return HARK_ACK;
}

static hark_err send_json(const char *json, uint64_t *ret_sequence)
{
    hark_receipt at;
    const hark_event_spec *spec = HARK_OPTS(hark_event_spec, .type = "invoice:sent", .json = json);
    hark_err err = hark_publish_ei(bus, spec, &at, &ei);
    if (!err)
        *ret_sequence = at.sequence;
    return err;
}

static uint64_t send_invoice(void)
{
    hark_receipt at;
    char ann[] = "ann";
    unsigned char seal[] = {0xca, 0xfe, 0x00};
    item items[] = {{"tea", 2, 450}, {"cup", 1, 1299}};
    const invoice out = {.customer = ann,
                         .due = INT64_C(1798761600) * 1000000000,
                         .items = items,
                         .n_items = 2,
                         .seal = seal,
                         .seal_len = sizeof seal};
    const hark_event_spec *spec =
        HARK_OPTS(hark_event_spec, .type = "invoice:sent", .subject = out.customer);
    must(hark_publish_json(bus, spec, &invoice_json, &out, &at, &ei));
    return at.sequence;
}

static void refused(const char *json)
{
    uint64_t sequence;
    if (send_json(json, &sequence) != HARK_ESCHEMA)
        exit((fprintf(stderr, "typed: this is no invoice, but it was taken: %s\n", json), 1));
    printf("refused: %s\n", ei.text);
}

static bool print_letter(const hark_dead_letter *l, void *ud)
{
    (void)ud;
    return printf("dead letter: %s, %s\n", l->reason, l->error ? l->error : "") > 0;
}

/* An event of times when nobody looked. */
static void send_unchecked(void)
{
    uint64_t at;
    hark_settlement how;
    must(send_json("{\"customer\":\"eve\",\"due\":\"tomorrow\",\"items\":null}", &at));
    if (hark_settled(bus, "printer", at, 30000, &how, &ei) != HARK_EDEAD)
        exit((fprintf(stderr, "typed: eve's invoice is no dead letter\n"), 1));
    must(hark_dead_letter_get(bus, how.dead_letter, print_letter, NULL, &ei));
}

static void send_checked(void)
{
    uint64_t at;
    must(hark_type_add(bus, HARK_OPTS(hark_type, .type = "invoice:sent", .table = &invoice_json),
                       &ei));
    refused("{\"customer\":\"eve\",\"due\":\"2027-01-01T00:00:00Z\",\"items\":["
            "{\"sku\":\"tea\",\"quantity\":0,\"price\":4.505,\"colour\":\"green\"}]}");
    must(send_json("{\"customer\":\"bob\",\"due\":\"2027-01-01T00:00:00Z\",\"items\":["
                   "{\"sku\":\"tea\",\"quantity\":1,\"price\":4.5}],\"language\":\"sv\"}",
                   &at));
    must(hark_settled(bus, "printer", at, 30000, NULL, &ei));
    must(hark_settled(bus, "printer", send_invoice(), 30000, NULL, &ei));
}

static void print_schema(void)
{
    char *schema;
    must(hark_json_schema(&invoice_json, &schema, &ei));
    printf("%s\n", schema);
    free(schema);
}

int main(int argc, char **argv)
{
    hark_sub *printer;
    must(hark_open(argc > 1 ? argv[1] : "sqlite:typed.db", NULL, &bus, &ei));
    must(hark_subscribe(bus, "invoice:sent", print_invoice, NULL,
                        HARK_OPTS(hark_sub_opts, .consumer = "printer"), &printer, &ei));
    send_unchecked();
    send_checked();
    print_schema();
    hark_sub_unref(printer);
    must(hark_drain(bus, 5000, &ei));
    hark_bus_unref(bus);
}
