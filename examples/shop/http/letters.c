/* http/letters.c: GET /dead-letters shows what consumers gave up, in pages, the oldest first; POST /dead-letters/:id/redrive
 * gives one of these to its consumer again. */
#include "../shop.h"

#include <inttypes.h>
#include <stdlib.h>

/* Its texts are the request's memory, or the dead letter's own while it is shown. */
typedef struct letter {
    char *consumer, *type, *subject, *reason, *error;
    uint64_t id, sequence;
    int64_t attempts, crashes, dead_at;
    bool redriven;
} letter;
HARK_JSON_TABLE(letter_json, letter, HARK_JSON_INT(letter, id), HARK_JSON_STR(letter, consumer),
                HARK_JSON_INT(letter, sequence), HARK_JSON_STR(letter, type),
                HARK_JSON_STR(letter, subject), HARK_JSON_STR(letter, reason),
                HARK_JSON_STR(letter, error), HARK_JSON_INT(letter, attempts),
                HARK_JSON_INT(letter, crashes), HARK_JSON_TIME(letter, dead_at),
                HARK_JSON_BOOL(letter, redriven));

enum { MOST_LETTERS = 1000 }; /* of a page */

typedef struct list {
    hark_ctx *c;
    int64_t after, limit;
    letter *dead_letters;
    size_t n_letters;
    uint64_t next; /* the last one's id, if there are more */
    bool more, no_memory;
} list;
HARK_JSON_TABLE(list_json, list, HARK_JSON_ARRAY(list, dead_letters, n_letters, &letter_json),
                HARK_JSON_INT(list, next, HARK_JSON_HAS(list, more)));

static char *keep(list *all, const char *text)
{
    char *copy = text ? hark_ctx_printf(all->c, "%s", text) : NULL;
    all->no_memory |= text && !copy;
    return copy;
}

static bool take_letter(const hark_dead_letter *l, void *ud)
{
    list *all = ud;
    all->more = all->n_letters == (size_t)all->limit;
    if (all->more)
        return false;
    all->dead_letters[all->n_letters++] =
        (letter){.consumer = keep(all, l->consumer),
                 .type = keep(all, hark_event_type(l->event)),
                 .subject = keep(all, hark_event_subject(l->event)),
                 .reason = keep(all, l->reason),
                 .error = keep(all, l->error),
                 .id = l->id,
                 .sequence = l->sequence,
                 .attempts = l->attempts,
                 .crashes = l->crashes,
                 .dead_at = l->dead_ns,
                 .redriven = l->redriven != 0};
    all->next = l->id;
    return !all->no_memory;
}

static hark_err read_page(hark_bus *bus, list *all, hark_errinfo *ei)
{
    const hark_dead_filter *filter =
        HARK_OPTS(hark_dead_filter, .consumer = hark_ctx_query(all->c, "consumer"),
                  .after_id = (uint64_t)all->after, .limit = (size_t)all->limit + 1, .redriven = 1);
    hark_err err = hark_dead_letters(bus, filter, take_letter, all, ei);
    return !err && all->no_memory ? hark_errinfo_set(ei, HARK_ENOMEM, "no memory for the list")
                                  : err;
}

static hark_err get_letters(hark_ctx *c, void *ud)
{
    const shop *s = ud;
    hark_errinfo ei;
    list all = {.c = c, .limit = MOST_LETTERS};
    hark_err err = hark_ctx_query_int(c, "limit", 1, MOST_LETTERS, &all.limit);
    if (!err)
        err = hark_ctx_query_int(c, "after", 0, INT64_MAX, &all.after);
    if (err)
        return err;
    all.dead_letters = malloc((size_t)all.limit * sizeof *all.dead_letters);
    if (!all.dead_letters)
        return HARK_ENOMEM;
    err = read_page(s->bus, &all, &ei);
    err = err ? hark_ctx_fail(c, err, "%s", ei.text) : hark_ctx_json(c, 200, &list_json, &all);
    free(all.dead_letters);
    return err;
}

/* ---- POST /dead-letters/:id/redrive ---- */

static hark_err redrive(hark_ctx *c, void *ud)
{
    const shop *s = ud;
    hark_errinfo ei;
    char *end;
    const char *text = hark_ctx_param(c, "id");
    uint64_t id = strtoull(text, &end, 10);
    if (*end || *text < '0' || *text > '9')
        return hark_ctx_fail(c, HARK_ENOTFOUND, "there is no dead letter %s: ids are numbers",
                             text);
    hark_err err = hark_redrive(s->bus, id, &ei);
    if (err)
        return hark_ctx_fail(c, err, "%s", ei.text);
    return hark_ctx_json_text(
        c, 202, hark_ctx_printf(c, "{\"id\":%" PRIu64 ",\"state\":\"redriven\"}", id));
}

void shop_letter_routes(shop *s)
{
    hark_route(s->app, "GET", "/dead-letters", get_letters, s, HARK_BLOCKING);
    hark_route(s->app, "POST", "/dead-letters/:id/redrive", redrive, s, HARK_BLOCKING);
}
