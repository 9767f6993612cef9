/* What move_log.c does with consumers: they go on in TO behind the event that stands for the one up to
 * which they have settled all in FROM. Where they have open deliveries or dead letters there is no such
 * place, and nothing is moved. */
#include "move_log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { JOIN_MS = 30000 };

/* ---- in FROM ---------------------------------------------------------------------------------- */

typedef struct looking {
    mover *m;
    hark_errinfo *ei;
    hark_err err;
} looking;

static hark_err check_reader(const hark_consumer_info *c, hark_errinfo *ei)
{
    uint64_t open = c->retrying + c->behind + c->parked;
    if (c->dead_letters)
        return hark_errinfo_set(ei, HARK_ECONFLICT,
                                "consumer %s has dead letters (%" PRIu64
                                "), which cannot be moved: "
                                "redrive or discard them first (hark_redrive, hark_discard)",
                                c->name, c->dead_letters);
    if (open)
        return hark_errinfo_set(ei, HARK_ECONFLICT,
                                "consumer %s has open events (%" PRIu64
                                "), which wait for a retry, or "
                                "behind one: let its program run on FROM until they are settled",
                                c->name, open);
    if (c->replay_id)
        return hark_errinfo_set(ei, HARK_ECONFLICT,
                                "consumer %s is in the middle of replay %s: let it end, or cancel "
                                "it (hark_replay_cancel)",
                                c->name, c->replay_id);
    return HARK_OK;
}

static bool take_reader(const hark_consumer_info *c, void *ud)
{
    looking *l = ud;
    mover *m = l->m;
    l->err = check_reader(c, l->ei);
    if (l->err)
        return false;
    reader *more = realloc(m->readers, (m->n_readers + 1) * sizeof *more);
    if (!more) {
        l->err = no_memory(l->ei);
        return false;
    }
    m->readers = more;
    reader *r = &m->readers[m->n_readers++];
    *r = (reader){.floor = c->floor, .highest = c->highest, .paused = c->paused != 0};
    snprintf(r->name, sizeof r->name, "%s", c->name);
    snprintf(r->pattern, sizeof r->pattern, "%s", c->pattern);
    snprintf(r->policy, sizeof r->policy, "%s", c->policy ? c->policy : "{}");
    return true;
}

hark_err consumers_read(mover *m, hark_errinfo *ei)
{
    looking l = {.m = m, .ei = ei};
    hark_err err = hark_consumers(m->from, take_reader, &l, ei);
    return err ? err : l.err;
}

static reader *reader_named(mover *m, const char *name)
{
    for (size_t i = 0; i < m->n_readers; i++)
        if (strcmp(m->readers[i].name, name) == 0)
            return &m->readers[i];
    return NULL;
}

/* ---- in TO ------------------------------------------------------------------------------------ */

/* One that was put there by an earlier run has been given nothing yet. */
static bool take_there(const hark_consumer_info *c, void *ud)
{
    looking *l = ud;
    reader *r = reader_named(l->m, c->name);
    if (!r)
        l->err =
            hark_errinfo_set(l->ei, HARK_ECONFLICT,
                             "TO has a consumer %s, which FROM has not: it is another log, or a "
                             "program uses it already; give one that is empty",
                             c->name);
    else if (c->highest > r->at || c->dead_letters || c->retrying)
        l->err =
            hark_errinfo_set(l->ei, HARK_ECONFLICT,
                             "consumer %s has gone on in TO: a program uses it already; to move "
                             "the log again give a TO that is empty",
                             c->name);
    else
        r->there = c->floor;
    return !l->err;
}

hark_err consumers_look(mover *m, hark_errinfo *ei)
{
    looking l = {.m = m, .ei = ei};
    hark_err err = hark_consumers(m->to, take_there, &l, ei);
    return err ? err : l.err;
}

typedef struct policy {
    int64_t max_attempts, max_crashes, max_deferred, max_interruptions, retry_delay_ms,
        retry_max_ms;
    char dead_policy[16];
} policy;
HARK_JSON_TABLE(policy_json, policy, HARK_JSON_INT(policy, max_attempts),
                HARK_JSON_INT(policy, max_crashes), HARK_JSON_INT(policy, max_deferred),
                HARK_JSON_INT(policy, max_interruptions), HARK_JSON_INT(policy, retry_delay_ms),
                HARK_JSON_INT(policy, retry_max_ms), HARK_JSON_CHARS(policy, dead_policy));

/* Opened once, as its program will: then it is there, and begins where this says. */
static hark_err register_consumer(mover *m, const reader *r, hark_errinfo *ei)
{
    policy p = {.dead_policy = ""};
    hark_sub *sub = NULL;
    hark_err err = hark_json_decode(&policy_json, r->policy, strlen(r->policy), &p, NULL);
    if (err)
        return hark_errinfo_set(ei, err, "the policy of consumer %s cannot be read: %s", r->name,
                                r->policy);
    const hark_sub_opts *opts = HARK_OPTS(
        hark_sub_opts, .consumer = r->name, .start = HARK_START_SEQUENCE,
        .start_sequence = r->at + 1, .max_attempts = p.max_attempts, .max_crashes = p.max_crashes,
        .max_deferred = (size_t)p.max_deferred, .max_interruptions = p.max_interruptions,
        .retry_delay_ms = p.retry_delay_ms, .retry_max_ms = p.retry_max_ms,
        .dead_policy = strcmp(p.dead_policy, "park") ? HARK_DEAD_CONTINUE : HARK_DEAD_PARK,
        .dataversion = HARK_VERSION_STORED);
    err = hark_subscribe(m->to, r->pattern, NULL, NULL, opts, &sub, ei);
    if (err)
        return err;
    hark_sub_close(sub);
    err = hark_sub_join(sub, JOIN_MS);
    hark_sub_unref(sub);
    return err ? hark_errinfo_set(ei, err, "consumer %s of TO: %s; run it again", r->name,
                                  hark_err_text(err))
               : HARK_OK;
}

/* One of an earlier run is farther back if its program has run on FROM since. */
static hark_err bring_forward(mover *m, const reader *r, hark_errinfo *ei)
{
    return r->there >= r->at
               ? HARK_OK
               : hark_consumer_reset(m->to, r->name,
                                     HARK_OPTS(hark_reset_opts, .start = HARK_START_SEQUENCE,
                                               .start_sequence = r->at + 1),
                                     NULL, ei);
}

static hark_err settle_in(mover *m, const reader *r, hark_errinfo *ei)
{
    hark_err err = bring_forward(m, r, ei);
    if (!err && r->paused)
        err = hark_consumer_pause(m->to, r->name, ei);
    if (!err)
        printf("consumer %s goes on behind event %" PRIu64 "%s\n", r->name, r->at,
               r->highest > r->floor ? "; what it has settled beyond comes again" : "");
    return err;
}

hark_err consumers_move(mover *m, hark_errinfo *ei)
{
    hark_err err = HARK_OK;
    for (size_t i = 0; i < m->n_readers && !err; i++)
        err = register_consumer(m, &m->readers[i], ei);
    if (!err)
        err = consumers_look(m, ei);
    for (size_t i = 0; i < m->n_readers && !err; i++)
        err = settle_in(m, &m->readers[i], ei);
    return err;
}

/* ---- in FROM, once more ----------------------------------------------------------------------- */

static bool check_still(const hark_consumer_info *c, void *ud)
{
    looking *l = ud;
    const reader *r = reader_named(l->m, c->name);
    if (!r || r->floor != c->floor || r->highest != c->highest)
        l->err =
            hark_errinfo_set(l->ei, HARK_ECONFLICT,
                             "consumer %s has moved meanwhile: a program works on FROM; stop it, "
                             "and run this again",
                             c->name);
    return !l->err;
}

hark_err consumers_still(mover *m, hark_errinfo *ei)
{
    looking l = {.m = m, .ei = ei};
    hark_err err = hark_consumers(m->from, check_still, &l, ei);
    return err ? err : l.err;
}
