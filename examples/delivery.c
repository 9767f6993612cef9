/* delivery: a consumer that ships parcels, and what its operator does: dead letters, a parked key,
 * redrive, pause, replay, reset, schedules, figures, retention. docs/how-to/delivery.md goes through
 * it step by step. Usage: delivery [STORE], by default sqlite:delivery.db; postgresql: and redis: do
 * as well */
#include <hark/hark.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static hark_bus *bus;
static hark_errinfo ei; /* of the main thread's last call that failed */

static hark_verdict ship(hark_delivery *d, void *ud)
{
    const bool *to_islands = ud;
    size_t len;
    const hark_event *order = hark_delivery_event(d);
    const char *address = hark_event_data(order, &len), *customer = hark_event_subject(order);
    if (hark_delivery_replay_id(d))
        return HARK_ACK; /* history: that parcel is on its way */
    if (!address || (strstr(address, "island") && !*to_islands)) {
        hark_delivery_explain(d, "nobody ships to %s", address ? address : "nowhere");
        return HARK_REJECT; /* to try again is no use: a dead letter */
    }
    if (strstr(address, "farm") && hark_delivery_attempt(d) == 1) {
        hark_delivery_explain(d, "the carrier asks for 20 ms");
        hark_delivery_retry_after(d, 20); /* instead of the policy's pause */
        return HARK_RETRY;
    }
    const hark_event_spec *sent = HARK_OPTS(hark_event_spec, .type = "parcel:sent",
                                            .subject = customer, .data = address, .data_len = len);
    return hark_delivery_publish(d, sent, NULL) ? HARK_RETRY : HARK_ACK;
}

static void must(hark_err err)
{
    if (err)
        exit((fprintf(stderr, "delivery: %s\n", ei.err == err ? ei.text : hark_err_text(err)), 1));
}

static hark_sub *open_shop(bool *to_islands)
{
    hark_sub *shipping;
    const hark_sub_opts *policy =
        HARK_OPTS(hark_sub_opts, .consumer = "shipping", .workers = 4,
                  .retry_delay_ms = 50,  /* random pauses: up to 50 ms, then up to 100, 200, ... */
                  .retry_max_ms = 60000, /* ... and never longer than a minute */
                  .max_attempts = 5,     /* after the fifth it is a dead letter, and */
                  .dead_policy = HARK_DEAD_PARK); /* that customer's other orders wait */
    must(hark_subscribe(bus, "order:*", ship, to_islands, policy, &shipping, &ei));
    return shipping;
}

static void close_shop(hark_sub *shipping)
{
    hark_sub_close(shipping);             /* starts nothing more */
    must(hark_sub_join(shipping, 10000)); /* what ran has returned, all is in the store */
    hark_sub_unref(shipping);
}

static void gave_up(const hark_event *order, hark_err err, void *ud)
{
    fprintf((FILE *)ud, "lost: %s: %s\n", hark_event_subject(order), hark_err_text(err));
}

static void place(const char *customer, const char *address)
{
    const hark_event_spec *order =
        HARK_OPTS(hark_event_spec, .type = "order:placed", .subject = customer, .data = address,
                  .data_len = strlen(address));
    const hark_retry_opts *patience =
        HARK_OPTS(hark_retry_opts, .deadline_ms = 10000, .gave_up = gave_up, .ud = stderr);
    must(hark_publish_with_retry(bus, order, patience, NULL, &ei));
}

static void await(hark_sub *sub, size_t n)
{
    for (hark_delivery *d; n > 0; n--) {
        must(hark_next(sub, 30000, &d));
        printf("%s: %s\n", hark_event_type(hark_delivery_event(d)),
               hark_event_subject(hark_delivery_event(d)));
        must(hark_settle(&d, NULL));
    }
}

static void tell_why(void)
{
    hark_why_info why = {.size = sizeof why};
    must(hark_why(bus, "shipping", &why, &ei));
    printf("%s\n", why.text); /* for people; why.code and the other fields are for programs */
}

static bool print_letter(const hark_dead_letter *l, void *ud)
{
    printf("dead letter: %s, %s\n", l->reason, l->error ? l->error : "no reason given");
    for (size_t i = 0; i < l->n_log; i++)
        printf("  attempt %" PRId64 ": %s\n", l->log[i].number, l->log[i].outcome);
    *(uint64_t *)ud = l->id; /* remember it: the bus may not be called from here */
    return true;             /* go on */
}

static void mend_dead_letters(void)
{
    uint64_t id = 0, n;
    const hark_dead_filter *ours = HARK_OPTS(hark_dead_filter, .consumer = "shipping");
    must(hark_dead_letters(bus, ours, print_letter, &id, &ei));  /* all of them */
    must(hark_dead_letter_get(bus, id, print_letter, &id, &ei)); /* one, with its attempts */
    must(hark_redrive(bus, id, &ei));                            /* that one */
    must(hark_redrive_all(bus, ours, 100, &n, &ei));             /* and the rest, 100 a second */
    printf("redriven: 1 and %" PRIu64 "\n", n);
}

static hark_verdict count(hark_delivery *d, void *ud)
{
    (void)d, ++*(uint64_t *)ud;
    return HARK_ACK;
}

static void replay(void)
{
    uint64_t orders = 0;
    hark_replay_info info = {.size = sizeof info};
    const hark_replay_opts *what = HARK_OPTS(hark_replay_opts, .type = "order:*", .rate = 1000);
    must(hark_replay(bus, count, &orders, what, &info, &ei));
    must(hark_replay_wait(bus, info.id, 30000, &info, &ei));
    printf("replayed %" PRIu64 " of %" PRIu64 "\n", orders, info.total);
}

static void reset(void)
{
    hark_reset_result will = {.size = sizeof will};
    hark_replay_info info = {.size = sizeof info};
    hark_reset_opts to = {.size = sizeof to, .start = HARK_START_FIRST, .dry_run = 1};
    must(hark_consumer_reset(bus, "shipping", &to, &will, &ei));
    printf("a reset delivers %" PRIu64 " again\n", will.events);
    to.dry_run = 0;
    must(hark_consumer_reset(bus, "shipping", &to, &will, &ei));
    must(hark_replay_wait(bus, will.replay_id, 30000, &info, &ei));
}

static void schedule(void)
{
    hark_schedule_id id;
    const hark_event_spec *order = HARK_OPTS(hark_event_spec, .type = "order:placed",
                                             .subject = "fay", .json = "\"9 Lake Lane\"");
    must(hark_schedule(bus, order, hark_after(50), NULL, &ei));
    must(hark_schedule(bus, order, hark_at(INT64_C(4102444800) * 1000000000), &id, &ei));
    must(hark_schedule_cancel(bus, id, &ei)); /* 2100 is too far away */
}

static bool print_figures(const hark_consumer_stats *s, void *ud)
{
    (void)ud;
    return printf("%s: acked %" PRIu64 ", lag %" PRIu64 ", waited at most %" PRId64 " ms\n",
                  s->consumer, s->acked, s->lag, s->wait.max_ns / 1000000) > 0;
}

static void keep_a_month(void)
{
    const hark_retention *month = HARK_OPTS(hark_retention, .pattern = "order:*",
                                            .max_age_ms = INT64_C(30) * 24 * 3600 * 1000);
    must(hark_retain(bus, month, &ei));    /* from now on, about every second */
    must(hark_retain_now(bus, NULL, &ei)); /* and at once */
}

int main(int argc, char **argv)
{
    hark_sub *dead, *sent;
    must(hark_open(argc > 1 ? argv[1] : "sqlite:delivery.db", NULL, &bus, &ei));
    must(hark_subscribe(bus, "dead_letter", NULL, NULL, NULL, &dead, &ei));
    must(hark_subscribe(bus, "parcel:*", NULL, NULL, NULL, &sent, &ei));
    hark_sub *shipping = open_shop(&(bool){false});
    place("ann", "5 Tern island");
    place("ann", "1 Main street"); /* waits behind her first one */
    place("bob", "7 Gull island");
    place("cleo", "2 Oak farm");
    await(sent, 1); /* cleo's */
    await(dead, 2);
    close_shop(shipping);
    tell_why();
    shipping = open_shop(&(bool){true}); /* the program, mended: it ships to islands */
    mend_dead_letters();
    await(sent, 3);
    must(hark_consumer_pause(bus, "shipping", &ei));
    place("eve", "8 High street");
    tell_why();
    must(hark_consumer_resume(bus, "shipping", &ei));
    schedule();
    await(sent, 2);
    replay();
    reset();
    must(hark_stats_consumers(bus, print_figures, NULL));
    keep_a_month();
    hark_sub_unref(shipping);
    hark_sub_unref(sent);
    hark_sub_unref(dead);
    must(hark_drain(bus, 5000, &ei));
    hark_bus_unref(bus);
}
