/* end.c: what the end of an attempt means for the item and its lane, and what becomes of a dead
 * letter that is redriven or discarded. */
#include "delivery/delivery_i.h"

#include <assert.h>
#include <stdlib.h>

void hk_core_defer(hk_core *c, hk_item *item)
{
    hk_item_move(c, item, HK_BEHIND);
    hk_item_drop_payload(c, item);
    hk_item_close(c, item);
    hk_item_row(c, item);
    hk_item_dirty(c, item);
    c->moved = true;
}

/* Those that came since the last time: a head that is tried again and again does not walk all that
 * waits behind it. */
static void defer_behind(hk_core *c, const hk_item *head)
{
    if (!head->lane)
        return;
    for (hk_item *behind = head->lane->queued; behind; behind = behind->lane_next)
        if (behind->state == HK_QUEUED)
            hk_core_defer(c, behind);
    head->lane->queued = NULL;
}

void hk_core_release(hk_core *c, hk_item *head)
{
    hk_lane *lane = head->lane;
    if (!lane)
        return;
    assert(lane->first == head);
    hk_item *next = lane->first = head->lane_next;
    head->lane = NULL;
    head->lane_next = NULL;
    if (lane->redriven == next)
        lane->redriven = NULL;
    if (lane->queued == next)
        lane->queued = next ? next->lane_next : NULL;
    if (!next) {
        lane->last = NULL;
        hk_lane_free_if_empty(c, lane);
    } else if (HK_BUG(1) && next->state == HK_QUEUED) {
        return;
    } else if (next->timed && !HK_BUG(33)) {
        hk_core_wait(c, next);
        defer_behind(c, next);
    } else {
        hk_core_ready(c, next);
    }
}

/* Settled for good: off the lane, and off the ledger if it has a row there. */
static void ack(hk_core *c, hk_item *item)
{
    if (item->suspect)
        hk_guard_ended(c, item);
    hk_item_close(c, item);
    hk_item_drop_payload(c, item);
    hk_item_move(c, item, HK_GONE);
    hk_core_release(c, item);
    c->moved = true;
    c->n_deferred -= item->has_row;
    if (item->has_row || (item->marked && !HK_BUG(21)))
        hk_item_dirty(c, item);
    else if (!item->on_list)
        hk_item_free(c, item);
}

/* It comes again when the delay is over, and so does its lane. */
static void wait_in_ledger(hk_core *c, hk_item *item, int64_t delay, hk_now now)
{
    if (item->suspect)
        hk_guard_ended(c, item);
    item->due = hk_later(now.mono, delay);
    item->due_wall = hk_later(now.wall, delay);
    hk_item_drop_payload(c, item);
    hk_item_close(c, item);
    hk_item_move(c, item, HK_SAVING);
    hk_item_row(c, item);
    hk_item_dirty(c, item);
    if (!HK_BUG(38))
        defer_behind(c, item);
    c->urgent |= !HK_BUG(4);
}

static void retry(hk_core *c, hk_item *item, int64_t delay_ns, hk_now now)
{
    int64_t delay = delay_ns >= 0 ? delay_ns
                                  : hk_backoff(c->opts.retry_delay_ns,
                                               c->opts.retry_max_ns * (HK_BUG(13) ? 2 : 1),
                                               item->attempts, &c->rng);
    wait_in_ledger(c, item, delay, now);
}

void hk_core_give_up(hk_core *c, hk_item *item, const char *reason, hk_now now)
{
    assert(item->payload);
    if (item->suspect)
        hk_guard_ended(c, item);
    item->reason = reason;
    item->ended_wall = item->due_wall = now.wall;
    hk_item_close(c, item);
    hk_item_move(c, item, HK_DYING); /* keeps its payload: the dead letter copies it */
    c->n_extra += !item->counted;
    hk_item_dirty(c, item);
    if (item->lane && c->opts.park) {
        hk_item_row(c, item);
        defer_behind(c, item);
    }
    c->urgent |= !HK_BUG(36);
}

static void set_error(hk_item *item, const char *error)
{
    free(item->error);
    item->error = hk_strdup(error);
}

static void count_attempt(hk_item *item, const char *outcome, const char *error, hk_now now)
{
    item->attempts += !(HK_BUG(5) && outcome[0] == 't');
    item->ended_wall = now.wall;
    item->outcome = outcome;
    item->attempted = true;
    set_error(item, error);
}

static hark_verdict fail_attempt(hk_core *c, hk_item *item, hark_verdict verdict,
                                 const char *outcome, int64_t delay_ns, const char *error,
                                 hk_now now)
{
    count_attempt(item, outcome, error, now);
    bool last = c->opts.max_attempts >= 0 && item->attempts >= c->opts.max_attempts + HK_BUG(22);
    if (verdict == HARK_RETRY && !last) {
        retry(c, item, delay_ns, now);
        return HARK_RETRY;
    }
    hk_core_give_up(c, item, verdict == HARK_REJECT ? "rejected" : "max_attempts", now);
    return HARK_REJECT;
}

hark_err hk_core_settle(hk_core *c, hk_lease lease, hark_verdict verdict, int64_t delay_ns,
                        const char *error, hk_now now, hark_verdict *ret)
{
    hk_item *item = hk_lease_item(c, lease);
    if (!item)
        return HARK_ESTALE;
    hk_lease_end(c, lease);
    hark_verdict came = HARK_ACK;
    if (verdict == HARK_ACK)
        ack(c, item);
    else
        came = fail_attempt(c, item, verdict, verdict == HARK_REJECT ? "reject" : "retry", delay_ns,
                            error, now);
    if (ret)
        *ret = came;
    return HARK_OK;
}

/* The store has a row that tells so, whether or not the item had one. */
hark_err hk_core_acked(hk_core *c, hk_lease lease)
{
    hk_item *item = hk_lease_item(c, lease);
    if (!item)
        return HARK_ESTALE;
    hk_lease_end(c, lease);
    item->marked |= !HK_BUG(45);
    ack(c, item);
    return HARK_OK;
}

/* No handler had it: it is as if it had not been started. */
static void never_ran(hk_core *c, hk_item *item)
{
    if (!item->attempts && !item->crashes && !item->interruptions)
        item->first_wall = 0;
    hk_rerun_undo(&c->rerun, item->seq);
}

void hk_core_unstart(hk_core *c, hk_lease lease)
{
    hk_item *item = hk_lease_item(c, lease);
    if (!item)
        return;
    hk_lease_end(c, lease);
    never_ran(c, item);
    item->attempts += HK_BUG(17);
    hk_core_ready(c, item);
    if (c->paused)
        hk_guard_rest(c);
}

hark_err hk_core_postpone(hk_core *c, hk_lease lease, int64_t delay_ns, const char *error,
                          hk_now now)
{
    hk_item *item = hk_lease_item(c, lease);
    if (!item)
        return HARK_ESTALE;
    assert(delay_ns >= 0);
    hk_lease_end(c, lease);
    if (!HK_BUG(55))
        never_ran(c, item);
    set_error(item, error);
    item->attempts += HK_BUG(48);
    bool suspect = item->suspect;
    wait_in_ledger(c, item, delay_ns, now);
    item->suspect = suspect;
    if (!HK_BUG(62))
        item->due_wall = now.wall;
    return HARK_OK;
}

hark_err hk_core_bury(hk_core *c, hk_lease lease, const char *reason, const char *error, hk_now now)
{
    hk_item *item = hk_lease_item(c, lease);
    if (!item)
        return HARK_ESTALE;
    hk_lease_end(c, lease);
    count_attempt(item, reason, error, now);
    item->attempts -= HK_BUG(53);
    if (HK_BUG(49))
        item->attempted = false;
    hk_core_give_up(c, item, reason, now);
    return HARK_OK;
}

bool hk_core_expire(hk_core *c, hk_now now, hk_lease *ret_lease, uint64_t *ret_seq,
                    hark_verdict *ret_verdict)
{
    if (c->soonest < 0 || c->soonest > now.mono)
        return false;
    size_t i = 0;
    while (c->places[c->order[i]].until != c->soonest)
        i++;
    hk_lease lease = {.place = c->order[i], .token = c->places[c->order[i]].token};
    hk_item *item = c->places[lease.place].item;
    hk_lease_end(c, lease);
    *ret_lease = lease;
    *ret_seq = item->seq;
    *ret_verdict =
        fail_attempt(c, item, HARK_RETRY, "timeout", -1, "no answer within its time", now);
    return true;
}

void hk_core_die(hk_core *c, hk_lease lease, hk_now now)
{
    hk_item *item = hk_lease_item(c, lease);
    if (!item)
        return;
    const char *reason = hk_core_doom(c, item);
    assert(reason && item->payload);
    hk_lease_end(c, lease);
    hk_core_give_up(c, item, reason, now);
}

/* The dead letter that heads this lane, if it is this one. */
static hk_item *parked_head(const hk_core *c, uint64_t seq, const char *key)
{
    const hk_lane *lane = key ? hk_lane_find(c, key) : NULL;
    return lane && lane->first->seq == seq && lane->first->state == HK_DEAD ? lane->first : NULL;
}

static void start_afresh(hk_item *item)
{
    item->attempts = item->crashes = item->interruptions = 0;
    item->first_wall = 0;
    free(item->error);
    item->error = NULL;
}

static hk_item *redriven_new(hk_core *c, uint64_t seq, const char *key)
{
    hk_lane *lane;
    hk_item *item = hk_lane_item(c, seq, key, &lane);
    if (!item)
        return NULL;
    hk_item_row(c, item);
    if (lane)
        hk_lane_insert(lane, item);
    return item;
}

hark_err hk_core_redriven(hk_core *c, uint64_t seq, const char *key, int64_t due, int64_t due_wall)
{
    hk_item *item = parked_head(c, seq, key);
    if (item && !HK_BUG(18))
        start_afresh(item);
    else if (!item)
        item = redriven_new(c, seq, key);
    if (!item)
        return HARK_ENOMEM;
    hk_past_forget(c, seq);
    item->suspect = false;
    item->due = due;
    item->due_wall = due_wall;
    if (!item->lane || item->lane->first == item) {
        hk_core_wait(c, item);
    } else {
        item->timed = true;
        hk_item_move(c, item, HK_BEHIND);
    }
    return HARK_OK;
}

void hk_core_discarded(hk_core *c, uint64_t seq, const char *key)
{
    hk_item *item = parked_head(c, seq, key);
    if (!item)
        return;
    c->n_deferred--;
    hk_item_move(c, item, HK_GONE);
    if (HK_BUG(19))
        return;
    hk_core_release(c, item);
    hk_item_free(c, item);
}
