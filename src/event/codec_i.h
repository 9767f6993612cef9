/* codec_i.h: what the two halves of the CloudEvents JSON codec must agree on. */
#ifndef HK_CODEC_I_H
#define HK_CODEC_I_H

#include "event/event_i.h"

/* May these bytes stand in a document as the raw value of `data`? That is JSON without duplicate
 * names, nested to HK_JSON_DEPTH_DEFAULT at most; an envelope's own levels do not count. */
bool hk_data_is_json(const void *data, size_t len);

#endif
