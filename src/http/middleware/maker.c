/* maker: what the constructors of middleware have in common. They return it by value and cannot fail,
 * so an error goes into the result, for hark_app_use. */
#include "http/middleware/shared_i.h"

#include <stdio.h>

hark_middleware hk_make(const hk_maker *m, const void *opts, void *room)
{
    hark_middleware mw = {.fn = m->run, .free_ud = m->free_state};
    hark_errinfo ei = {0};
    char name[64];
    (void)snprintf(name, sizeof name, "%s_opts", m->name);
    mw.err = hk_opts_take(opts, room, m->opts_size, name, &ei);
    if (!mw.err) {
        mw.ud = hk_zalloc_lines(m->state_size); /* some have locks on lines of their own */
        mw.err = mw.ud ? m->take(mw.ud, room, &ei)
                       : hk_fail(&ei, HARK_ENOMEM, "%s: out of memory", m->name);
    }
    (void)snprintf(mw.text, sizeof mw.text, "%.199s", ei.text);
    return mw;
}
