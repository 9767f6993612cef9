/* The structs that the tests of the field tables share: an order with one member of each sort. */
#ifndef HK_JSON_ORDER_TEST_I_H
#define HK_JSON_ORDER_TEST_I_H

#include "json/json.h"

enum status { STATUS_OPEN = 1, STATUS_PAID = 2, STATUS_SHIPPED = -3 };

struct item {
    char *sku;
    int32_t quantity;
    double price;
};

struct address {
    char *street;
    char zip[9];
};

struct order {
    char *user_id;
    struct item *items;
    size_t n_items;
    struct address to;
    bool has_to;
    enum status status;
    bool gift;
    bool has_gift;
    double weight;
    bool has_weight;
    char *note;
    char *meta;
    size_t meta_len;
    int64_t total;
    uint64_t serial;
    char currency[4];
    char **tags;
    size_t n_tags;
    uint8_t rgb[3];
    size_t n_rgb;
    struct address stops[2];
    size_t n_stops;
    enum status *history;
    size_t n_history;
};

static const hark_json_name status_names[] = {
    {"open", STATUS_OPEN}, {"paid", STATUS_PAID}, {"shipped", STATUS_SHIPPED}, {NULL, 0}};

HARK_JSON_TABLE_STRICT(item_json, struct item,
                       HARK_JSON_STR(struct item, sku, .required = true, .min_len = 1,
                                     .max_len = 8),
                       HARK_JSON_INT(struct item, quantity, .required = true,
                                     HARK_JSON_RANGE(1, 1000)),
                       HARK_JSON_DOUBLE(struct item, price, HARK_JSON_MIN(0.01)));

HARK_JSON_TABLE(address_json, struct address, HARK_JSON_STR(struct address, street),
                HARK_JSON_CHARS(struct address, zip));

HARK_JSON_TABLE(
    order_json, struct order,
    HARK_JSON_STR(struct order, user_id, .as = "userId", .required = true, .max_len = 16),
    HARK_JSON_ARRAY(struct order, items, n_items, &item_json, .min_len = 1, .max_len = 100),
    HARK_JSON_OBJECT(struct order, to, &address_json, HARK_JSON_HAS(struct order, has_to)),
    HARK_JSON_ENUM(struct order, status, status_names),
    HARK_JSON_BOOL(struct order, gift, HARK_JSON_HAS(struct order, has_gift)),
    HARK_JSON_DOUBLE(struct order, weight, HARK_JSON_HAS(struct order, has_weight)),
    HARK_JSON_STR(struct order, note), HARK_JSON_RAW(struct order, meta, meta_len),
    HARK_JSON_INT(struct order, total), HARK_JSON_INT(struct order, serial),
    HARK_JSON_CHARS(struct order, currency, .min_len = 3),
    HARK_JSON_LIST(struct order, tags, n_tags, .max_len = 4),
    HARK_JSON_FIXED_LIST(struct order, rgb, n_rgb, HARK_JSON_MAX(200)),
    HARK_JSON_FIXED_ARRAY(struct order, stops, n_stops, &address_json),
    HARK_JSON_ENUM_LIST(struct order, history, n_history, status_names));

#define ORDER_FULL                                                                                 \
    "{\"userId\":\"u-1\",\"items\":[{\"sku\":\"abc\",\"quantity\":2,\"price\":9.99},"              \
    "{\"sku\":\"d\xc3\xa9"                                                                         \
    "f\",\"quantity\":1000,\"price\":0.01}],"                                                      \
    "\"to\":{\"street\":\"Main \\\"st\\\"\",\"zip\":\"12345678\"},\"status\":\"shipped\","         \
    "\"gift\":true,\"weight\":1.5,\"note\":\"\",\"meta\":{ \"n\": 1.0 },"                          \
    "\"total\":-9007199254740993,\"serial\":18446744073709551615,\"currency\":\"EUR\","            \
    "\"tags\":[\"a\",\"b\"],\"rgb\":[0,100,200],\"stops\":[{\"street\":\"x\",\"zip\":\"\"}],"      \
    "\"history\":[\"open\",\"paid\"]}"

#endif
