/* See fixture.h. */
#include "fixture.h"

#include "base/base.h"

#include <sched.h>
#include <stdio.h>

void fixture_new(fixture *f, fake_mode mode, const hark_app_opts *opts)
{
    hark_errinfo ei = {0};
    hark_app_opts o = opts ? *opts : (hark_app_opts){.size = sizeof o};
    *f = (fixture){.bus = fake_bus_new(mode)};
    o.bus = f->bus;
    if (!o.loops)
        o.loops = 2;
    if (hark_app_new(&o, &f->app, &ei))
        fail_msg("%s", ei.text);
}

void fixture_start(fixture *f)
{
    hark_errinfo ei = {0};
    if (hark_app_listen(f->app, "127.0.0.1:0", &ei) || hark_app_start(f->app, &ei))
        fail_msg("%s", ei.text);
    f->port = hark_app_port(f->app);
}

void fixture_end(fixture *f)
{
    hark_errinfo ei = {0};
    hark_err err = hark_app_stop(f->app, &ei);
    hark_app_unref(f->app);
    hark_bus_unref(f->bus);
    if (err)
        fail_msg("%s", ei.text);
}

void fixture_yield(int64_t *until_ms, const char *what, const char *file, int line)
{
    if (!*until_ms)
        *until_ms = hk_mono_ms() + 30000;
    if (hk_mono_ms() > *until_ms) {
        fprintf(stderr, "%s:%d: hung waiting for %s\n", file, line, what);
        abort();
    }
    sched_yield();
}

hark_err say_hello(hark_ctx *c, void *ud)
{
    (void)ud;
    return hark_ctx_text(c, 200, "hello");
}
