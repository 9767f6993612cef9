/* The parts of static_files that need no file. */
#ifndef HK_STATIC_FILES_I_H
#define HK_STATIC_FILES_I_H

#include <stdint.h>
#include <time.h>

#define HK_HTTP_DATE 32

/* "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110 section 5.6.7), in every locale. */
void hk_http_date(time_t t, char ret[HK_HTTP_DATE]);

/* One range of bytes: 206 and what to send, 416, or 200 for what we do not understand. */
int hk_range(const char *text, uint64_t size, uint64_t *ret_from, uint64_t *ret_len);

/* Media type by the end of a name. */
const char *hk_media_of(const char *name);

#endif
