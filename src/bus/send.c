/* send.c: the writer on a store without a log. What has queued up is sent together, and each publish
 * has a verdict of its own; there is nothing to commit, to show or to repeat. Published events come
 * back through the store like everybody else's, if they do. What needs a log is refused. */
#include "bus/bus_i.h"

/* Of one turn: publishers of what was sent need not wait for the rest. */
enum { SEND_MAX = 512, SEND_BYTES = 4 << 20 };

hark_err hk_no_log(const hark_bus *bus, const char *what, hark_errinfo *ei)
{
    return hk_fail(
        ei, HARK_ENOTSUP,
        "%s: %s keeps no events, it has live subscriptions only; open the bus on memory:, "
        "sqlite: or postgresql:",
        what, bus->ops->scheme);
}

static hk_request *request_of(hk_node *n)
{
    return (hk_request *)(void *)n;
}

/* Moves publishes off the backlog; returns how many. */
static size_t take(hk_writer *w, hk_list *ret, hark_store_message *messages)
{
    size_t n = 0, bytes = 0;
    while (w->backlog.first && n < SEND_MAX && bytes < SEND_BYTES) {
        hk_request *r = request_of(&hk_list_shift(&w->backlog)->node);
        messages[n++] = (hark_store_message){.items = r->items, .n = r->n, .ei = r->ei};
        bytes += r->bytes;
        hk_list_append(ret, &r->work);
    }
    return n;
}

/* As of a group of a log's: what `hark_stats` and whoever insists on publishing go by. */
static void note(hark_bus *bus, const hark_store_message *messages, size_t n)
{
    hk_writer *w = &bus->writer;
    hark_err failed = HARK_OK;
    bool sent = false;
    for (size_t i = 0; i < n; i++) {
        sent |= !messages[i].ret_err;
        if (messages[i].ret_err && hark_err_class(messages[i].ret_err) != HARK_CLASS_REFUSED)
            failed = messages[i].ret_err;
    }
    if (sent)
        hk_count_bump(&bus->figures.commits, 1);
    if (failed) {
        hk_count_bump(&bus->figures.failed_commits, 1);
        hk_mark_set(&w->last_error, (uint64_t)failed);
    }
    hk_mark_set(&w->last_failed_ns, failed ? (uint64_t)hk_wall_ns() : 0);
}

static void make_room(hk_writer *w, const hk_list *taken)
{
    for (hk_node *n = taken->first; n; n = n->next) {
        (void)hk_count_sub(&w->queued_events, request_of(n)->queued);
        (void)hk_count_sub(&w->queued_bytes, request_of(n)->bytes);
    }
    hk_gate_open(&w->room);
}

static void finish(hark_bus *bus, hk_list *taken, const hark_store_message *messages)
{
    int64_t now = hk_wall_ns();
    make_room(&bus->writer, taken);
    for (hk_work *work; (work = hk_list_shift(taken)); messages++) {
        hk_request *r = (hk_request *)(void *)work;
        for (size_t i = 0; !messages->ret_err && i < r->n; i++)
            hk_figures_committed(bus, r->made_ns, now);
        hk_request_done(bus, r, messages->ret_err);
    }
}

void hk_send(hark_bus *bus)
{
    hk_writer *w = &bus->writer;
    hark_store_message messages[SEND_MAX];
    hk_list taken = {0};
    size_t n = take(w, &taken, messages);
    if (n) {
        bus->ops->send(bus->store, messages, n);
        note(bus, messages, n);
        finish(bus, &taken, messages);
    }
    for (hk_work *work; (work = hk_list_shift(&w->jobs));) {
        hk_job *job = (hk_job *)(void *)work;
        job->err = hk_no_log(bus, "this call", job->ei);
        hk_gate_open(&job->done);
    }
}
