/* clock.c: the clocks, and RFC 3339 text. Calendar arithmetic is on days since 1970 in the
 * proleptic Gregorian calendar. */
#include "base/base.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define NS INT64_C(1000000000)

int64_t hk_wall_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * NS + t.tv_nsec;
}

int64_t hk_mono_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * NS + t.tv_nsec;
}

static void put(char *p, int64_t value, int digits)
{
    for (int i = digits - 1; i >= 0; i--, value /= 10)
        p[i] = (char)('0' + value % 10);
}

size_t hk_rfc3339_format(int64_t wall_ns, int digits, char ret[HK_RFC3339_MAX])
{
    int64_t seconds = wall_ns / NS, fraction = wall_ns % NS;
    if (fraction < 0) {
        fraction += NS;
        seconds--;
    }
    time_t t = (time_t)seconds;
    struct tm tm;
    gmtime_r(&t, &tm);
    put(ret, tm.tm_year + 1900, 4);
    ret[4] = '-';
    put(ret + 5, tm.tm_mon + 1, 2);
    ret[7] = '-';
    put(ret + 8, tm.tm_mday, 2);
    ret[10] = 'T';
    put(ret + 11, tm.tm_hour, 2);
    ret[13] = ':';
    put(ret + 14, tm.tm_min, 2);
    ret[16] = ':';
    put(ret + 17, tm.tm_sec, 2);
    size_t n = 19;
    if (digits > 0) {
        int64_t unit = digits == 3 ? 1000000 : digits == 6 ? 1000 : 1;
        int width = digits == 3 ? 3 : digits == 6 ? 6 : 9;
        ret[n++] = '.';
        put(ret + n, fraction / unit, width);
        n += (size_t)width;
    }
    ret[n++] = 'Z';
    ret[n] = '\0';
    return n;
}

static bool digits_at(const char *s, size_t n, int *ret)
{
    int v = 0;
    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9')
            return false;
        v = v * 10 + (s[i] - '0');
    }
    *ret = v;
    return true;
}

static bool leap(int y)
{
    return (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
}

static int days_in(int y, int m)
{
    static const unsigned char days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return days[m - 1] + (m == 2 && leap(y));
}

/* Days from 1970-01-01; years are counted from March so that a leap day comes last. */
static int64_t days_from_civil(int y, int m, int d)
{
    int64_t year = m <= 2 ? y - 1 : y;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t of_era = year - era * 400;
    int64_t of_year = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

/* ".123" -> 123000000 ns and 3 digits; those past the ninth are cut. Moves *i past it. */
static bool fraction_at(const char *s, size_t len, size_t *i, int64_t *ret, size_t *ret_digits)
{
    *ret = 0;
    *ret_digits = 0;
    if (*i >= len || s[*i] != '.')
        return true;
    size_t start = ++*i;
    int64_t unit = NS / 10;
    for (; *i < len && s[*i] >= '0' && s[*i] <= '9'; ++*i, unit /= 10)
        *ret += (s[*i] - '0') * unit;
    *ret_digits = *i - start;
    return *i > start;
}

/* "Z", "+01:30" at the end, in seconds to subtract. */
static bool offset_at(const char *s, size_t len, size_t i, int64_t *ret)
{
    *ret = 0;
    if (i >= len)
        return false;
    if (s[i] == 'Z' || s[i] == 'z')
        return i + 1 == len;
    int h, m;
    if ((s[i] != '+' && s[i] != '-') || len - i != 6 || s[i + 3] != ':' ||
        !digits_at(s + i + 1, 2, &h) || !digits_at(s + i + 4, 2, &m) || h > 23 || m > 59)
        return false;
    *ret = (h * 3600 + m * 60) * (s[i] == '+' ? 1 : -1);
    return true;
}

typedef struct parts {
    int year;
    int second;
    int64_t seconds; /* since 1970, in UTC; a second 60 is the next one */
    int64_t fraction;
    size_t digits; /* of the fraction */
} parts;

static bool read_parts(const char *s, size_t len, parts *ret)
{
    int mo, d, h, mi;
    if (len < 20 || s[4] != '-' || s[7] != '-' || (s[10] != 'T' && s[10] != 't') || s[13] != ':' ||
        s[16] != ':' || !digits_at(s, 4, &ret->year) || !digits_at(s + 5, 2, &mo) ||
        !digits_at(s + 8, 2, &d) || !digits_at(s + 11, 2, &h) || !digits_at(s + 14, 2, &mi) ||
        !digits_at(s + 17, 2, &ret->second))
        return false;
    if (mo < 1 || mo > 12 || d < 1 || d > days_in(ret->year, mo) || h > 23 || mi > 59 ||
        ret->second > 60)
        return false;
    size_t i = 19;
    int64_t offset;
    if (!fraction_at(s, len, &i, &ret->fraction, &ret->digits) || !offset_at(s, len, i, &offset))
        return false;
    ret->seconds =
        days_from_civil(ret->year, mo, d) * 86400 + h * 3600 + mi * 60 + ret->second - offset;
    return true;
}

bool hk_rfc3339_parse(const char *s, size_t len, int64_t *ret_wall_ns)
{
    parts p;
    if (!read_parts(s, len, &p) || p.year < 1678 || p.year > 2261)
        return false;
    *ret_wall_ns = p.seconds * NS + p.fraction;
    return true;
}

hk_time_fault hk_rfc3339_parse_exact(const char *s, size_t len, int64_t *ret_wall_ns)
{
    parts p;
    int64_t ns;
    if (!read_parts(s, len, &p) || (p.second == 60 && p.seconds % 86400 != 0))
        return HK_TIME_SYNTAX;
    if (p.digits > 9)
        return HK_TIME_FINE;
    if (p.seconds < 0) { /* towards zero, so that the earliest time does not overflow on the way */
        p.seconds++;
        p.fraction -= NS;
    }
    if (__builtin_mul_overflow(p.seconds, NS, &ns) || __builtin_add_overflow(ns, p.fraction, &ns))
        return HK_TIME_RANGE;
    *ret_wall_ns = ns;
    return HK_TIME_OK;
}
