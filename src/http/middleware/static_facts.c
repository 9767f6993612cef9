/* What static_files says about a file: date, type, and which part of it was asked for. */
#include "http/http_i.h"
#include "http/middleware/static_files_i.h"

#include <stdio.h>
#include <string.h>

void hk_http_date(time_t t, char ret[HK_HTTP_DATE])
{
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct tm tm;
    if (!gmtime_r(&t, &tm) || tm.tm_year < -1900 || tm.tm_year > 8099) {
        t = 0;
        gmtime_r(&t, &tm);
    }
    snprintf(ret, HK_HTTP_DATE, "%.3s, %02u %.3s %04u %02u:%02u:%02u GMT", days + 3 * tm.tm_wday,
             (unsigned)tm.tm_mday % 100, months + 3 * tm.tm_mon,
             (unsigned)(tm.tm_year + 1900) % 10000, (unsigned)tm.tm_hour % 100,
             (unsigned)tm.tm_min % 100, (unsigned)tm.tm_sec % 100);
}

int hk_range(const char *text, uint64_t size, uint64_t *ret_from, uint64_t *ret_len)
{
    if (strncmp(text, "bytes=", 6) != 0 || strchr(text, ','))
        return 200;
    const char *s = text + 6, *dash = strchr(s, '-');
    if (!dash)
        return 200;
    uint64_t first = 0, last = 0;
    bool has_first = dash > s, has_last = dash[1] != '\0';
    if ((!has_first && !has_last) || (has_first && !hk_parse_u64(s, (size_t)(dash - s), &first)) ||
        (has_last && !hk_parse_u64(dash + 1, strlen(dash + 1), &last)))
        return 200;
    if (has_first && has_last && last < first)
        return 200;
    if (!has_first) { /* the last so many bytes */
        if (last == 0 || size == 0)
            return 416;
        first = last < size ? size - last : 0;
        last = size - 1;
    } else if (!has_last || last >= size) {
        last = size ? size - 1 : 0;
    }
    if (first >= size)
        return 416;
    *ret_from = first;
    *ret_len = last - first + 1;
    return 206;
}

const char *hk_media_of(const char *name)
{
    static const char *const types[][2] = {
        {"html", "text/html; charset=utf-8"},
        {"css", "text/css; charset=utf-8"},
        {"js", "text/javascript; charset=utf-8"},
        {"mjs", "text/javascript; charset=utf-8"},
        {"json", "application/json"},
        {"map", "application/json"},
        {"txt", "text/plain; charset=utf-8"},
        {"md", "text/markdown; charset=utf-8"},
        {"csv", "text/csv; charset=utf-8"},
        {"xml", "application/xml"},
        {"svg", "image/svg+xml"},
        {"png", "image/png"},
        {"jpg", "image/jpeg"},
        {"jpeg", "image/jpeg"},
        {"gif", "image/gif"},
        {"webp", "image/webp"},
        {"avif", "image/avif"},
        {"ico", "image/x-icon"},
        {"woff2", "font/woff2"},
        {"woff", "font/woff"},
        {"ttf", "font/ttf"},
        {"wasm", "application/wasm"},
        {"pdf", "application/pdf"},
        {"zip", "application/zip"},
        {"gz", "application/gzip"},
        {"mp4", "video/mp4"},
        {"webmanifest", "application/manifest+json"},
    };
    const char *slash = strrchr(name, '/'), *dot = strrchr(slash ? slash : name, '.');
    for (size_t i = 0; dot && i < HK_COUNTOF(types); i++)
        if (strcasecmp(dot + 1, types[i][0]) == 0)
            return types[i][1];
    return "application/octet-stream";
}
