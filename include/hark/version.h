/* hark/version.h: the version of the library, at compile time and at run time. */
#ifndef HARK_VERSION_H
#define HARK_VERSION_H

#include <hark/error.h>

#define HARK_VERSION_MAJOR 0
#define HARK_VERSION_MINOR 1
#define HARK_VERSION_PATCH 0
#define HARK_VERSION       "0.1.0"

#ifdef __cplusplus
extern "C" {
#endif

/* Version of the library that is loaded, e.g. "0.1.0"; compare it with HARK_VERSION.
 * Ownership: static string.
 * Threads: any.
 * Blocks: no.
 * Errors: none. */
HARK_API const char *hark_version(void);

#ifdef __cplusplus
}
#endif
#endif
