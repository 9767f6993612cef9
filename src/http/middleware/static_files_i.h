/* The parts of static_files that need no file. */
#ifndef HK_STATIC_FILES_I_H
#define HK_STATIC_FILES_I_H

#include <stdint.h>

/* One range of bytes: 206 and what to send, 416, or 200 for what we do not understand. */
int hk_range(const char *text, uint64_t size, uint64_t *ret_from, uint64_t *ret_len);

/* Media type by the end of a name. */
const char *hk_media_of(const char *name);

#endif
