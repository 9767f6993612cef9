/* url.c: the URL of a store on Redis, taken apart. It looks nothing up and knows no backend: what
 * path and query mean is the caller's. No text of an error has user or password in it. */
#include "store/redis/conn_i.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A piece of the URL. */
typedef struct piece {
    const char *at;
    size_t len;
} piece;

static hark_err refuse(const char *scheme, const char *why, hark_errinfo *ei)
{
    return hk_fail(ei, HARK_EINVAL,
                   "store URL %s://…: %s; it is written %s://[user:password@]host[:port][/…]",
                   scheme, why, scheme);
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* Undoes %XX. HARK_EINVAL: it is broken, or stands for a NUL. */
static hark_err decode(piece p, char **ret)
{
    char *s = malloc(p.len + 1);
    size_t n = 0;
    if (!s)
        return HARK_ENOMEM;
    for (size_t i = 0; i < p.len; i++) {
        s[n] = p.at[i];
        if (p.at[i] == '%') {
            int high = i + 2 < p.len ? hex_digit(p.at[i + 1]) : -1;
            int low = i + 2 < p.len ? hex_digit(p.at[i + 2]) : -1;
            if (high < 0 || low < 0 || high + low == 0) {
                free(s);
                return HARK_EINVAL;
            }
            s[n] = (char)(high * 16 + low);
            i += 2;
        }
        n++;
    }
    s[n] = '\0';
    *ret = s;
    return HARK_OK;
}

static hark_err decode_part(const char *scheme, const char *name, piece p, char **ret,
                            hark_errinfo *ei)
{
    char why[120];
    hark_err err = decode(p, ret);
    if (err == HARK_ENOMEM)
        return hk_fail(ei, err, "no memory for a store URL");
    if (!err)
        return HARK_OK;
    (void)snprintf(why, sizeof why, "a %% in the %s is not followed by two hexadecimal digits",
                   name);
    return refuse(scheme, why, ei);
}

static hark_err take_login(const char *scheme, piece login, hk_redis_url *u, hark_errinfo *ei)
{
    const char *colon = memchr(login.at, ':', login.len);
    if (!colon)
        return refuse(scheme, "a user without a password is given", ei);
    piece user = {login.at, (size_t)(colon - login.at)};
    piece password = {colon + 1, login.len - user.len - 1};
    hark_err err = user.len ? decode_part(scheme, "user name", user, &u->user, ei) : HARK_OK;
    return err ? err : decode_part(scheme, "password", password, &u->password, ei);
}

/* The default is that of every Redis. */
static hark_err take_port(const char *scheme, piece port, hk_redis_url *u, hark_errinfo *ei)
{
    uint64_t n = 6379;
    bool good = port.len == 0 || (port.len <= 5 && hk_parse_u64(port.at, port.len, &n));
    if (!good || n < 1 || n > 65535)
        return refuse(scheme, "the port is not a number from 1 to 65535", ei);
    (void)snprintf(u->port, sizeof u->port, "%u", (unsigned)n);
    return HARK_OK;
}

/* host, host:port, [v6]:port */
static hark_err take_place(const char *scheme, piece place, hk_redis_url *u, hark_errinfo *ei)
{
    bool v6 = place.len && place.at[0] == '[';
    const char *end = v6 ? memchr(place.at, ']', place.len) : memchr(place.at, ':', place.len);
    if (v6 && !end)
        return refuse(scheme, "the ] behind an IPv6 address is missing", ei);
    piece host = {place.at + v6, (end ? (size_t)(end - place.at) : place.len) - v6};
    piece port = {place.at + host.len + 2 * (size_t)v6, place.len - host.len - 2 * (size_t)v6};
    if (host.len == 0)
        return refuse(scheme, "no host is given", ei);
    if (port.len == 1 || (port.len && port.at[0] != ':'))
        return refuse(scheme, "what follows the host is not a port", ei);
    port.at += port.len > 0;
    port.len -= port.len > 0;
    hark_err err = decode_part(scheme, "host", host, &u->host, ei);
    if (!err)
        err = take_port(scheme, port, u, ei);
    if (!err)
        (void)snprintf(u->place, sizeof u->place, v6 ? "[%.60s]:%s" : "%.60s:%s", u->host, u->port);
    return err;
}

static hark_err take_rest(const char *scheme, const char *at, hk_redis_url *u, hark_errinfo *ei)
{
    if (*at == '/') {
        piece path = {at + 1, strcspn(at + 1, "?")};
        hark_err err = path.len ? decode_part(scheme, "path", path, &u->path, ei) : HARK_OK;
        if (err)
            return err;
        at = path.at + path.len;
    }
    if (*at != '?')
        return HARK_OK;
    u->query = hk_strdup(at + 1);
    return u->query ? HARK_OK : hk_fail(ei, HARK_ENOMEM, "no memory for a store URL");
}

static hark_err take(const char *scheme, const char *rest, hk_redis_url *u, hark_errinfo *ei)
{
    if (strncmp(rest, "//", 2) != 0)
        return refuse(scheme, "// does not follow the scheme", ei);
    if (strchr(rest, '#'))
        return refuse(scheme, "a # is written %23", ei);
    rest += 2;
    piece all = {rest, strcspn(rest, "/?")};
    piece login = {rest, 0};
    for (size_t i = 0; i < all.len; i++)
        if (rest[i] == '@')
            login.len = i + 1;
    hark_err err = HARK_OK;
    if (login.len)
        err = take_login(scheme, (piece){rest, login.len - 1}, u, ei);
    if (!err)
        err = take_place(scheme, (piece){rest + login.len, all.len - login.len}, u, ei);
    return err ? err : take_rest(scheme, rest + all.len, u, ei);
}

hark_err hk_redis_url_take(const char *scheme, const char *rest, hk_redis_url *ret,
                           hark_errinfo *ei)
{
    hk_redis_url u = {0};
    hark_err err = take(scheme, rest, &u, ei);
    if (err)
        hk_redis_url_clear(&u);
    else
        *ret = u;
    return err;
}

void hk_redis_url_clear(hk_redis_url *u)
{
    free(u->user);
    free(u->password);
    free(u->host);
    free(u->path);
    free(u->query);
    *u = (hk_redis_url){0};
}
