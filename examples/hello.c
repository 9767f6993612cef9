#include <hark/hark.h>
#include <stdio.h>

static hark_verdict greet(hark_delivery *d, void *ud)
{
    size_t len;
    const char *name = hark_event_data(hark_delivery_event(d), &len);
    printf("%s %.*s\n", (const char *)ud, (int)len, name);
    return HARK_ACK; /* or HARK_RETRY, or HARK_REJECT */
}

int main(void)
{
    hark_bus *bus;
    hark_errinfo ei;
    const hark_sub_opts *durable = HARK_OPTS(hark_sub_opts, .consumer = "greeter");
    if (hark_open("sqlite:hello.db", NULL, &bus, &ei) ||
        hark_subscribe(bus, "user:*", greet, "Hello", durable, NULL, &ei) ||
        hark_publish_ei(
            bus, HARK_OPTS(hark_event_spec, .type = "user:created", .data = "Ann", .data_len = 3),
            NULL, &ei)) /* on disk when it returns */
        return fprintf(stderr, "%s\n", ei.text), 1;
    getchar();           /* the handler runs on a thread of the bus */
    hark_bus_unref(bus); /* what was not handled is handled at the next start */
    return 0;
}
