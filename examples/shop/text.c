/* text.c: control characters in UTF-8: below the space, DEL, and U+0080 to U+009F, which terminals
 * obey as well. */
#include "shop.h"

#include <string.h>

/* Bytes of the control character that `at` begins with; 0 = it is another one. */
static size_t control(const unsigned char *at)
{
    if (at[0] < ' ' || at[0] == 0x7f)
        return 1;
    return at[0] == 0xc2 && at[1] >= 0x80 && at[1] < 0xa0 ? 2 : 0;
}

bool text_is_plain(const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    while (*at && !control(at))
        at++;
    return !*at;
}

void text_make_plain(char *text)
{
    for (unsigned char *at = (unsigned char *)text; *at; at++)
        memset(at, '?', control(at));
}
