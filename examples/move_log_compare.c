/* Compares two logs for move_log.c: event by event from the beginning, by all that an event is but for
 * its place. What was scheduled may stand in another order behind that. */
#include "move_log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EVERY "**|hark:**|dead_letter:**"

enum { PAGE_BYTES = 8 << 20 };

/* ---- walking through a log -------------------------------------------------------------------- */

hark_err walk_page(walk *w, hark_errinfo *ei)
{
    const hark_read_opts *opts =
        HARK_OPTS(hark_read_opts, .type = EVERY, .after = w->after, .limit = PAGE,
                  .limit_bytes = PAGE_BYTES, .dataversion = HARK_VERSION_STORED);
    hark_page_free(w->page);
    w->page = NULL;
    w->i = 0;
    hark_err err = hark_read(w->bus, opts, &w->page, ei);
    if (!err && hark_page_next(w->page))
        w->after = hark_page_next(w->page);
    w->end = err || !hark_page_next(w->page);
    return err;
}

hark_err walk_step(walk *w, const hark_event **ret, hark_errinfo *ei)
{
    hark_err err = w->page ? HARK_OK : walk_page(w, ei);
    while (!err && w->i == hark_page_count(w->page) && !w->end)
        err = walk_page(w, ei);
    *ret = err ? NULL : hark_page_event(w->page, w->i);
    w->i += *ret != NULL;
    return err;
}

void walk_end(walk *w)
{
    hark_page_free(w->page);
    w->page = NULL;
}

/* ---- comparing -------------------------------------------------------------------------------- */

#define FNV_START UINT64_C(14695981039346656037)

static uint64_t fnv(uint64_t h, const void *data, size_t len) /* FNV-1a */
{
    for (const unsigned char *p = data; len > 0; len--)
        h = (h ^ *p++) * UINT64_C(1099511628211);
    return h;
}

/* All that an event is, but for its place; 0 = no memory. */
static uint64_t digest_of(const hark_event *e)
{
    char *text;
    size_t len;
    if (hark_event_to_json(e, &text, &len))
        return 0;
    uint64_t h = fnv(FNV_START, text, len);
    free(text);
    return h ? h : 1;
}

hark_err no_memory(hark_errinfo *ei)
{
    return hark_errinfo_set(ei, HARK_ENOMEM, "no memory; run it where there is more");
}

/* `source` and `id` are what makes an event the one that it is. */
static char *key_of(const hark_event *e)
{
    const char *source = hark_event_source(e), *id = hark_event_id(e);
    size_t len = strlen(source) + strlen(id) + 2;
    char *key = malloc(len);
    if (key)
        snprintf(key, len, "%s\n%s", source, id);
    return key;
}

/* Both begin with this event: whoever has settled it there has settled it here. */
static void note_place(mover *m, uint64_t from, uint64_t to)
{
    for (size_t i = 0; i < m->n_readers; i++)
        if (from <= m->readers[i].floor)
            m->readers[i].at = to;
    m->copied = from;
    m->common++;
}

static hark_err add_stray(mover *m, const hark_event *e, bool scheduled)
{
    stray *more = realloc(m->strays, (m->n_strays + 1) * sizeof *more);
    char *key = more ? key_of(e) : NULL;
    m->strays = more ? more : m->strays;
    m->no_memory |= !key;
    if (!key)
        return HARK_ENOMEM;
    m->strays[m->n_strays++] = (stray){.key = key, .digest = scheduled ? 0 : digest_of(e)};
    return HARK_OK;
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const stray *)a)->key, ((const stray *)b)->key);
}

static size_t unknown(const mover *m)
{
    size_t n = 0;
    for (size_t i = 0; i < m->n_strays; i++)
        n += !m->strays[i].known;
    return n;
}

/* FROM has this: what is in TO under this source and id came from there, if its content did.
 * *ret_event: TO has it as an event. */
static hark_err is_from_there(mover *m, const hark_event *e, bool scheduled, bool *ret_event)
{
    stray wanted = {.key = key_of(e)};
    if (!wanted.key)
        return HARK_ENOMEM;
    stray *s = m->n_strays ? bsearch(&wanted, m->strays, m->n_strays, sizeof wanted, by_key) : NULL;
    bool same = s && !scheduled && s->digest && s->digest == digest_of(e);
    if (s)
        s->known |= scheduled || !s->digest || same;
    *ret_event = same;
    free(wanted.key);
    return HARK_OK;
}

static hark_err other_content(const mover *m, hark_errinfo *ei)
{
    const stray *s = m->strays;
    while (s->known)
        s++;
    size_t source = strcspn(s->key, "\n");
    return hark_errinfo_set(ei, HARK_ECONFLICT,
                            "TO has %zu events or schedules that FROM does not have there, the "
                            "first with source %.*s and id %s: it is another log; give one that is "
                            "empty",
                            unknown(m), (int)source, s->key, s->key + source + 1);
}

/* Goes through FROM from behind `after`: each event there explains what is in TO under its name. */
static hark_err explain(mover *m, uint64_t after, bool *ret_missing, hark_errinfo *ei)
{
    walk w = {.bus = m->from, .after = after};
    const hark_event *e = NULL;
    hark_err err = walk_step(&w, &e, ei);
    while (e && !err && (m->n_strays || !*ret_missing)) {
        bool found = false;
        err = is_from_there(m, e, false, &found);
        *ret_missing |= !found;
        if (err)
            err = no_memory(ei);
        else
            err = walk_step(&w, &e, ei);
    }
    walk_end(&w);
    return err;
}

/* What is in TO beyond the common beginning may only be what was scheduled in FROM, and fell due here
 * or there since. */
static hark_err explain_strays(mover *m, hark_errinfo *ei)
{
    bool found, ignored = false;
    hark_err err = HARK_OK;
    if (m->n_strays)
        qsort(m->strays, m->n_strays, sizeof *m->strays, by_key);
    for (size_t i = 0; i < m->n_later && !err; i++)
        err = is_from_there(m, m->later[i], true, &found);
    if (err)
        return no_memory(ei);
    err = explain(m, m->copied, &m->missing, ei);
    if (!err && unknown(m)) /* a schedule here, the event of which FROM has had for long */
        err = explain(m, 0, &ignored, ei);
    return !err && unknown(m) ? other_content(m, ei) : err;
}

static bool take_schedule_of_target(const hark_schedule_info *info, void *ud)
{
    return add_stray(ud, info->event, true) == HARK_OK;
}

static void forget_strays(mover *m)
{
    for (size_t i = 0; i < m->n_strays; i++)
        free(m->strays[i].key);
    free(m->strays);
    m->strays = NULL;
    m->n_strays = 0;
}

/* A program that gives expected_version would be refused. */
hark_err check_version(const mover *m, const hark_event *e, int64_t in_to, hark_errinfo *ei)
{
    int64_t in_from = hark_event_subject_version(e);
    if (m->renumber || !in_from || !in_to || in_from == in_to) /* 0: a store without versions */
        return HARK_OK;
    return hark_errinfo_set(ei, HARK_EVERSION,
                            "subject %s is at version %" PRId64 " in FROM, and would be at %" PRId64
                            " in TO, since earlier events of it were removed: run it with "
                            "--renumber if no program gives expected_version",
                            hark_event_subject(e), in_from, in_to);
}

/* Goes through both logs for as long as they are the same. The rest of TO becomes strays. */
static hark_err go_along(mover *m, walk *from, walk *to, hark_errinfo *ei)
{
    const hark_event *a, *b;
    hark_err err = walk_step(to, &b, ei);
    bool same = true;
    while (!err && b && same) {
        uint64_t digest = digest_of(b);
        err = walk_step(from, &a, ei);
        same = !err && a && digest && digest == digest_of(a);
        if (!same)
            break;
        m->digest = fnv(m->digest, &digest, sizeof digest);
        note_place(m, hark_event_sequence(a), hark_event_sequence(b));
        err = check_version(m, a, hark_event_subject_version(b), ei);
        if (!err)
            err = walk_step(to, &b, ei);
    }
    while (!err && b) {
        if (add_stray(m, b, false))
            return no_memory(ei);
        err = walk_step(to, &b, ei);
    }
    return err;
}

/* How far TO is; refuses it when it has anything that is not of FROM. */
hark_err compare_logs(mover *m, hark_errinfo *ei)
{
    walk from = {.bus = m->from}, to = {.bus = m->to};
    m->common = m->copied = 0;
    m->missing = false;
    m->digest = FNV_START;
    for (size_t i = 0; i < m->n_readers; i++)
        m->readers[i].at = 0;
    hark_err err = go_along(m, &from, &to, ei);
    if (!err)
        err = hark_schedules(m->to, take_schedule_of_target, m, ei);
    if (!err && m->no_memory)
        err = no_memory(ei);
    if (!err)
        err = explain_strays(m, ei);
    forget_strays(m);
    walk_end(&from);
    walk_end(&to);
    return err;
}
