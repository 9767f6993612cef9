/* recover: an error of what follows becomes a problem document here, so that middleware before this
 * one sees an answered request. (C has no exceptions; a crash ends the process.) */
#include "http/http_i.h"

static hark_err run(hark_ctx *c, void *ud)
{
    (void)ud;
    hark_err err = hark_ctx_next(c);
    if (!err || c->deferred)
        return err;
    return hark_ctx_problem_of(c, err);
}

hark_middleware hark_recover(const void *opts)
{
    if (opts)
        return (hark_middleware){.err = HARK_EINVAL, .text = "hark_recover takes no options yet"};
    return (hark_middleware){.fn = run};
}
