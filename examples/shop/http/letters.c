/* http/letters.c: GET /dead-letters shows what consumers gave up, POST /dead-letters/:id/redrive
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

enum { MOST_LETTERS = 1000 };

typedef struct list {
    hark_ctx *c;
    letter *dead_letters;
    size_t n_letters;
} list;
HARK_JSON_TABLE(list_json, list, HARK_JSON_ARRAY(list, dead_letters, n_letters, &letter_json));

static char *keep(hark_ctx *c, const char *text)
{
    return text ? hark_ctx_printf(c, "%s", text) : NULL;
}

static bool take_letter(const hark_dead_letter *l, void *ud)
{
    list *all = ud;
    all->dead_letters[all->n_letters++] =
        (letter){.consumer = keep(all->c, l->consumer),
                 .type = keep(all->c, hark_event_type(l->event)),
                 .subject = keep(all->c, hark_event_subject(l->event)),
                 .reason = keep(all->c, l->reason),
                 .error = keep(all->c, l->error),
                 .id = l->id,
                 .sequence = l->sequence,
                 .attempts = l->attempts,
                 .crashes = l->crashes,
                 .dead_at = l->dead_ns,
                 .redriven = l->redriven != 0};
    return true;
}

static hark_err get_letters(hark_ctx *c, void *ud)
{
    const shop *s = ud;
    hark_errinfo ei;
    list all = {.c = c, .dead_letters = malloc(MOST_LETTERS * sizeof(letter))};
    if (!all.dead_letters)
        return HARK_ENOMEM;
    const hark_dead_filter *filter =
        HARK_OPTS(hark_dead_filter, .consumer = hark_ctx_query(c, "consumer"),
                  .limit = MOST_LETTERS, .redriven = 1);
    hark_err err = hark_dead_letters(s->bus, filter, take_letter, &all, &ei);
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
