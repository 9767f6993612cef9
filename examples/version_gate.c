/* version_gate: does this program still read everything that is in that database? For CI, with a
 * copy of the real one: exit status 0 = yes; 1 = no, and what is missing; 2 = it could not look.
 * docs/how-to/versions.md. Usage: version_gate DATABASE, a file of SQLite's or a store's URL */
#include "order_versions.h"

#include <hark/hark.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static bool print_version(const hark_version_info *v, void *ud)
{
    (void)ud;
    printf("%s version %" PRId64 ": %" PRIu64 " events, %" PRIu64 " dead letters, %" PRIu64
           " scheduled%s%s\n",
           v->type, v->version, v->events, v->dead_letters, v->schedules,
           v->readable ? "" : " - NOT READABLE: ", v->why);
    return true;
}

static int look(hark_bus *bus)
{
    hark_errinfo ei;
    hark_err err = order_versions_add(bus, &ei);
    if (!err)
        err = hark_versions(bus, print_version, NULL, &ei);
    if (!err)
        err = hark_versions_check(bus, NULL, NULL, &ei);
    if (err)
        fprintf(stderr, "version_gate: %s\n", ei.text);
    return err == HARK_EUPCAST ? 1 : err ? 2 : 0;
}

int main(int argc, char **argv)
{
    char url[4096];
    hark_bus *bus;
    hark_errinfo ei;
    const char *scheme = argc == 2 && strchr(argv[1], ':') ? "" : "sqlite:";
    if (argc != 2 || snprintf(url, sizeof url, "%s%s", scheme, argv[1]) >= (int)sizeof url)
        return fprintf(stderr, "usage: version_gate DATABASE|URL\n"), 64;
    const hark_bus_opts *opts = HARK_OPTS(hark_bus_opts, .flags = HARK_OPEN_EXISTING);
    if (hark_open(url, opts, &bus, &ei))
        return fprintf(stderr, "version_gate: %s\n", ei.text), 2;
    int status = look(bus);
    hark_bus_unref(bus);
    return status;
}
