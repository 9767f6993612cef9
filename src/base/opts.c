/* opts.c: taking options structs whose first member is their size. */
#include "base/base.h"

#include <string.h>

hark_err hk_opts_take(const void *opts, void *ret, size_t known, const char *name, hark_errinfo *ei)
{
    memset(ret, 0, known);
    memcpy(ret, &known, sizeof known);
    if (!opts)
        return HARK_OK;
    size_t given;
    memcpy(&given, opts, sizeof given);
    if (given < sizeof given || given > 65536)
        return hk_fail(ei, HARK_EINVAL, "%s: size is %zu; write it with HARK_OPTS(%s, ...)", name,
                       given, name);
    const unsigned char *bytes = opts;
    for (size_t i = known; i < given; i++)
        if (bytes[i])
            return hk_fail(ei, HARK_EINVAL,
                           "%s: byte %zu is set, which this version of the library does not know",
                           name, i);
    memcpy(ret, opts, given < known ? given : known);
    memcpy(ret, &known, sizeof known);
    return HARK_OK;
}
