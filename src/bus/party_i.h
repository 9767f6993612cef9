/* party_i.h: a process among others on a shared store. party.c says that it lives, and asks what of each consumer is its own;
 * shares.c carries the answer to the consumer's cores; tailer.c brings what others have appended. On stores that are not shared
 * all of this does nothing. */
#ifndef HK_PARTY_I_H
#define HK_PARTY_I_H

#include "bus/bus_i.h"

/* At the opening of a shared store, before the writer is started: the first beat, and the threads (hark-party, hark-tail). */
hark_err hk_party_start(hark_bus *bus, hark_errinfo *ei);
/* Before the store is closed, after the writer's end; not by one of its threads. Consumers that are over have ended
 * then; those that end later do so by themselves. Also when hk_party_start has failed. */
void hk_party_stop(hark_bus *bus);
void hk_party_free(hark_bus *bus); /* when nobody knows the bus any more */
/* Something may have changed: it asks soon. */
void hk_party_poke(hark_bus *bus);
/* Is the lease good? While it is not, no delivery starts. Any thread; costs a clock reading on shared stores. */
bool hk_party_lives(const hark_bus *bus);
/* How often it ran out before it was prolonged: who was at something that others may have taken over since, looks at that when
 * this has changed. To be asked after hk_party_lives. */
uint64_t hk_party_lapses(const hark_bus *bus);
/* The server's wall clock less ours as it is now, ns; 0 on stores that are not shared. */
int64_t hk_party_ahead(const hark_bus *bus);

/* Under `admin`: a consumer that is being opened, or was reset by this process, gets its first shares. What others have to give
 * up first comes later. */
hark_err hk_party_join(hark_sub *s, hark_errinfo *ei);
/* The consumer is closed, nothing of it runs and all is saved: its shares are given up, then hk_sub_ended is called;
 * also when the store cannot be reached, within seconds. */
void hk_party_leave(hark_sub *s);
/* Its opening has failed after hk_party_join, while its name is still taken: what it was given goes back. hk_sub_ended is
 * not called. */
void hk_party_withdraw(hark_sub *s);
/* It is known here that the registration is another one now (reset elsewhere), or that shares were lost. */
void hk_party_doubt(hark_sub *s);

/* shares.c. These two under `admin`. Fills in consumer, generation, what is to be released and news_done; the
 * caller frees x->release. */
hark_err hk_shares_ask(hark_sub *s, hark_store_shares *x);
/* Carries out the answer; the arrays stay the caller's. *ret_again: ask once more at once (the generation was another
 * one). */
hark_err hk_shares_take(hark_sub *s, const hark_store_shares *x, bool *ret_again);
/* Under the consumer's lock, after a step of its cores: has a share that is to leave run dry? */
void hk_shares_stepped(hk_consumer *c);

/* tailer.c. With the writer's role: brings the tail, live subscriptions and consumers up to the log's place `upto`, reading what is
 * not known yet. An error: it goes on later by itself. */
hark_err hk_tailer_catch_up(hark_bus *bus, uint64_t upto, hark_errinfo *ei);
hark_err hk_tailer_start(hark_bus *bus, hark_errinfo *ei);
void hk_tailer_stop(hark_bus *bus);

#endif
