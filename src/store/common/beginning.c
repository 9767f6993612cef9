/* beginning: a statement of the program's, short enough for a text. */
#include "store/common/common.h"

#include <string.h>

const char *hk_sql_beginning(const char *sql, char ret[HK_SQL_BEGINNING + 4])
{
    size_t n = 0;
    bool gap = false;
    for (; *sql; sql++) {
        bool blank = (unsigned char)*sql <= ' ', space = !blank && gap && n > 0;
        if (!blank && n + space >= HK_SQL_BEGINNING)
            break;
        if (space)
            ret[n++] = ' ';
        if (!blank)
            ret[n++] = *sql;
        gap = blank;
    }
    n = hk_utf8_valid(ret, n);
    memcpy(ret + n, *sql ? "..." : "", *sql ? 4 : 1);
    return ret;
}
