/* The member names of all objects that are open while a document is checked, as one stack. */
#ifndef HK_JSON_KEYS_I_H
#define HK_JSON_KEYS_I_H

#include "json/json.h"

#define HK_JSON_KEYS_LOCAL 64

typedef struct hk_json_key {
    hk_json_slice name; /* with its quotes */
    size_t bytes;       /* unescaped */
    uint64_t tag;       /* the first eight bytes, unescaped */
} hk_json_key;

typedef struct hk_json_keys {
    hk_json_key *list;
    size_t count;
    size_t room;
    hk_json_key local[HK_JSON_KEYS_LOCAL];
} hk_json_keys;

void hk_json_keys_init(hk_json_keys *keys);
void hk_json_keys_free(hk_json_keys *keys);

/* Adds a name to the object whose names begin at `base`; fault NONE, DUPLICATE or MEMORY. In an
 * object that has grown large the duplicate is found later, by hk_json_keys_close. */
hk_json_fault hk_json_keys_add(hk_json_keys *keys, size_t base, hk_json_slice name);

/* Drops the names from `base` on. NULL if they differed, else the second of two equal ones. */
const char *hk_json_keys_close(hk_json_keys *keys, size_t base);

#endif
