/* Peer: ZeroMQ, inproc, one thread to another, 256-byte messages. Neither id nor time is made,
 * which is in its favour.
 */
#include "bench.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

static void *context;
static long messages;

static void *open_pair(bool binds)
{
    void *s = zmq_socket(context, ZMQ_PAIR);
    int high_water = 100000;
    if (!s || zmq_setsockopt(s, ZMQ_SNDHWM, &high_water, sizeof(high_water)) != 0 ||
        zmq_setsockopt(s, ZMQ_RCVHWM, &high_water, sizeof(high_water)) != 0 ||
        (binds ? zmq_bind(s, "inproc://bench") : zmq_connect(s, "inproc://bench")) != 0)
        bench_die("zmq: %s", zmq_strerror(zmq_errno()));
    return s;
}

static void *receive(void *arg)
{
    void *s = open_pair(false);
    size_t *bytes = arg;
    for (long i = 0; i < messages; i++) {
        zmq_msg_t m;
        zmq_msg_init(&m);
        if (zmq_msg_recv(&m, s, 0) < 0)
            bench_die("zmq: %s", zmq_strerror(zmq_errno()));
        *bytes += zmq_msg_size(&m);
        zmq_msg_close(&m);
    }
    zmq_close(s);
    return NULL;
}

static void send_all(void *s)
{
    const char *data = bench_data();
    for (long i = 0; i < messages; i++) {
        zmq_msg_t m;
        if (zmq_msg_init_size(&m, BENCH_BYTES) != 0)
            bench_die("out of memory");
        memcpy(zmq_msg_data(&m), data, BENCH_BYTES);
        if (zmq_msg_send(&m, s, 0) < 0)
            bench_die("zmq: %s", zmq_strerror(zmq_errno()));
    }
}

int main(int argc, char **argv)
{
    messages = bench_number(argc, argv, "events", 5000000);
    context = zmq_ctx_new();
    void *s = open_pair(true);
    size_t bytes = 0;
    pthread_t thread;
    int64_t begin = bench_ns();
    double cpu = bench_cpu();
    if (pthread_create(&thread, NULL, receive, &bytes) != 0)
        bench_die("cannot start a thread");
    send_all(s);
    pthread_join(thread, NULL);
    double seconds = (double)(bench_ns() - begin) / 1e9;
    if (bytes != (size_t)messages * BENCH_BYTES)
        bench_die("messages were lost");

    bench_out_begin("zeromq inproc");
    bench_out_number("events", (double)messages);
    bench_out_number("seconds", seconds);
    bench_out_number("rate", (double)messages / seconds);
    bench_out_number("cpu_seconds", bench_cpu() - cpu);
    bench_out_end();
    zmq_close(s);
    zmq_ctx_term(context);
    return 0;
}
