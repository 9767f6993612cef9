/* Publishes order:created as older shops did, into a log that no shop has opened yet: data from
 * files, each with its dataversion. It knows nothing of the shop's versions.
 * Usage: shop_seed STORE VERSION FILE [VERSION FILE]... */
#include <hark/hark.h>
#include <stdio.h>
#include <stdlib.h>

static void must(hark_err err, const hark_errinfo *ei)
{
    if (err)
        exit((fprintf(stderr, "shop_seed: %s\n", ei->text), 1));
}

static void seed(hark_bus *bus, const char *version, const char *path)
{
    char data[4096], subject[40] = "";
    hark_errinfo ei;
    FILE *f = fopen(path, "r");
    size_t len = f ? fread(data, 1, sizeof data - 1, f) : 0;
    data[len] = '\0';
    if (!f || sscanf(data, "{\"id\":\"%39[^\"]\"", subject) != 1)
        exit((fprintf(stderr, "shop_seed: %s does not begin with an id\n", path), 1));
    fclose(f);
    must(hark_publish_ei(bus,
                         HARK_OPTS(hark_event_spec, .type = "order:created", .subject = subject,
                                   .source = "/shop", .dataversion = atoi(version), .json = data),
                         NULL, &ei),
         &ei);
}

int main(int argc, char **argv)
{
    hark_bus *bus;
    hark_errinfo ei;
    if (argc < 4 || argc % 2)
        return fprintf(stderr, "usage: shop_seed STORE VERSION FILE [VERSION FILE]...\n"), 2;
    must(hark_open(argv[1], NULL, &bus, &ei), &ei);
    for (int i = 2; i < argc; i += 2)
        seed(bus, argv[i], argv[i + 1]);
    hark_bus_unref(bus);
    return 0;
}
