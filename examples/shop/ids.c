/* ids.c: ids of orders and users, and the time. */
#include "shop.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

void shop_new_id(char id[40], const char *prefix)
{
    static const char letters[] = "abcdefghijkmnpqrstuvwxyz23456789"; /* 32, none alike */
    unsigned char random[16];
    char text[sizeof random + 1] = "";
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        abort(); /* so few bytes are always there */
    for (size_t i = 0; i < sizeof random; i++)
        text[i] = letters[random[i] % 32];
    snprintf(id, 40, "%s%s", prefix, text);
}

int64_t shop_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}
