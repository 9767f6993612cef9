/* A plain HTTP client for tests: raw bytes out, replies in. A reply that does not come within half
 * a minute counts as hung and ends the test program. */
#ifndef HK_TEST_CLIENT_H
#define HK_TEST_CLIENT_H

#include <stdbool.h>
#include <stddef.h>

typedef struct reply {
    int status; /* 0: the connection ended without one */
    char head[8192];
    char body[65536];
    size_t len; /* of the body */
} reply;

int client_open(int port);
int client_open_from(int port, const char *address); /* 127.0.0.2: seen as another host */
void client_send(int fd, const void *data, size_t len);
void client_sends(int fd, const char *text);
/* Reads one reply; `head_only` for answers to HEAD. Interim 100 replies are passed over. */
void client_read(int fd, bool head_only, reply *ret);
/* Reads on to the end of the connection; returns what came, up to a few KiB, as text. */
const char *client_rest(int fd, char *buf, size_t size);
bool client_ended(int fd); /* waits for the end of the connection; false when more bytes come */

/* One request on a connection of its own: method, target, further header lines, body. */
void client_do(int port, const char *method, const char *target, const char *lines,
               const char *body, reply *ret);
/* Value of a header of the reply, copied; "" when absent. */
const char *reply_header(const reply *r, const char *name, char *buf, size_t size);

#endif
