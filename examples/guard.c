/* guard: one order crashes the program. It runs supervised, so it is started again; when that order
 * has crashed it three times it is a dead letter, and no other order suffers. docs/how-to/delivery.md
 * tells more. Usage: guard [STORE], by default sqlite:guard.db; PostgreSQL and Redis do not know which
 * event crashed a process, so there it is a dead letter after max_interruptions, 20 */
#include <hark/hark.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static hark_errinfo ei;

static void must(hark_err err)
{
    if (err)
        exit((fprintf(stderr, "guard: %s\n", ei.err == err ? ei.text : hark_err_text(err)), 1));
}

static hark_verdict pack(hark_delivery *d, void *ud)
{
    const hark_event *order = hark_delivery_event(d);
    if (!hark_event_subject(order))
        abort(); /* a bug, as good as a NULL pointer */
    printf("%s: %s\n", (const char *)ud, hark_event_subject(order));
    return HARK_ACK;
}

static bool print_letter(const hark_dead_letter *l, void *ud)
{
    (void)ud;
    printf("dead letter: %s, %s, %" PRId64 " crashes, %" PRId64 " attempts\n", l->reason,
           l->error ? l->error : "no reason given", l->crashes, l->attempts);
    return true;
}

static int shop(void *store) /* the program: in a child process, and after a crash in another one */
{
    hark_bus *bus;
    hark_sub *alarm;
    hark_delivery *d;
    setvbuf(stdout, NULL, _IOLBF, 0); /* a crash takes along what is not written yet */
    must(hark_open(store, NULL, &bus, &ei));
    const hark_sub_opts *watch =
        HARK_OPTS(hark_sub_opts, .consumer = "alarm", .start = HARK_START_FIRST);
    must(hark_subscribe(bus, "dead_letter", NULL, NULL, watch, &alarm, &ei));
    const hark_sub_opts *durable =
        HARK_OPTS(hark_sub_opts, .consumer = "packing", .start = HARK_START_FIRST);
    must(hark_subscribe(bus, "order:*", pack, "packed", durable, NULL, &ei));
    if (hark_supervise_restarts() == 0) {
        must(hark_publish(bus, HARK_OPTS(hark_event_spec, .type = "order:a", .subject = "ann"),
                          NULL));
        must(hark_publish(bus, HARK_OPTS(hark_event_spec, .type = "order:b"), NULL));
    }
    must(hark_next(alarm, 30000, &d));
    must(hark_dead_letters(bus, NULL, print_letter, NULL, &ei));
    must(hark_settle(&d, NULL));
    hark_sub_unref(alarm);
    printf("restarts: %" PRIu64 "\n", hark_supervise_restarts());
    hark_bus_unref(bus);
    return 0;
}

int main(int argc, char **argv)
{
    static char store[] = "sqlite:guard.db";
    const hark_supervise_opts *pace = HARK_OPTS(hark_supervise_opts, .max_restarts = 100);
    int status;
    must(hark_supervise(pace, shop, argc > 1 ? argv[1] : store, &status, &ei));
    return status;
}
