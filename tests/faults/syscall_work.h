/* The events of syscall_victim, for it and for the test that looks at what is left of them. */
#ifndef HK_FAULTS_SYSCALL_WORK_H
#define HK_FAULTS_SYSCALL_WORK_H

#include <hark/hark.h>
#include <stdio.h>
#include <string.h>

#define SYSCALL_EVENTS 3

/* Event i has the id "e-<i>" and i * 3000 + 10 bytes, so that some span pages. */
static inline size_t syscall_data(int i, char buf[16384])
{
    size_t len = (size_t)i * 3000 + 10;
    memset(buf, 'a' + i, len);
    return len;
}

static inline hark_err syscall_publish(hark_bus *bus, int i, hark_receipt *ret)
{
    char id[16], data[16384];
    (void)snprintf(id, sizeof id, "e-%d", i);
    size_t len = syscall_data(i, data);
    return hark_publish(bus,
                        HARK_OPTS(hark_event_spec, .type = "small:step", .id = id, .source = "/v",
                                  .subject = "one", .data = data, .data_len = len),
                        ret);
}

static inline hark_err syscall_consume(hark_bus *bus, hark_handler_fn fn, void *ud, hark_sub **ret)
{
    return hark_subscribe(bus, "small:*", fn, ud,
                          HARK_OPTS(hark_sub_opts, .consumer = "steps", .start = HARK_START_FIRST,
                                    .retry_delay_ms = 10),
                          ret, NULL);
}

#endif
