/* error.c: names, texts, classes and HTTP statuses from HARK_ERR_MAP, and detail text. */
#include "base/base.h"

#include <hark/version.h>

#include <stdio.h>
#include <string.h>

const char *hark_err_name(hark_err err)
{
    switch (err) {
#define X(name, value, cls, http, text)                                                            \
    case HARK_##name:                                                                              \
        return "HARK_" #name;
        HARK_ERR_MAP(X)
#undef X
    }
    return "HARK_?";
}

const char *hark_err_text(hark_err err)
{
    switch (err) {
#define X(name, value, cls, http, text)                                                            \
    case HARK_##name:                                                                              \
        return text;
        HARK_ERR_MAP(X)
#undef X
    }
    return "unknown error code";
}

hark_class hark_err_class(hark_err err)
{
    switch (err) {
#define X(name, value, cls, http, text)                                                            \
    case HARK_##name:                                                                              \
        return HARK_CLASS_##cls;
        HARK_ERR_MAP(X)
#undef X
    }
    return HARK_CLASS_UNKNOWN;
}

int hark_err_http(hark_err err)
{
    switch (err) {
#define X(name, value, cls, http, text)                                                            \
    case HARK_##name:                                                                              \
        return http;
        HARK_ERR_MAP(X)
#undef X
    }
    return 500;
}

const char *hark_version(void)
{
    return HARK_VERSION;
}

/* One line of UTF-8, whatever was quoted in it and wherever a quotation was cut. */
static void tidy(char *text)
{
    size_t len = strlen(text);
    for (size_t i = 0; i < len; i++) {
        i += hk_utf8_valid(text + i, len - i);
        if (i < len)
            text[i] = '?';
    }
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7F)
            text[i] = '?';
}

hark_err hark_errinfo_set(hark_errinfo *ei, hark_err err, const char *fmt, ...)
{
    if (!ei)
        return err;
    va_list ap;
    va_start(ap, fmt);
    ei->err = err;
    if (vsnprintf(ei->text, sizeof ei->text, fmt, ap) < 0)
        ei->text[0] = '\0';
    va_end(ap);
    tidy(ei->text);
    return err;
}

hark_err hk_wrap(hark_errinfo *ei, hark_err err, const char *fmt, ...)
{
    if (!ei)
        return err;
    char old[sizeof ei->text];
    memcpy(old, ei->text, sizeof old);
    old[sizeof old - 1] = '\0';
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(ei->text, sizeof ei->text, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof ei->text)
        (void)snprintf(ei->text + n, sizeof ei->text - (size_t)n, ": %.400s",
                       old[0] ? old : hark_err_text(err));
    tidy(ei->text);
    ei->err = err;
    return err;
}

const char *hk_err_says(hark_err err, const hark_errinfo *ei)
{
    return ei->text[0] ? ei->text : hark_err_text(err);
}
