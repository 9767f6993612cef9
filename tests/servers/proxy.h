/* proxy: a TCP proxy on 127.0.0.1 in a thread of the test's, for what happens to connections between a
 * program and its server. It knows nothing of what it passes on. The calls take effect before they
 * return, on the connections that are there as well as on later ones, and come from any thread. */
#ifndef HK_PROXY_H
#define HK_PROXY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct proxy proxy;
typedef enum proxy_way { PROXY_TO_SERVER, PROXY_TO_CLIENT } proxy_way;

proxy *proxy_new(int target_port);
int proxy_port(const proxy *p); /* to connect to; the same for its whole life */
void proxy_free(proxy *p);      /* cuts what there is; NULL is fine */

/* As at the beginning: everything passes. What was lost stays lost. */
void proxy_pass(proxy *p);
void proxy_delay(proxy *p, int64_t ms); /* what is read is passed on that much later, either way */
void proxy_slice(proxy *p, bool on);    /* byte by byte, each in a packet of its own */
void proxy_hold(proxy *p, bool on);     /* nothing is passed on until it ends, nothing is lost */
void proxy_black_hole(proxy *p,
                      bool on);       /* connections are accepted, and what they say is swallowed;
                                             one that lost something stays mute for ever */
void proxy_refuse(proxy *p, bool on); /* no new connections: ECONNREFUSED */

/* A cut closes both sides at once, with a reset; what was passed on before can still be read. */
void proxy_cut(proxy *p); /* all connections, now */
/* After n more bytes that way, over all connections: the one that carried the last. */
void proxy_cut_after(proxy *p, proxy_way way, size_t n);
/* The connection of the k-th chunk (from 1) that contains the needle and goes that way; "" is in every
 * chunk. To the server: the chunk is passed on, and the cut comes in place of the first answer to it. To
 * the client: in place of the chunk, so that the server has done what it says there. A chunk is what
 * one read gives; a needle may lie across two. */
void proxy_cut_reply(proxy *p, proxy_way way, const char *needle, unsigned k);

typedef struct proxy_counts {
    size_t connections; /* accepted so far */
    size_t cuts;        /* by the calls above; a side that closes by itself is none */
    size_t bytes[2];    /* passed on, by way */
    size_t writes;      /* in which they were */
    size_t swallowed;   /* bytes */
} proxy_counts;
proxy_counts proxy_counted(proxy *p);
/* Waits until so many were cut since the beginning; aborts after a minute. */
void proxy_await_cuts(proxy *p, size_t n);

#endif
