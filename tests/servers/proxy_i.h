/* The inside of the proxy: proxy.c has what tests call, proxy_pump.c its thread. */
#ifndef HK_PROXY_I_H
#define HK_PROXY_I_H

#include "proxy.h"

#include <netinet/in.h>
#include <pthread.h>

enum { CHUNK = 65536, NEEDLE_MAX = 64, CONNS_MAX = 256 };

#define NO_LIMIT SIZE_MAX

typedef struct stream {
    int from, to; /* indexes of fd */
    char buf[CHUNK];
    size_t at, n;          /* what of it is still to be passed on: n bytes */
    int64_t due;           /* not before */
    char tail[NEEDLE_MAX]; /* the end of what came before, for needles that lie across */
    size_t n_tail;
    bool eof, shut;
} stream;

typedef struct conn {
    int fd[2]; /* the client's, the server's; -1 = closed */
    stream way[2];
    bool doomed; /* cut in place of the server's next answer */
    bool mute;
    struct conn *next;
} conn;

struct proxy {
    pthread_t thread;
    pthread_mutex_t lock; /* guards all below; the thread lets go of it only to poll */
    pthread_cond_t news;  /* of counts.cuts and seen */
    uint64_t asked, seen; /* changes by calls; those that no poll stands in the way of any more */
    int target, port;
    int holder, listener, wake;
    bool stop, slice, hold, hole;
    int64_t delay_ms;
    size_t left[2]; /* bytes until a cut */
    char needle[NEEDLE_MAX];
    proxy_way needle_way;
    unsigned needles_left; /* chunks until a cut; 0 = no such plan */
    proxy_counts counts;
    conn *conns;
    size_t n_conns;
};

void *proxy_run(void *ud);
void proxy_cut_locked(proxy *p, conn *c);
void proxy_free_conns(proxy *p); /* those that are cut; the thread has ended */

void proxy_close(int *fd, bool reset);
struct sockaddr_in proxy_address(int port);
void proxy_must(bool good, const char *what); /* or the test is aborted */

#endif
