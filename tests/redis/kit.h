/* What the tests of redis+pubsub: share: a real server for the program, a prefix of its own for each
 * test, two buses on it, and a listener that keeps what a live subscription was handed. Waiting and
 * asserting are those of the conformance tests. */
#ifndef HK_REDIS_KIT_H
#define HK_REDIS_KIT_H

#include "../conformance/fixture.h"
#include "proxy.h"
#include "servers.h"

enum { HEARD_MAX = 20000 };

typedef struct heard {
    uint64_t seq, from, to; /* of a gap: from and to, and why */
    hark_gap_cause cause;
    char type[48], data[48];
} heard;

typedef struct listener {
    atomic_size_t n;
    latch *at; /* every call waits here; NULL = none does */
    hark_sub *sub;
    heard list[HEARD_MAX];
} listener;

typedef struct kit {
    fixture f; /* its bus is the first one */
    hark_bus *other;
    char prefix[32];
    listener *listeners[4];
    size_t n_listeners;
    latch at; /* for those that are to be slow; initialised */
} kit;

extern server *redis; /* the program's */

/* Runs a program's tests with a server. */
int kit_main(const char *subject, const struct CMUnitTest *tests, size_t n);
#define KIT_TEST(fn) cmocka_unit_test_setup_teardown(fn, kit_set_up, kit_tear_down)
int kit_set_up(void **state); /* opens both buses */
int kit_tear_down(void **state);

/* "redis+pubsub://127.0.0.1:PORT/PREFIX" */
void kit_url(const kit *k, int port, char *ret, size_t size);
/* A subscription with HARK_SUB_GAPS and these options; closed and freed with the kit. */
listener *listen_with(kit *k, hark_bus *bus, const char *pattern, latch *at,
                      const hark_sub_opts *opts);
listener *listen_to(kit *k, hark_bus *bus, const char *pattern);
void wait_heard(listener *l, size_t n);
/* The place of the first gap; HEARD_MAX = none yet. */
size_t gap_in(listener *l);
size_t gap_from(listener *l, size_t at); /* of those from `at` on */

/* Publishes an event whose data is a JSON number. */
hark_err say(hark_bus *bus, const char *type, int number, hark_errinfo *ei);

/* One command to the server, as text: an integer or a string; NULL is a failure. Valid until the next
 * call. Words are separated by spaces. */
const char *ask(const char *fmt, ...) HARK_PRINTF(1, 2);
/* Ends the connections whose name begins so; how many there were. */
size_t kill_clients(const char *name);

#endif
