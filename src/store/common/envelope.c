/* Events that are kept outside the log, by dead letters and schedules: the attributes as
 * CloudEvents JSON, the data byte for byte beside it, and both together as an event again. */
#include "store/common/common.h"

#include "event/event.h"

#include <stdlib.h>

/* The publisher's own text of the time stays, whatever its length; without one the clock's time
 * stays what it was. */
static void borrow(const hark_event *e, hark_ext ext[HARK_EXTENSIONS_MAX],
                   char time[HARK_TIME_TEXT], hark_event_spec *ret)
{
    hark_event_to_spec(e, ext, time, ret);
    ret->time = hk_event_time_given(e);
}

hark_err hk_envelope_text(const hark_event *e, char **ret, size_t *ret_len, hark_errinfo *ei)
{
    hark_ext ext[HARK_EXTENSIONS_MAX];
    char time[HARK_TIME_TEXT];
    hark_event_spec spec;
    hark_event *bare;
    borrow(e, ext, time, &spec);
    spec.data = NULL;
    spec.data_len = 0;
    hark_err err =
        hk_event_make(&spec, NULL, hark_event_time_ns(e), 1, 0, HK_EVENT_TRUSTED, &bare, ei);
    if (err)
        return err;
    err = hark_event_to_json(bare, ret, ret_len);
    hark_event_unref(bare);
    return err ? hk_fail(ei, err, "no memory for the envelope of an event") : HARK_OK;
}

static hark_err damaged(hark_err err, const char *what, const hark_errinfo *why, hark_errinfo *ei)
{
    if (err == HARK_ENOMEM)
        return hk_fail(ei, err, "no memory for the event of %s", what);
    return hk_fail(ei, HARK_ECORRUPT,
                   "the event of %s is damaged (%.200s); restore the file from a backup", what,
                   why->text);
}

hark_err hk_envelope_event(const char *json, size_t len, const void *data, size_t data_len,
                           const char *what, hark_event **ret, hark_errinfo *ei)
{
    hark_ext ext[HARK_EXTENSIONS_MAX];
    char time[HARK_TIME_TEXT];
    hark_event_spec spec;
    hark_event *bare;
    hark_errinfo why = {0};
    hark_err err = hark_event_from_json(json, len, NULL, &bare, &why);
    if (err)
        return damaged(err, what, &why, ei);
    borrow(bare, ext, time, &spec);
    spec.data = data;
    spec.data_len = data_len;
    err = hk_event_make(&spec, NULL, hk_wall_ns(), 1, 0, HK_EVENT_TRUSTED, ret, &why);
    hark_event_unref(bare);
    return err ? damaged(err, what, &why, ei) : HARK_OK;
}
