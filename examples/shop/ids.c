/* ids.c: ids of orders and users, and the time. Ids begin with the time, so that new rows go to the end
 * of an index and not each to a page of its own. */
#include "shop.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

void shop_new_id(char id[40], const char *prefix)
{
    static const char letters[] = "23456789abcdefghijkmnpqrstuvwxyz"; /* 32, in order, none alike */
    enum { TIME = 11, RANDOM = 9 };
    unsigned char random[RANDOM];
    char text[TIME + RANDOM + 1] = "";
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        abort(); /* so few bytes are always there */
    uint64_t us = (uint64_t)(shop_now() / 1000);
    for (int i = TIME - 1; i >= 0; i--, us /= 32)
        text[i] = letters[us % 32];
    for (size_t i = 0; i < RANDOM; i++)
        text[TIME + i] = letters[random[i] % 32];
    snprintf(id, 40, "%s%s", prefix, text);
}

int64_t shop_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}
