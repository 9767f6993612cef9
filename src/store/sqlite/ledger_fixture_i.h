/* fixture: what the tests of the ledger share: consumers, saves, and dead letters made in one line.
 * <cmocka.h> comes before it. */
#ifndef HK_SQLITE_LEDGER_FIXTURE_I_H
#define HK_SQLITE_LEDGER_FIXTURE_I_H

#include "store/sqlite/fixture_i.h"

enum { NOW, FIRST, SEQUENCE, TIME }; /* hark_start */

static inline hark_store_consumer consumer(const char *name)
{
    return (hark_store_consumer){
        .size = sizeof(hark_store_consumer), .name = name, .pattern = "t", .policy = "p"};
}

/* Opens a consumer in a group of its own. What it held from the last time is dropped. */
static inline hark_err load(fixture *f, hark_store_consumer *c)
{
    hark_store_consumer_clear(c);
    begin(f);
    hark_err err = OPS.consumer_open(f->store, c, &f->ei);
    commit(f);
    return err;
}

static inline hark_store_save save_of(const hark_store_consumer *c)
{
    return (hark_store_save){.size = sizeof(hark_store_save),
                             .consumer = c->ret_id,
                             .generation = c->ret_generation,
                             .floor = c->ret_floor,
                             .highest = c->ret_highest};
}

static inline void save(fixture *f, const hark_store_save *v)
{
    begin(f);
    assert_ok(f, OPS.consumer_save(f->store, v, &f->ei));
    commit(f);
}

static inline void add_five(fixture *f)
{
    static const char *const ids[] = {"1", "2", "3", "4", "5"};
    for (size_t i = 0; i < 5; i++) {
        begin(f);
        (void)add(f, "t", ids[i]);
        commit(f);
    }
}

/* A consumer, loaded; give it to hark_store_consumer_clear. */
static inline hark_store_consumer loaded(fixture *f, const char *name)
{
    hark_store_consumer c = consumer(name);
    assert_ok(f, load(f, &c));
    return c;
}

/* Puts one open row. */
static inline void put_row(fixture *f, const hark_store_consumer *c, const hark_store_row *row)
{
    hark_store_save v = save_of(c);
    v.put = row;
    v.n_put = 1;
    save(f, &v);
}

static inline void drop_row(fixture *f, const hark_store_consumer *c, uint64_t seq)
{
    hark_store_save v = save_of(c);
    v.drop = &seq;
    v.n_drop = 1;
    save(f, &v);
}

/* Makes a dead letter of the event at `seq`; with a row that parks its lane if `park`. Returns its
 * id. */
static inline uint64_t bury(fixture *f, const hark_store_consumer *c, uint64_t seq,
                            const char *reason, bool park)
{
    page pg = {0};
    hark_store_save v = save_of(c);
    assert_ok(f, read_into(f, &pg, (hark_store_query){.after = seq - 1, .limit = 1}));
    assert_int_equal(hark_event_sequence(pg.events[0]), seq);
    hark_store_row row = {
        .sequence = seq, .state = HARK_ROW_DEAD, .key = hark_event_key(pg.events[0])};
    hark_store_dead dead = {.event = pg.events[0],
                            .reason = reason,
                            .error = "no",
                            .attempts = 3,
                            .crashes = 2,
                            .interruptions = 1,
                            .first_ns = 5,
                            .dead_ns = (int64_t)seq * 10};
    v.dead = &dead;
    v.n_dead = 1;
    v.put = &row;
    v.n_put = park;
    v.drop = &seq;
    v.n_drop = !park;
    save(f, &v);
    drop_page(&pg);
    return dead.ret_id;
}

#endif
