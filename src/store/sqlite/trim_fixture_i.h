/* fixture: what the tests of retention share. <cmocka.h> comes before it. */
#ifndef HK_SQLITE_TRIM_FIXTURE_I_H
#define HK_SQLITE_TRIM_FIXTURE_I_H

#include "store/sqlite/fixture_i.h"
#include "store/sqlite/store_i.h"

#define LONG INT64_C(60000000000)

static inline uint64_t last_sequence(fixture *f)
{
    hark_store_info info;
    OPS.info(f->store, &info);
    return info.last_sequence;
}

/* Appends one event a letter, of the type with that name, in a group of its own each. */
static inline void add_types(fixture *f, const char *letters)
{
    for (; *letters; letters++) {
        char type[2] = {*letters, '\0'}, id[24];
        (void)snprintf(id, sizeof id, "after %d", (int)last_sequence(f));
        begin(f);
        (void)add(f, type, id);
        commit(f);
    }
}

static inline void add_subject(fixture *f, const char *type, const char *subject, const char *id)
{
    begin(f);
    (void)add_spec(f, HARK_OPTS(hark_event_spec, .type = type, .id = id, .source = "/test",
                                .subject = subject));
    commit(f);
}

static inline hark_err trim_once(fixture *f, hark_store_trim *t)
{
    t->size = sizeof *t;
    begin(f);
    hark_err err = OPS.trim(f->store, t, &f->ei);
    if (err && hark_err_class(err) != HARK_CLASS_REFUSED)
        OPS.rollback(f->store);
    else
        commit(f);
    return err;
}

/* To the end, in one call. */
static inline uint64_t trim(fixture *f, hark_store_trim t)
{
    t.budget_ns = LONG;
    assert_ok(f, trim_once(f, &t));
    assert_int_equal(t.ret_more, 0);
    return t.ret_removed;
}

static inline int64_t recorded(fixture *f, uint64_t seq)
{
    page pg = {0};
    assert_ok(f, read_into(f, &pg, (hark_store_query){.after = seq - 1, .limit = 1}));
    int64_t ns = hark_event_recorded_ns(pg.events[0]);
    drop_page(&pg);
    return ns;
}

static inline uint64_t first_sequence(fixture *f)
{
    hark_store_info info;
    OPS.info(f->store, &info);
    return info.first_sequence;
}

#endif
