/* party_leave.c: consumers of a shared store that are closed. When one is over, its shares are given up on the party's thread,
 * then it ends: so whoever opens it next, here or elsewhere, finds them free. If the store does not answer within LEAVE_NS it
 * ends all the same, and its shares are a debt: this process has them for as long as it lives, and so it goes on
 * trying. */
#include "bus/party_leave_i.h"

#define LEAVE_NS INT64_C(2000000000)
#define BUSY_NS  INT64_C(2000000)

/* ---- coming ---------------------------------------------------------------------------------- */

/* Under the lock. */
static void push(hk_consumer **list, hk_consumer *c)
{
    c->member.next = *list;
    *list = c;
}

/* Adds it to a list, once in its life. False: it was on one before, or *ret_ended, nobody looks at them any more. */
static bool enlist(hk_party *p, hk_consumer **list, hark_sub *s, bool *ret_ended)
{
    hk_consumer *c = s->consumer;
    pthread_mutex_lock(&p->lock);
    bool fresh = !c->member.leaves;
    *ret_ended = fresh && p->ended;
    fresh = fresh && !p->ended;
    if (fresh) {
        c->member.leaves = true;
        c->member.leave_by = hk_mono_ns() + LEAVE_NS;
        hk_sub_hold(s);
        push(list, c);
    }
    pthread_mutex_unlock(&p->lock);
    if (fresh)
        hk_gate_open(&p->gate);
    return fresh;
}

void hk_party_leave(hark_sub *s)
{
    hk_party *p = s->bus->party;
    bool ended = true;
    if (p)
        (void)enlist(p, &p->leavers, s, &ended);
    if (ended)
        hk_sub_ended(s);
}

void hk_party_withdraw(hark_sub *s)
{
    hk_party *p = s->bus->party;
    bool ended;
    if (p && s->consumer && s->consumer->member.joined)
        (void)enlist(p, &p->debts, s, &ended);
}

/* ---- giving up ------------------------------------------------------------------------------- */

static bool may_try(const hk_party *p)
{
    return !p->rhythm.fails && hk_mono_ns() >= p->leave_again;
}

static hark_err give_up(hk_party *p, hk_consumer *c)
{
    hark_errinfo ei = {0};
    hark_store_shares x = {.size = sizeof x, .consumer = c->id, .leave = 1};
    pthread_mutex_lock(&c->lock);
    x.generation = c->generation;
    pthread_mutex_unlock(&c->lock);
    hark_err err = hk_party_call(p, &x, &ei);
    hark_store_shares_clear(&x);
    err = err == HARK_ENOTFOUND ? HARK_OK : err;
    if (err)
        p->why = ei;
    p->leave_fails = err ? p->leave_fails + 1 : 0;
    p->leave_again = err ? hk_mono_ns() + hk_rhythm_pause(&p->rhythm, p->leave_fails) : 0;
    return err;
}

static void put_back(hk_party *p, hk_consumer **list, hk_consumer *c)
{
    pthread_mutex_lock(&p->lock);
    push(list, c);
    pthread_mutex_unlock(&p->lock);
}

/* Before its name is free: who opens it again finds the debt. */
static void owe(hk_party *p, hk_consumer *c, hark_err err)
{
    hk_log(HK_WARN,
           "consumer %s is closed, but its part is not given up: %s; others get it when the store "
           "answers, or when this process ends",
           c->sub->name, hk_err_says(err, &p->why));
    hk_sub_hold(c->sub);
    put_back(p, &p->debts, c);
}

/* Under `admin`: a reset that has found it open asks for its shares once more, and would be given what nobody has any use
 * for. *ret_again: when to try again. */
static hark_err try_to_give_up(hk_party *p, hk_consumer *c, int64_t *ret_again)
{
    *ret_again = p->rhythm.fails ? -1 : p->leave_again;
    if (!may_try(p))
        return HARK_ESTORE;
    *ret_again = hk_mono_ns() + BUSY_NS;
    if (pthread_mutex_trylock(&p->bus->admin) != 0)
        return hk_fail(&p->why, HARK_ETIMEDOUT, "other work on consumers here goes on");
    hark_err err = give_up(p, c);
    pthread_mutex_unlock(&p->bus->admin);
    *ret_again = p->leave_again;
    return err;
}

/* Ends it, or keeps it on the list; when to look again. */
static int64_t see_off_one(hk_party *p, hk_consumer *c)
{
    hark_sub *s = c->sub;
    int64_t again;
    hark_err err = try_to_give_up(p, c, &again);
    if (err && hk_mono_ns() < c->member.leave_by) {
        put_back(p, &p->leavers, c);
        return hk_sooner(c->member.leave_by, again);
    }
    if (err)
        owe(p, c, err);
    hk_sub_ended(s);
    hk_sub_release(s);
    return -1;
}

static hk_consumer *take_leavers(hk_party *p)
{
    pthread_mutex_lock(&p->lock);
    hk_consumer *all = p->leavers;
    p->leavers = NULL;
    pthread_mutex_unlock(&p->lock);
    return all;
}

/* ---- debts ----------------------------------------------------------------------------------- */

/* Of a consumer with this id; 0 = any. NULL: there is none. */
static hk_consumer *take_debt(hk_party *p, uint64_t consumer)
{
    pthread_mutex_lock(&p->lock);
    hk_consumer **link = &p->debts;
    while (*link && consumer && (*link)->id != consumer)
        link = &(*link)->member.next;
    hk_consumer *c = *link;
    if (c)
        *link = c->member.next;
    pthread_mutex_unlock(&p->lock);
    return c;
}

static bool owes(hk_party *p)
{
    pthread_mutex_lock(&p->lock);
    bool any = p->debts != NULL;
    pthread_mutex_unlock(&p->lock);
    return any;
}

void hk_party_forgive(hk_party *p, uint64_t consumer)
{
    for (hk_consumer *c; (c = take_debt(p, consumer)) != NULL;)
        hk_sub_release(c->sub);
}

/* Under `admin`: a consumer that is being opened must not lose what it has just been given. */
static int64_t pay_debts(hk_party *p)
{
    if (!owes(p))
        return -1;
    if (!may_try(p))
        return p->rhythm.fails ? -1 : p->leave_again;
    if (pthread_mutex_trylock(&p->bus->admin) != 0)
        return hk_mono_ns() + BUSY_NS;
    hk_consumer *c = take_debt(p, 0);
    hark_err err = c ? give_up(p, c) : HARK_OK;
    if (err)
        put_back(p, &p->debts, c);
    pthread_mutex_unlock(&p->bus->admin);
    if (c && !err)
        hk_sub_release(c->sub);
    return err ? p->leave_again : hk_mono_ns();
}

/* ---- the thread's ---------------------------------------------------------------------------- */

int64_t hk_party_see_off(hk_party *p)
{
    int64_t due = -1;
    for (hk_consumer *c = take_leavers(p), *next; c; c = next) {
        next = c->member.next;
        hk_party_beat_if_due(p);
        due = hk_sooner(due, see_off_one(p, c));
    }
    return hk_sooner(due, pay_debts(p));
}

bool hk_party_all_gone(hk_party *p)
{
    pthread_mutex_lock(&p->lock);
    bool gone = p->ended = !p->leavers;
    pthread_mutex_unlock(&p->lock);
    while (gone && owes(p)) /* the store forgets this process when it is closed */
        hk_party_forgive(p, 0);
    return gone;
}
