/* load: many connections that post users and orders, each with content of its own, to a quickstart
 * that will be killed. It keeps what a client knows: what was sent, and what got its 201. */
#ifndef HK_FAULTS_LOAD_H
#define HK_FAULTS_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One request, named by its place in the array. */
typedef struct request {
    bool user;  /* else an order */
    bool acked; /* its 201 was read */
    char id[32];
    size_t len;    /* of the 201's body */
    uint64_t hash; /* likewise */
    size_t pad;    /* size of an order's second item */
    /* the audit's */
    uint64_t seq;
    uint32_t place; /* among the events of its type, from 0 */
} request;

typedef struct load load;

load *load_new(uint64_t seed, size_t connections);
void load_free(load *l);
/* Connects and sends the first requests. */
void load_connect(load *l, int port);
int load_poller(const load *l); /* readable when load_step has something to do */
/* Takes what answers there are and sends further requests. An answer other than 201, or the end of a
 * connection, fails the test. */
void load_step(load *l);
/* Sends nothing more, and takes what is still answered until the server closes each connection. A
 * request that stays without an answer fails the test. */
void load_finish(load *l);
/* After the server's death: takes the answers that had arrived, and closes. */
void load_disconnect(load *l);
size_t load_acked(const load *l);
request *load_requests(load *l, size_t *ret_n);
/* The name by which a request is found in the data of its event; -1 when it is none. */
long load_number(const char *data, bool user);

#endif
