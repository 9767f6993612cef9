/* several_i.h: several stores of one test on one log, as processes have them, and SQL beside them. */
#ifndef HK_SEVERAL_I_H
#define HK_SEVERAL_I_H

#include "store/store_test_i.h"

#include "servers.h"

#include <libpq-fe.h>

enum { SEVERAL = 3 };

typedef struct several {
    fixture at[SEVERAL];
    char schema[32];
} several;

static server *the_server;
static unsigned n_logs;

static inline int set_up_several(void **state)
{
    several *x = calloc(1, sizeof *x);
    assert_non_null(x);
    (void)snprintf(x->schema, sizeof x->schema, "hark_several%u", ++n_logs);
    for (size_t i = 0; i < SEVERAL; i++) {
        (void)snprintf(x->at[i].url, sizeof x->at[i].url, "%s?log=several%u",
                       server_url(the_server), n_logs);
        open_store(&x->at[i]);
    }
    *state = x;
    return 0;
}

static inline int tear_down_several(void **state)
{
    several *x = *state;
    for (size_t i = 0; i < SEVERAL; i++)
        x->at[i].ops->close(x->at[i].store);
    free(x);
    return 0;
}

#define SEVERAL(test) cmocka_unit_test_setup_teardown(test, set_up_several, tear_down_several)

/* Of one statement with "%s" for the schema: the first value as a number, 0 without one. */
static inline long long run_in(const several *x, const char *fmt)
{
    char sql[512];
    PGconn *c = PQconnectdb(server_url(the_server));
    (void)snprintf(sql, sizeof sql, fmt, x->schema, x->schema, x->schema);
    PGresult *r = PQexec(c, sql);
    if (PQresultStatus(r) != PGRES_COMMAND_OK && PQresultStatus(r) != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(c));
    long long n = PQntuples(r) > 0 ? strtoll(PQgetvalue(r, 0, 0), NULL, 10) : 0;
    PQclear(r);
    PQfinish(c);
    return n;
}

/* In a group that is there; ids as given. */
static inline hark_err append_id(fixture *f, const char *id, const char *subject,
                                 hark_store_append *ret)
{
    *ret = (hark_store_append){.event = event_of(HARK_OPTS(hark_event_spec, .type = "t", .id = id,
                                                           .source = "/test", .subject = subject)),
                               .fresh_id = !id};
    hk_event_digest(ret->event, f->info.log_id, ret->digest);
    hark_err err = f->ops->append(f->store, ret, 1, &f->ei);
    (void)hark_event_unref(ret->event);
    return err;
}

#endif
