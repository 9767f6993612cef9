/* What is expected of a reply; for cmocka tests, on the test's own thread. */
#ifndef HK_TEST_EXPECT_H
#define HK_TEST_EXPECT_H

#include "client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define EXPECT_STATUS(r, want)                                                                     \
    do {                                                                                           \
        if ((r)->status != (want))                                                                 \
            fail_msg("status %d, expected %d: %s", (r)->status, (want), (r)->body);                \
    } while (0)
#define EXPECT_PART(text, part)                                                                    \
    do {                                                                                           \
        if (!strstr((text), (part)))                                                               \
            fail_msg("'%s' has no '%s'", (text), (part));                                          \
    } while (0)
#define EXPECT_HEADER(r, name, want)                                                               \
    do {                                                                                           \
        char v_[512];                                                                              \
        if (strcmp(reply_header((r), (name), v_, sizeof v_), (want)) != 0)                         \
            fail_msg("%s is '%s', expected '%s'; status %d: %s%s", (name), v_, (want),             \
                     (r)->status, (r)->head, (r)->body);                                           \
    } while (0)

#endif
