// The page of the shop: who tells whom. Everything else is in the file that has its name.

import { Cart } from "./cart.js";
import { Consumers } from "./consumers.js";
import { Customer } from "./customer.js";
import { $, say } from "./dom.js";
import { Letters } from "./letters.js";
import { Orders } from "./orders.js";
import { Products } from "./products.js";
import { Stats } from "./stats.js";

// The connection is live when both streams are.
const streams = { orders: "connecting", stats: "connecting" };
function connected(name) {
    return (state) => {
        streams[name] = state;
        const all = Object.values(streams);
        const worst = ["reconnecting", "connecting"].find((s) => all.includes(s)) ?? "live";
        $("connection").dataset.state = document.body.dataset.connection = worst;
        say($("connection"), worst === "live" ? "live" : `${worst} …`);
        if (name === "stats" && state === "live") back();
    };
}

const products = new Products((sku) => cart.add(sku), () => {
    cart.show();
    orders.renamed();
});
const customer = new Customer((id) => {
    cart.changed();
    orders.of(id);
});
const cart = new Cart(products, customer, (order) => {
    orders.show(order);
    products.refresh();
});
const consumers = new Consumers();
const letters = new Letters();
const orders = new Orders(customer.id, products, {
    onState: connected("orders"),
    onMove: (order, cursor) => {
        products.refresh();
        if (order.status === "created") customer.refresh();
        if (order.status === "paid") customer.refresh(cursor);
    },
});

let seen = "";
let switches = false;
new Stats({
    onState: connected("stats"),
    onStats: (stats) => {
        consumers.show(stats.consumers);
        if (!switches) consumers.readSwitches();
        switches = true;
        letters.count(stats.consumers.reduce((sum, c) => sum + c.dead_letters, 0));
        const sold = JSON.stringify(stats.orders);
        if (seen && sold !== seen) products.refresh(); // somebody's order
        seen = sold;
    },
});
products.refresh();

/** The shop is there, for the first time or again: what is not streamed is read anew. */
function back() {
    switches = false;
    products.refresh();
    customer.refresh();
    letters.refresh();
}
