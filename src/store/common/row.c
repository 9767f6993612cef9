/* Events as rows and rows as events. */
#include "store/common/common.h"

#include "event/event.h"

#include <string.h>

static void set_text(hk_row *r, hk_row_text i, const char *s)
{
    r->text[i].s = s;
    r->text[i].len = s ? strlen(s) : 0;
}

void hk_row_of(const hark_event *e, hk_row *r)
{
    set_text(r, HK_ROW_SOURCE, hark_event_source(e));
    set_text(r, HK_ROW_ID, hark_event_id(e));
    r->text[HK_ROW_TYPE].s = hark_event_type(e);
    r->text[HK_ROW_TYPE].len = hk_event_type_len(e);
    set_text(r, HK_ROW_MEDIA, hark_event_datacontenttype(e));
    set_text(r, HK_ROW_SUBJECT, hark_event_subject(e));
    set_text(r, HK_ROW_KEY, hark_event_partitionkey(e));
    set_text(r, HK_ROW_CORRELATION, hark_event_correlationid(e));
    set_text(r, HK_ROW_CAUSATION, hark_event_causationid(e));
    set_text(r, HK_ROW_ATTRS, NULL);
    r->text[HK_ROW_DATA].s = hark_event_data(e, &r->text[HK_ROW_DATA].len);
    r->time = hark_event_time_ns(e);
    r->dataversion = hark_event_dataversion(e);
    r->subject_version = 0;
}

hark_err hk_row_event(const hk_row *r, hark_event **ret, hark_errinfo *ei)
{
    hark_ext ext[HARK_EXTENSIONS_MAX];
    hk_buf strings = {0};
    const struct hk_text *t = r->text, *attrs = &r->text[HK_ROW_ATTRS];
    hark_event_spec spec = {.size = sizeof spec,
                            .type = t[HK_ROW_TYPE].s,
                            .id = t[HK_ROW_ID].s,
                            .source = t[HK_ROW_SOURCE].s,
                            .subject = t[HK_ROW_SUBJECT].s,
                            .key = t[HK_ROW_KEY].s,
                            .datacontenttype = t[HK_ROW_MEDIA].s,
                            .correlationid = t[HK_ROW_CORRELATION].s,
                            .causationid = t[HK_ROW_CAUSATION].s,
                            .dataversion = r->dataversion,
                            .data = t[HK_ROW_DATA].s,
                            .data_len = t[HK_ROW_DATA].len,
                            .extensions = ext};
    hark_err err = HARK_OK;
    if (attrs->s && !hk_attrs_parse(attrs->s, attrs->len, &strings, ext, &spec.n_extensions, &spec))
        err = strings.failed ? hk_fail(ei, HARK_ENOMEM, "no memory for an event's attributes")
                             : HARK_ECORRUPT;
    if (!err)
        err = hk_event_make(&spec, NULL, r->time, 1, 0, HK_EVENT_TRUSTED, ret, ei);
    hk_buf_free(&strings);
    if (err)
        return err;
    hark_event_stamp(*ret, r->seq, r->recorded);
    hark_event_stamp_subject(*ret, r->subject_version);
    return HARK_OK;
}
