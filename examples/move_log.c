/* move_log FROM TO: moves a log from one store to another, by their URLs: events in their order with
 * all of their attributes, consumers where they stand, and what is scheduled. Nothing is taken from
 * FROM. It may be interrupted, also by kill -9, and run again: it goes on where it was. In the end both
 * logs are compared, event by event.
 *
 * Stop the programs that use FROM first. What cannot be moved is refused, with what to do about it;
 * docs/stores.md, "Moving a log", tells what is different in the new log. */
#include "move_log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_EVENT_BYTES = 256 << 20 };

/* ---- copying ---------------------------------------------------------------------------------- */

typedef struct parcel {
    hark_event_spec spec;
    hark_ext extensions[HARK_EXTENSIONS_MAX];
    char time[HARK_TIME_TEXT];
} parcel;

typedef struct load {
    parcel parcels[PAGE];
    const hark_event_spec *specs[PAGE];
    hark_receipt receipts[PAGE];
} load;

/* What is there already is there once: `source` and `id` are given. */
static hark_err copy_page(mover *m, load *l, const hark_page *page, hark_errinfo *ei)
{
    size_t n = hark_page_count(page);
    for (size_t i = 0; i < n; i++) {
        parcel *p = &l->parcels[i];
        hark_event_to_spec(hark_page_event(page, i), p->extensions, p->time, &p->spec);
        l->specs[i] = &p->spec;
    }
    hark_err err = n ? hark_publish_batch(m->to, l->specs, n, l->receipts, ei) : HARK_OK;
    for (size_t i = 0; i < n && !err; i++)
        err = check_version(m, hark_page_event(page, i), l->receipts[i].subject_version, ei);
    return err;
}

static hark_err copy_rest(mover *m, hark_errinfo *ei)
{
    walk w = {.bus = m->from, .after = m->copied};
    load *l = malloc(sizeof *l);
    if (!l)
        return no_memory(ei);
    hark_err err = HARK_OK;
    while (!err && !w.end) {
        err = walk_page(&w, ei);
        if (!err)
            err = copy_page(m, l, w.page, ei);
    }
    walk_end(&w);
    free(l);
    return err;
}

/* ---- schedules -------------------------------------------------------------------------------- */

static bool take_schedule(const hark_schedule_info *info, void *ud)
{
    mover *m = ud;
    size_t n = m->n_later + 1;
    const hark_event **later = realloc(m->later, n * sizeof *later);
    m->later = later ? later : m->later;
    int64_t *due = realloc(m->due, n * sizeof *due);
    m->due = due ? due : m->due;
    int64_t *created = realloc(m->created, n * sizeof *created);
    m->created = created ? created : m->created;
    m->no_memory |= !later || !due || !created;
    if (m->no_memory)
        return false;
    m->later[m->n_later] = hark_event_ref(info->event);
    m->due[m->n_later] = info->due_ns;
    m->created[m->n_later++] = info->created_ns;
    return true;
}

static hark_err read_schedules(mover *m, hark_errinfo *ei)
{
    hark_err err = hark_schedules(m->from, take_schedule, m, ei);
    return !err && m->no_memory ? no_memory(ei) : err;
}

/* An event that was given no time has that of its publication, which is yet to come. */
static bool has_time_of_its_own(const hark_event *e, int64_t created)
{
    int64_t off = hark_event_time_ns(e) - created;
    return off < -1000000000 || off > 1000000000;
}

/* What TO has already, as a schedule or as an event, it has once. */
static hark_err move_schedules(mover *m, hark_errinfo *ei)
{
    parcel p;
    hark_err err = HARK_OK;
    for (size_t i = 0; i < m->n_later && !err; i++) {
        hark_event_to_spec(m->later[i], p.extensions, p.time, &p.spec);
        if (!has_time_of_its_own(m->later[i], m->created[i]))
            p.spec.time = NULL;
        err = hark_schedule(m->to, &p.spec, hark_at(m->due[i]), NULL, ei);
        if (err == HARK_EEXIST)
            err = HARK_OK;
    }
    return err;
}

/* ---- all of it -------------------------------------------------------------------------------- */

static hark_err open_both(mover *m, const char *from, const char *to, hark_errinfo *ei)
{
    hark_bus_info a = {.size = sizeof a}, b = {.size = sizeof b};
    hark_err err =
        hark_open(from, HARK_OPTS(hark_bus_opts, .flags = HARK_OPEN_EXISTING), &m->from, ei);
    if (!err)
        err = hark_open(to,
                        HARK_OPTS(hark_bus_opts, .max_event_bytes = MOST_EVENT_BYTES,
                                  .queue_bytes = MOST_EVENT_BYTES),
                        &m->to, ei);
    if (err || hark_bus_info_get(m->from, &a) || hark_bus_info_get(m->to, &b))
        return err;
    return strcmp(a.log_id, b.log_id) == 0
               ? hark_errinfo_set(ei, HARK_EINVAL, "FROM and TO are the same log")
               : HARK_OK;
}

/* FROM may grow meanwhile: what is scheduled there goes on falling due. */
static hark_err copy_all(mover *m, hark_errinfo *ei)
{
    hark_err err;
    do {
        err = copy_rest(m, ei);
        if (!err)
            err = compare_logs(m, ei);
    } while (!err && m->missing);
    return err;
}

static hark_err move_log(mover *m, hark_errinfo *ei)
{
    hark_err err = consumers_read(m, ei);
    if (!err)
        err = read_schedules(m, ei);
    if (!err)
        err = compare_logs(m, ei);
    if (!err && m->common)
        printf("%" PRIu64 " events are there already\n", m->common);
    if (!err)
        err = copy_all(m, ei);
    if (!err)
        err = consumers_look(m, ei);
    if (!err)
        err = consumers_move(m, ei);
    if (!err)
        err = move_schedules(m, ei);
    if (!err)
        err = copy_all(m, ei); /* what has fallen due in FROM since */
    return err ? err : consumers_still(m, ei);
}

static void tell(const mover *m)
{
    printf("moved: %" PRIu64 " events, the same in both logs, digest %016" PRIx64
           "; %zu consumers; %zu schedules\n",
           m->common, m->digest, m->n_readers, m->n_later);
}

static void close_all(mover *m)
{
    for (size_t i = 0; i < m->n_later; i++)
        hark_event_unref(m->later[i]);
    free(m->later);
    free(m->due);
    free(m->created);
    free(m->readers);
    hark_bus_unref(m->to);
    hark_bus_unref(m->from);
}

int main(int argc, char **argv)
{
    mover m = {.renumber = argc == 4 && strcmp(argv[1], "--renumber") == 0};
    hark_errinfo ei;
    if (argc != 3 + m.renumber || argv[1 + m.renumber][0] == '-') {
        fputs("usage: move_log [--renumber] FROM TO, both URLs: sqlite:PATH, "
              "postgresql://HOST/DATABASE[?log=NAME], redis://HOST[/DATABASE][?log=NAME]\n",
              stderr);
        return 64;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    hark_err err = open_both(&m, argv[1 + m.renumber], argv[2 + m.renumber], &ei);
    if (!err)
        err = move_log(&m, &ei);
    if (err)
        fprintf(stderr, "move_log: %s\n", ei.text);
    else
        tell(&m);
    close_all(&m);
    return err ? 1 : 0;
}
