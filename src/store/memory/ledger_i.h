/* ledger_i.h: the ledger of the memory store: map.c and list.c (what it is kept in), consumers.c,
 * places.c (open rows and attempts), save.c, letters.c, redrive.c, schedules.c, replays.c.
 *
 * All of it is under one mutex, a leaf: nothing is called with it held that takes another lock, and
 * no callback. A call does all or nothing by itself, since groups are nothing to this store. The
 * ledger outlives a subscription, not the process, and it is bounded, see memory.h. */
#ifndef HK_STORE_MEMORY_LEDGER_I_H
#define HK_STORE_MEMORY_LEDGER_I_H

#include "base/base.h"
#include "store/memory/memory.h"

/* ---- map.c: numbers to pointers ---------------------------------------------------------------- */

typedef struct hk_mem_cell {
    uint64_t key;
    void *value; /* NULL = free */
} hk_mem_cell;

typedef struct hk_mem_map {
    hk_mem_cell *cells;
    size_t n, cap; /* cap: 0 or a power of two */
} hk_mem_map;

void *hk_mem_map_find(const hk_mem_map *m, uint64_t key); /* NULL = not there */
/* Makes room, so that the next `more` puts cannot fail; false when memory is out. */
bool hk_mem_map_room(hk_mem_map *m, size_t more);
void hk_mem_map_put(hk_mem_map *m, uint64_t key, void *value); /* inserts or replaces */
void hk_mem_map_take(hk_mem_map *m, uint64_t key);
/* The values one after the other, in no order, from *at = 0 on; NULL at the end. */
void *hk_mem_map_next(const hk_mem_map *m, size_t *at);
/* Takes out all for which `gone` is true; it may be asked twice about one that stays. */
void hk_mem_map_sweep(hk_mem_map *m, bool (*gone)(void *value, void *ud), void *ud);
void hk_mem_map_free(hk_mem_map *m);

/* ---- list.c: pointers in order of rising ids --------------------------------------------------- */

typedef struct hk_mem_list {
    hk_mem_cell *cells; /* value NULL = was taken out */
    size_t n, cap, holes;
} hk_mem_list;

bool hk_mem_list_room(hk_mem_list *l, size_t more);             /* as hk_mem_map_room */
void hk_mem_list_add(hk_mem_list *l, uint64_t id, void *value); /* an id above all others */
void *hk_mem_list_find(const hk_mem_list *l, uint64_t id);
void hk_mem_list_take(hk_mem_list *l, uint64_t id);
/* The first with an id above `after`; NULL at the end. */
void *hk_mem_list_above(const hk_mem_list *l, uint64_t after, uint64_t *ret_id);
void hk_mem_list_free(hk_mem_list *l);

/* Copies, one block each, made under the lock and shown without it. */
typedef struct hk_mem_copies {
    void **blocks;
    size_t n, cap;
} hk_mem_copies;

bool hk_mem_copies_add(hk_mem_copies *c, void *block); /* takes it over; NULL = memory is out */
void hk_mem_copies_free(hk_mem_copies *c);

/* Strings at the end of a block: how many bytes, and putting one at *room, which moves on. */
size_t hk_mem_text_size(const char *s);
const char *hk_mem_text_put(char **room, const char *s);

/* ---- what is kept ------------------------------------------------------------------------------ */

typedef struct hk_mem_row {
    hark_store_row r;
    char text[];
} hk_mem_row;

typedef struct hk_mem_attempt {
    struct hk_mem_attempt *next;
    hark_store_attempt a;
    char text[];
} hk_mem_attempt;

/* What is known of one consumer and one sequence. Without row and letters it is dropped. */
typedef struct hk_mem_place {
    uint64_t sequence;
    hk_mem_row *row; /* NULL = not open */
    struct hk_mem_letter *letters;
    hk_mem_attempt *first, *last;
    size_t n_attempts;
} hk_mem_place;

typedef struct hk_mem_consumer {
    char *name, *pattern, *policy;
    uint64_t id, generation, floor, highest;
    hark_store_range *settled;
    size_t n_settled;
    bool paused;
    int64_t created_ns;
    hark_store_rerun rerun;
    hk_mem_map places; /* by sequence */
    uint64_t by_state[HARK_ROW_COUNTS + 1];
    uint64_t n_dead; /* letters that were not redriven */
} hk_mem_consumer;

typedef struct hk_mem_letter {
    unsigned refs; /* the ledger's, and one of each listing that shows it */
    bool loose;    /* its place has no open row: it is in the queue of those that may go */
    struct hk_mem_letter *older, *newer; /* in that queue */
    struct hk_mem_letter *beside;        /* of the same place */
    hk_mem_consumer *owner;
    hark_store_letter l;
    char text[];
} hk_mem_letter;

typedef struct hk_mem_schedule {
    hark_store_schedule s;
    uint64_t hash;                /* of source and id */
    struct hk_mem_schedule *same; /* another one with this hash */
} hk_mem_schedule;

typedef struct hk_mem_replay {
    hark_store_replay r;
    char text[];
} hk_mem_replay;

typedef struct hk_mem_ledger {
    pthread_mutex_t lock;
    hk_mem_list consumers; /* by id; none ever goes */
    hk_mem_list letters;
    hk_mem_letter *oldest, *newest; /* loose ones */
    size_t n_loose, loose_bytes;
    bool warned; /* that letters were dropped */
    hk_mem_list schedules;
    hk_mem_map by_event; /* schedules by the hash of source and id */
    hk_mem_copies replays;
    uint64_t last_consumer, last_letter, last_schedule; /* ids */
} hk_mem_ledger;

/* consumers.c */
void hk_mem_ledger_init(hk_mem_ledger *g);
void hk_mem_ledger_free(hk_mem_ledger *g);
hark_err hk_mem_consumer_open(hark_store *s, hark_store_consumer *c, hark_errinfo *ei);
hark_err hk_mem_consumer_reset(hark_store *s, hark_store_reset *r, hark_errinfo *ei);
hark_err hk_mem_consumer_pause(hark_store *s, uint64_t consumer, bool paused, hark_errinfo *ei);
hark_err hk_mem_consumers(hark_store *s, hark_store_consumer_fn fn, void *ud, hark_errinfo *ei);
hk_mem_consumer *hk_mem_consumer_named(const hk_mem_ledger *g, const char *name); /* or NULL */
hark_err hk_mem_no_consumer(uint64_t id, hark_errinfo *ei); /* the error that says so */

/* places.c; under the lock */
hk_mem_row *hk_mem_row_new(const hark_store_row *r); /* NULL = memory is out, as below */
hk_mem_attempt *hk_mem_attempt_new(const hark_store_attempt *a);
hk_mem_place *hk_mem_place_find(const hk_mem_consumer *c, uint64_t seq);
hk_mem_place *hk_mem_place_make(hk_mem_consumer *c, uint64_t seq); /* finds it, or makes it */
/* Drops it if neither row nor letter is left. */
void hk_mem_place_tidy(hk_mem_consumer *c, uint64_t seq);
/* Takes over the row; NULL = it is no longer open. */
void hk_mem_place_open(hk_mem_ledger *g, hk_mem_consumer *c, hk_mem_place *p, hk_mem_row *row);
/* Its row begins anew: to be tried at due_ns. */
void hk_mem_place_retry(hk_mem_consumer *c, hk_mem_place *p, int64_t due_ns);
void hk_mem_place_attempt(hk_mem_place *p, hk_mem_attempt *a); /* takes it over */
/* All rows go; letters that were redriven are dead letters again. */
void hk_mem_places_reset(hk_mem_ledger *g, hk_mem_consumer *c);
void hk_mem_places_free(hk_mem_consumer *c);
hark_err hk_mem_attempts(hark_store *s, uint64_t consumer, uint64_t sequence,
                         hark_store_attempt_fn fn, void *ud, hark_errinfo *ei);
/* How many rows there are of each kind, for a list; false: memory is out. */
bool hk_mem_places_count(const hk_mem_consumer *c, hark_store_consumer_row *ret);
/* The rows in order of sequence, copied as hark_store_consumer_clear frees them. */
hark_err hk_mem_rows_copy(const hk_mem_consumer *m, hark_store_consumer *c);

/* save.c */
hark_err hk_mem_consumer_save(hark_store *s, const hark_store_save *save, hark_errinfo *ei);

/* letters.c; under the lock but for the first */
hark_err hk_mem_letters(hark_store *s, const hark_store_letters_query *q, hark_store_letter_fn fn,
                        void *ud, hark_errinfo *ei);
hk_mem_letter *hk_mem_letter_new(hk_mem_consumer *c, const hark_store_dead *d);
void hk_mem_letter_unref(hk_mem_letter *m);
/* Takes it over and gives it its id; there is room in the list. */
void hk_mem_letter_add(hk_mem_ledger *g, hk_mem_place *p, hk_mem_letter *m);
void hk_mem_letter_remove(hk_mem_ledger *g, hk_mem_place *p, hk_mem_letter *m);
void hk_mem_letter_set_state(hk_mem_letter *m, hark_letter_state state);
void hk_mem_letters_settled(hk_mem_ledger *g, hk_mem_place *p); /* removes the redriven ones */
void hk_mem_letters_loose(hk_mem_ledger *g, hk_mem_place *p);   /* after its row came or went */
void hk_mem_letters_bound(hk_mem_ledger *g); /* drops the oldest over the bound */

/* redrive.c */
hark_err hk_mem_letter_redrive(hark_store *s, uint64_t id, int64_t due_ns,
                               hark_store_letter_done *ret, hark_errinfo *ei);
hark_err hk_mem_letter_discard(hark_store *s, uint64_t id, hark_store_letter_done *ret,
                               hark_errinfo *ei);

/* schedules.c */
hark_err hk_mem_schedule_add(hark_store *s, hark_store_schedule *sch, uint64_t *ret_sequence,
                             bool *ret_duplicate, hark_errinfo *ei);
hark_err hk_mem_schedule_drop(hark_store *s, uint64_t id, hark_errinfo *ei);
hark_err hk_mem_schedules(hark_store *s, uint64_t id, uint64_t after, bool events,
                          hark_store_schedule_fn fn, void *ud, hark_errinfo *ei);
void hk_mem_schedules_free(hk_mem_ledger *g);

/* replays.c */
hark_err hk_mem_replay_put(hark_store *s, const hark_store_replay *r, hark_errinfo *ei);
hark_err hk_mem_replays(hark_store *s, hark_store_replay_fn fn, void *ud, hark_errinfo *ei);

#endif
