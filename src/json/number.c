/* Numbers of checked documents to C numbers and doubles back to text, exactly and in every locale.
 * The C library's conversions are used without their decimal point, which is all of them that
 * depends on the locale: strtod gets "12345e-3" for 12.345, and of "%e" only digits are read. */
#include "json/json.h"

#include "json/scan_i.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIGITS_MOST   800 /* 767 decide any double; one more stands for the rest */
#define EXPONENT_MOST INT64_C(1000000000000)

/* value = digits * 10^exponent; digits has neither leading nor trailing zeros and is empty for 0 */
typedef struct decimal {
    bool negative;
    bool rest; /* digits beyond DIGITS_MOST were not all 0 */
    size_t count;
    int64_t exponent;
    char digits[DIGITS_MOST];
} decimal;

static void decimal_add(decimal *d, char c, bool fraction, size_t *zeros)
{
    d->exponent -= fraction;
    if (c == '0') {
        *zeros += d->count > 0;
        return;
    }
    for (; *zeros > 0; (*zeros)--) {
        if (d->count < DIGITS_MOST)
            d->digits[d->count++] = '0';
        else
            d->exponent++;
    }
    if (d->count < DIGITS_MOST) {
        d->digits[d->count++] = c;
    } else {
        d->exponent++;
        d->rest = true;
    }
}

static int64_t read_exponent(const char *p, const char *end)
{
    bool negative = p < end && *p == '-';
    int64_t value = 0;
    if (p < end && (*p == '-' || *p == '+'))
        p++;
    for (; p < end && hk_json_digit(*p); p++)
        if (value < EXPONENT_MOST)
            value = value * 10 + (*p - '0');
    return negative ? -value : value;
}

static void decimal_read(decimal *d, hk_json_slice number)
{
    const char *p = number.ptr, *end = number.ptr + number.len;
    bool fraction = false;
    size_t zeros = 0;
    d->negative = p < end && *p == '-';
    d->rest = false;
    d->count = 0;
    d->exponent = 0;
    for (p += d->negative; p < end && *p != 'e' && *p != 'E'; p++) {
        if (*p == '.')
            fraction = true;
        else
            decimal_add(d, *p, fraction, &zeros);
    }
    d->exponent += (int64_t)zeros;
    if (p < end)
        d->exponent += read_exponent(p + 1, end);
}

/* The absolute value as an integer; false for a fraction or too many digits. */
static bool decimal_whole(const decimal *d, uint64_t *ret)
{
    uint64_t value = 0;
    *ret = 0;
    if (d->count == 0)
        return true;
    if (d->exponent < 0 || d->exponent > 19 || d->count > 20)
        return false;
    for (int64_t i = 0; i < (int64_t)d->count + d->exponent; i++) {
        unsigned digit = i < (int64_t)d->count ? (unsigned)(d->digits[i] - '0') : 0;
        if (__builtin_mul_overflow(value, (uint64_t)10, &value) ||
            __builtin_add_overflow(value, (uint64_t)digit, &value))
            return false;
    }
    *ret = value;
    return true;
}

/* The usual case, up to 18 plain digits, without the detour. */
static bool read_short(hk_json_slice number, bool *ret_negative, uint64_t *ret)
{
    const char *p = number.ptr, *end = number.ptr + number.len;
    *ret_negative = p < end && *p == '-';
    p += *ret_negative;
    if (p == end || end - p > 18)
        return false;
    uint64_t value = 0;
    for (; p < end; p++) {
        if (!hk_json_digit(*p))
            return false;
        value = value * 10 + (uint64_t)(*p - '0');
    }
    *ret = value;
    return true;
}

static bool read_whole(hk_json_slice number, bool *ret_negative, uint64_t *ret)
{
    if (number.kind != HK_JSON_NUMBER)
        return false;
    if (read_short(number, ret_negative, ret))
        return true;
    decimal d;
    decimal_read(&d, number);
    *ret_negative = d.negative;
    return decimal_whole(&d, ret);
}

static bool to_signed(bool negative, uint64_t value, int64_t *ret)
{
    if (value > (uint64_t)INT64_MAX + negative)
        return false;
    *ret = negative ? (int64_t)(0 - value) : (int64_t)value;
    return true;
}

hark_err hk_json_int64(hk_json_slice number, int64_t *ret)
{
    bool negative;
    uint64_t value;
    if (!read_whole(number, &negative, &value) || !to_signed(negative, value, ret))
        return HARK_ESCHEMA;
    return HARK_OK;
}

hark_err hk_json_uint64(hk_json_slice number, uint64_t *ret)
{
    bool negative;
    uint64_t value;
    if (!read_whole(number, &negative, &value) || (negative && value != 0))
        return HARK_ESCHEMA;
    *ret = value;
    return HARK_OK;
}

hark_err hk_json_decimal(hk_json_slice number, int digits, int64_t *ret)
{
    uint64_t value;
    decimal d;
    if (number.kind != HK_JSON_NUMBER)
        return HARK_ESCHEMA;
    decimal_read(&d, number);
    d.exponent += digits;
    if (!decimal_whole(&d, &value) || !to_signed(d.negative, value, ret))
        return HARK_ESCHEMA;
    return HARK_OK;
}

/* Up to 15 digits and a power of ten up to 22 are exact doubles, so that one operation rounds
 * once (Clinger, 1990). */
static bool double_exact(const decimal *d, double *ret)
{
    static const double tens[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                  1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                  1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    uint64_t value = 0;
    if (FLT_EVAL_METHOD != 0 || d->count > 15 || d->exponent < -22 || d->exponent > 22)
        return false;
    for (size_t i = 0; i < d->count; i++)
        value = value * 10 + (uint64_t)(d->digits[i] - '0');
    double v = (double)value;
    v = d->exponent < 0 ? v / tens[-d->exponent] : v * tens[d->exponent];
    *ret = d->negative ? -v : v;
    return true;
}

static double double_slow(const decimal *d)
{
    char text[DIGITS_MOST + 32];
    size_t n = 0;
    int64_t exponent = d->exponent - d->rest;
    if (exponent > 99999)
        exponent = 99999;
    if (exponent < -99999)
        exponent = -99999;
    if (d->negative)
        text[n++] = '-';
    memcpy(text + n, d->digits, d->count);
    n += d->count;
    snprintf(text + n, sizeof(text) - n, "%se%d", d->rest ? "1" : "", (int)exponent);
    return strtod(text, NULL);
}

hark_err hk_json_double(hk_json_slice number, double *ret)
{
    double value;
    decimal d;
    if (number.kind != HK_JSON_NUMBER)
        return HARK_ESCHEMA;
    decimal_read(&d, number);
    if (!double_exact(&d, &value))
        value = double_slow(&d);
    if (isinf(value))
        return HARK_ESCHEMA;
    *ret = value;
    return HARK_OK;
}

/* ---- writing --------------------------------------------------------------------------------- */

void hk_json_add_decimal(hk_buf *buf, int64_t units, int digits)
{
    char text[24], *p = text + sizeof(text);
    uint64_t rest = units < 0 ? 0 - (uint64_t)units : (uint64_t)units;
    for (int i = 0; i <= digits || rest > 0; i++, rest /= 10) {
        if (i == digits && i > 0)
            *--p = '.';
        *--p = (char)('0' + rest % 10);
    }
    if (units < 0)
        *--p = '-';
    hk_buf_add(buf, p, (size_t)(text + sizeof(text) - p));
}

/* The significant digits of a positive double and the power of ten of the first one. */
typedef struct shortest {
    char digits[24];
    int count;
    int power;
} shortest;

static void print_digits(double value, int count, shortest *ret, char text[64])
{
    snprintf(text, 64, "%.*e", count - 1, value);
    const char *p = text;
    ret->count = 0;
    for (; *p != 'e'; p++) /* steps over the decimal point, whatever it is here */
        if (hk_json_digit(*p) && ret->count < 20)
            ret->digits[ret->count++] = *p;
    ret->power = (int)read_exponent(p + 1, p + strlen(p));
    while (ret->count > 1 && ret->digits[ret->count - 1] == '0')
        ret->count--;
}

static bool reads_back(const shortest *s, double value)
{
    decimal d; /* not cleared, it is large */
    double back;
    d.negative = d.rest = false;
    d.count = (size_t)s->count;
    d.exponent = s->power - s->count + 1;
    memcpy(d.digits, s->digits, d.count);
    if (!double_exact(&d, &back))
        back = double_slow(&d);
    return memcmp(&back, &value, sizeof(back)) == 0;
}

/* Any 15 digits survive a normal double, so fewer need not be tried; subnormals have fewer. */
static void find_shortest(double value, shortest *ret)
{
    char text[64];
    for (int count = value < DBL_MIN ? 1 : 15; count <= 17; count++) {
        print_digits(value, count, ret, text);
        if (reads_back(ret, value))
            return;
    }
}

static void add_zeros(hk_buf *buf, int count)
{
    while (count-- > 0)
        hk_buf_addc(buf, '0');
}

static void add_laid_out(hk_buf *buf, const shortest *s)
{
    int point = s->power + 1; /* digits before the decimal point */
    if (point > 21 || point < -5) {
        hk_buf_addc(buf, s->digits[0]);
        if (s->count > 1)
            hk_buf_addc(buf, '.');
        hk_buf_add(buf, s->digits + 1, (size_t)s->count - 1);
        hk_buf_addf(buf, "e%+d", s->power);
    } else if (point <= 0) {
        hk_buf_adds(buf, "0.");
        add_zeros(buf, -point);
        hk_buf_add(buf, s->digits, (size_t)s->count);
    } else if (s->count <= point) {
        hk_buf_add(buf, s->digits, (size_t)s->count);
        add_zeros(buf, point - s->count);
    } else {
        hk_buf_add(buf, s->digits, (size_t)point);
        hk_buf_addc(buf, '.');
        hk_buf_add(buf, s->digits + point, (size_t)(s->count - point));
    }
}

/* Most numbers that people write have few decimals. The fewest decimals that read back the same are
 * the shortest form: the quotient of two exact integers is rounded as a reader rounds the text. */
static bool add_few_decimals(hk_buf *buf, double value)
{
    static const double tens[] = {1, 10, 100, 1000, 10000};
    if (value >= 1e9 || value < 1e-3)
        return false;
    for (unsigned k = 0; k < sizeof tens / sizeof *tens; k++) {
        double whole = (double)(uint64_t)(value * tens[k] + 0.5);
        if (whole / tens[k] != value)
            continue;
        uint64_t n = (uint64_t)whole, unit = (uint64_t)tens[k];
        char text[32], *p = text + sizeof text;
        uint64_t rest = n % unit;
        for (unsigned i = 0; i < k; i++, rest /= 10)
            *--p = (char)('0' + rest % 10);
        if (k)
            *--p = '.';
        n /= unit;
        do
            *--p = (char)('0' + n % 10);
        while (n /= 10);
        hk_buf_add(buf, p, (size_t)(text + sizeof text - p));
        return true;
    }
    return false;
}

bool hk_json_add_double(hk_buf *buf, double value)
{
    if (!isfinite(value))
        return false;
    if (signbit(value))
        hk_buf_addc(buf, '-');
    if (value == 0) {
        hk_buf_addc(buf, '0');
        return true;
    }
    if (add_few_decimals(buf, fabs(value)))
        return true;
    shortest s;
    find_shortest(fabs(value), &s);
    add_laid_out(buf, &s);
    return true;
}
