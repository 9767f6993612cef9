/* The events of syscall_victim, for it and for the test that looks at what is left of them. */
#ifndef HK_FAULTS_SYSCALL_WORK_H
#define HK_FAULTS_SYSCALL_WORK_H

#include <hark/hark.h>
#include <stdio.h>
#include <string.h>

#define SYSCALL_EVENTS 3
/* One more is scheduled. Event 1 is retried once, event 2 is a dead letter until it is redriven. */
#define SYSCALL_LATE SYSCALL_EVENTS
#define SYSCALL_ALL  (SYSCALL_EVENTS + 1)

/* Event i has the id "e-<i>" and i * 3000 + 10 bytes, so that some span pages. */
static inline size_t syscall_data(int i, char buf[16384])
{
    size_t len = (size_t)i * 3000 + 10;
    memset(buf, 'a' + i, len);
    return len;
}

static inline hark_event_spec syscall_spec(int i, char id[16], char data[16384])
{
    (void)snprintf(id, 16, "e-%d", i);
    return (hark_event_spec){.size = sizeof(hark_event_spec),
                             .type = "small:step",
                             .id = id,
                             .source = "/v",
                             .subject = "one",
                             .data = data,
                             .data_len = syscall_data(i, data)};
}

static inline hark_err syscall_publish(hark_bus *bus, int i, hark_receipt *ret)
{
    char id[16], data[16384];
    hark_event_spec spec = syscall_spec(i, id, data);
    return hark_publish(bus, &spec, ret);
}

static inline hark_err syscall_schedule(hark_bus *bus)
{
    char id[16], data[16384];
    hark_event_spec spec = syscall_spec(SYSCALL_LATE, id, data);
    return hark_schedule(bus, &spec, hark_after(1), NULL, NULL);
}

static inline hark_err syscall_consume(hark_bus *bus, hark_handler_fn fn, void *ud, hark_sub **ret)
{
    return hark_subscribe(bus, "small:*", fn, ud,
                          HARK_OPTS(hark_sub_opts, .consumer = "steps", .start = HARK_START_FIRST,
                                    .retry_delay_ms = 10),
                          ret, NULL);
}

#endif
