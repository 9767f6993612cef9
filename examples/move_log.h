/* move_log.h: what the three files of the example move_log share: the two logs and what is to be moved. */
#ifndef MOVE_LOG_H
#define MOVE_LOG_H

#include <hark/hark.h>

/* A consumer of FROM, and where it is in TO. */
typedef struct reader {
    char name[132], pattern[264], policy[512];
    uint64_t floor, highest; /* in FROM */
    uint64_t at;             /* the floor in sequences of TO: where it belongs there */
    uint64_t there;          /* where it is there; 0 = nowhere yet */
    bool paused;
} reader;

/* Something in TO of which it is not known yet whether it came from FROM. */
typedef struct stray {
    char *key;       /* source and id */
    uint64_t digest; /* of its content; 0 = a schedule's */
    bool known;
} stray;

typedef struct mover {
    hark_bus *from, *to;
    bool renumber;
    reader *readers;
    size_t n_readers;
    const hark_event **later; /* what is scheduled in FROM */
    int64_t *due, *created;   /* of each of these */
    size_t n_later;
    stray *strays;
    size_t n_strays;
    uint64_t common; /* events that both logs begin with */
    uint64_t digest; /* of these */
    uint64_t copied; /* the last one's sequence in FROM */
    bool missing;    /* FROM has events that TO has not */
    bool no_memory;
} mover;

hark_err no_memory(hark_errinfo *ei);

/* Goes through a log from behind `after`, hark's own events too. */
typedef struct walk {
    hark_bus *bus;
    uint64_t after;
    hark_page *page;
    size_t i;
    bool end; /* this page is the last one */
} walk;
enum { PAGE = 500 }; /* most events of one */
hark_err walk_page(walk *w, hark_errinfo *ei);
/* The next event, which lasts until the next call; NULL: that was all. */
hark_err walk_step(walk *w, const hark_event **ret, hark_errinfo *ei);
void walk_end(walk *w);

/* move_log_compare.c: finds out how far TO is, and where FROM's consumers are there. Refuses TO when it
 * has anything that is not of FROM. */
hark_err compare_logs(mover *m, hark_errinfo *ei);
/* Whether an event of FROM has the version of its subject that it has in TO. */
hark_err check_version(const mover *m, const hark_event *e, int64_t in_to, hark_errinfo *ei);

/* move_log_consumers.c: reads FROM's consumers and refuses those that cannot be moved as they stand; sees
 * that nobody has used those of TO; puts them there; sees that nobody used FROM meanwhile. */
hark_err consumers_read(mover *m, hark_errinfo *ei);
hark_err consumers_look(mover *m, hark_errinfo *ei);
hark_err consumers_move(mover *m, hark_errinfo *ei);
hark_err consumers_still(mover *m, hark_errinfo *ei);

#endif
