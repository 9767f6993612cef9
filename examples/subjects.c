/* subjects: an order is the events of one subject. Whoever adds one says which version of the order it
 * was decided on: of two racing writers one wins, the other one looks again. docs/how-to/subjects.md
 * goes through it. Usage: subjects [STORE], by default sqlite:subjects.db; postgresql: and redis: do as
 * well */
#include <hark/hark.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static hark_bus *bus;
static char number[40]; /* of the order: the subject of its events */

static void must(hark_err err, const hark_errinfo *ei)
{
    if (err)
        exit((fprintf(stderr, "subjects: %s\n", ei->text), 1));
}

/* What its events say of it. */
typedef struct order {
    int64_t version, items;
    const char *state;
} order;

static void apply(order *o, const hark_event *e)
{
    const char *type = hark_event_type(e);
    o->version = hark_event_subject_version(e);
    if (strcmp(type, "order:item") == 0)
        o->items++;
    else
        o->state = strcmp(type, "order:paid") == 0        ? "paid"
                   : strcmp(type, "order:cancelled") == 0 ? "cancelled"
                                                          : "open";
}

static order read_order(void)
{
    hark_errinfo ei;
    hark_page *page;
    order o = {.state = "not there"};
    hark_read_opts what = {.size = sizeof what, .subject = number};
    do {
        must(hark_read(bus, &what, &page, &ei), &ei);
        for (size_t i = 0; i < hark_page_count(page); i++)
            apply(&o, hark_page_event(page, i));
        what.after = hark_page_next(page);
        hark_page_free(page);
    } while (what.after);
    return o;
}

static hark_err add(const char *type, int64_t version, hark_receipt *ret, hark_errinfo *ei)
{
    const hark_event_spec *spec =
        HARK_OPTS(hark_event_spec, .type = type, .subject = number, .expected_version = version);
    return hark_publish_ei(bus, spec, ret, ei);
}

/* Takes the first number that no order has. */
static int64_t place(void)
{
    hark_errinfo ei;
    hark_receipt at;
    hark_err err = HARK_EVERSION;
    for (int n = 1; err == HARK_EVERSION; n++) {
        snprintf(number, sizeof number, "order-%d", n);
        err = add("order:placed", HARK_EXPECT_NONE, &at, &ei);
    }
    must(err, &ei);
    return at.subject_version;
}

typedef struct writer {
    const char *type; /* what it wants to add */
    order seen;       /* the order as it knows it */
} writer;

static void *finish(void *ud) /* on a thread of its own */
{
    writer *w = ud;
    hark_errinfo ei;
    hark_receipt at;
    while (strcmp(w->seen.state, "open") == 0) {
        hark_err err = add(w->type, w->seen.version, &at, &ei);
        if (!err)
            return printf("%s is its event %" PRId64 "\n", w->type, at.subject_version), NULL;
        if (err != HARK_EVERSION)
            must(err, &ei);
        printf("%s is refused: %s\n", w->type, ei.text);
        w->seen = read_order();
    }
    printf("%s is too late: the order is %s\n", w->type, w->seen.state);
    return NULL;
}

static void race(void)
{
    pthread_t threads[2];
    writer writers[2] = {{.type = "order:paid"}, {.type = "order:cancelled"}};
    writers[0].seen = writers[1].seen = read_order();
    for (int i = 0; i < 2; i++)
        if (pthread_create(&threads[i], NULL, finish, &writers[i]))
            exit((fprintf(stderr, "subjects: no thread\n"), 1));
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
}

int main(int argc, char **argv)
{
    hark_errinfo ei;
    hark_receipt at;
    must(hark_open(argc > 1 ? argv[1] : "sqlite:subjects.db", NULL, &bus, &ei), &ei);
    int64_t version = place();
    must(add("order:item", version, &at, &ei), &ei);
    must(add("order:item", at.subject_version, &at, &ei), &ei);
    order o = read_order();
    printf("%s has %" PRId64 " items and is %s, version %" PRId64 "\n", number, o.items, o.state,
           o.version);
    race();
    must(hark_drain(bus, 5000, &ei), &ei);
    hark_bus_unref(bus);
}
