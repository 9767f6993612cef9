/* A bus for the tests of the HTTP layer, in place of the real one: it stores nothing, answers when
 * and how the test says, and remembers what was published. */
#ifndef HK_TEST_FAKE_BUS_H
#define HK_TEST_FAKE_BUS_H

#include <hark/bus.h>

typedef enum fake_mode {
    FAKE_SYNC,  /* receipts come inside the call, as with memory: */
    FAKE_ASYNC, /* from a thread of its own, in batches, as with a log */
    FAKE_HELD,  /* when fake_bus_release is called */
    FAKE_FULL   /* the call itself fails with HARK_EAGAIN */
} fake_mode;

hark_bus *fake_bus_new(fake_mode mode);
void fake_bus_outcome(hark_bus *b, hark_err err); /* of publishes from now on */
void fake_bus_release(hark_bus *b);               /* FAKE_HELD: answers all that wait */
size_t fake_bus_waiting(hark_bus *b);
size_t fake_bus_count(hark_bus *b, const char *type);
/* Copies an attribute of the newest event: type, id, source, correlationid, causationid, data. */
void fake_bus_last(hark_bus *b, const char *what, char *ret, size_t size);

#endif
