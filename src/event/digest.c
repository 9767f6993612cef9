/* digest.c: the stored digest by which a repeat is told from a conflict. Each part is preceded by
 * its length plus one (0 = absent), so that no two lists of parts give the same bytes. */
#include "event/event_i.h"

#include <string.h>

static void part(hk_sip *s, const void *data, size_t len)
{
    uint64_t n = data ? (uint64_t)len + 1 : 0;
    hk_sip_add(s, &n, sizeof n);
    if (data)
        hk_sip_add(s, data, len);
}

void hk_event_digest(const hark_event *e, const uint8_t key[16], uint8_t ret[16])
{
    static const int parts[] = {HK_AT_TYPE, HK_AT_SUBJECT, HK_AT_CONTENTTYPE, HK_AT_SCHEMA,
                                HK_AT_KEY};
    hk_sip s;
    hk_sip_init(&s, key);
    for (size_t i = 0; i < HK_COUNTOF(parts); i++) {
        const char *v = e->at[parts[i]] ? (const char *)e + e->at[parts[i]] : NULL;
        part(&s, v, v ? strlen(v) : 0);
    }
    uint64_t version = (uint64_t)e->dataversion;
    hk_sip_add(&s, &version, sizeof version);
    part(&s, e->data, e->data_len);
    hk_sip_end(&s, ret);
}
