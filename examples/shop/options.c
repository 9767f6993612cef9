/* options.c: the command line. One table says everything of an option: its name, what it takes, where
 * that goes, and what --help tells. */
#include "shop.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef SHOP_PAGE
#define SHOP_PAGE "page"
#endif

typedef enum kind { TEXT, NUMBER, RATE, SECONDS, MANUAL, FLAG, CUSTOMERS } kind;

typedef struct option_row {
    const char *name;
    kind kind;
    size_t offset;
    int64_t min, max;
    const char *takes, *help;
} option_row;

#define AT(member) offsetof(options, member)
static const option_row rows[] = {
    {"store", TEXT, AT(store), 0, 0, "URL",
     "sqlite:PATH or postgresql://HOST/DATABASE; default sqlite:shop.db"},
    {"listen", TEXT, AT(listen), 0, 0, "ADDR:PORT", "default 127.0.0.1:8080; port 0: a free one"},
    {"page", TEXT, AT(page), 0, 0, "DIR", "the page's files; default " SHOP_PAGE},
    {"payment-due", SECONDS, AT(payment_due_ms), 0, 0, "SECONDS",
     "an order not paid by then is cancelled; default 900"},
    {"payment", MANUAL, AT(manual_payment), 0, 0, "auto|manual",
     "manual: wait for PUT /orders/:id/pay"},
    {"shipping", MANUAL, AT(manual_shipping), 0, 0, "auto|manual",
     "manual: wait for PUT /orders/:id/ship"},
    {"payment-delay", NUMBER, AT(payment_delay_ms), 0, 60000, "MS",
     "the payment provider takes so long; default 0"},
    {"payment-fail-rate", RATE, AT(payment_fail_rate), 0, 0, "0..1", "cards declined; default 0"},
    {"payment-timeout-rate", RATE, AT(payment_timeout_rate), 0, 0, "0..1",
     "charges without an answer at first; default 0"},
    {"stock", NUMBER, AT(stock), 0, 1000000000, "N",
     "of each product at the first start; default 1000"},
    {"workers", NUMBER, AT(workers), 1, 256, "N",
     "payments at a time, each waiting for the provider; default 4"},
    {"demo", CUSTOMERS, AT(demo), 1, 100000, "N",
     "customers who place N orders a second; without N: 5"},
    {"no-supervise", FLAG, AT(no_supervise), 0, 0, NULL, "do not start it again after a crash"},
    {"quiet", FLAG, AT(quiet), 0, 0, NULL, "tell nothing of what happens"},
};
enum { ROWS = sizeof rows / sizeof *rows, HELP = ROWS };

static void help(void)
{
    puts("shop: an event-driven shop on hark\n");
    for (size_t i = 0; i < ROWS; i++) {
        char left[40];
        const char *takes = rows[i].takes ? rows[i].takes : "";
        const char *format = rows[i].kind == CUSTOMERS ? "--%s[=%s]" : "--%s %s";
        snprintf(left, sizeof left, format, rows[i].name, takes);
        printf("  %-28s %s\n", left, rows[i].help);
    }
    puts("  --help                       this");
}

static bool complain(const option_row *row, const char *text, const char *expected)
{
    fprintf(stderr, "shop: --%s %s: expected %s; shop --help tells more\n", row->name, text,
            expected);
    return false;
}

static bool read_number(const option_row *row, const char *text, int64_t *ret)
{
    char expected[80], *end;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (end != text && !*end && !errno && n >= row->min && n <= row->max) {
        *ret = n;
        return true;
    }
    snprintf(expected, sizeof expected, "a whole number from %lld to %lld", (long long)row->min,
             (long long)row->max);
    return complain(row, text, expected);
}

static bool read_real(const option_row *row, const char *text, double max, double *ret)
{
    char expected[80], *end;
    double n = strtod(text, &end);
    if (end != text && !*end && isfinite(n) && n >= 0 && n <= max) {
        *ret = n;
        return true;
    }
    snprintf(expected, sizeof expected, "a number from 0 to %g", max);
    return complain(row, text, expected);
}

static bool read_manual(const option_row *row, const char *text, int64_t *ret)
{
    *ret = strcmp(text, "manual") == 0;
    return *ret || strcmp(text, "auto") == 0 || complain(row, text, "auto or manual");
}

static bool take(options *o, const option_row *row, const char *text)
{
    void *at = (char *)o + row->offset;
    double seconds;
    switch (row->kind) {
    case TEXT:
        *(const char **)at = text;
        return true;
    case CUSTOMERS:
        *(int64_t *)at = 5;
        return !text || read_number(row, text, at);
    case NUMBER:
        return read_number(row, text, at);
    case RATE:
        return read_real(row, text, 1, at);
    case SECONDS:
        if (!read_real(row, text, 1e6, &seconds))
            return false;
        *(int64_t *)at = (int64_t)(seconds * 1000);
        return true;
    case MANUAL:
        return read_manual(row, text, at);
    default:
        *(int64_t *)at = 1;
        return true;
    }
}

static int takes_argument(kind k)
{
    if (k == CUSTOMERS)
        return optional_argument;
    return k == FLAG ? no_argument : required_argument;
}

bool options_parse(options *o, int argc, char **argv, int *ret_status)
{
    struct option all[ROWS + 2] = {[HELP] = {"help", no_argument, NULL, HELP}};
    for (int i = 0; i < ROWS; i++)
        all[i] = (struct option){rows[i].name, takes_argument(rows[i].kind), NULL, i};
    *o = (options){.store = "sqlite:shop.db",
                   .listen = "127.0.0.1:8080",
                   .page = SHOP_PAGE,
                   .payment_due_ms = 900 * 1000,
                   .stock = 1000,
                   .workers = 4};
    *ret_status = 2;
    int i;
    while ((i = getopt_long(argc, argv, "", all, NULL)) >= 0 && i < ROWS)
        if (!take(o, &rows[i], optarg))
            return false;
    if (i == HELP) {
        help();
        *ret_status = 0;
    } else if (i == '?') {
        fputs("shop: shop --help lists the options\n", stderr);
    } else if (optind < argc) {
        fprintf(stderr, "shop: %s: options begin with --; shop --help lists them\n", argv[optind]);
    }
    return i < 0 && optind == argc;
}
