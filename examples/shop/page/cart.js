// The cart: what is in it, and the one try at a time to order that. It outlives a reload. A try's
// Idempotency-Key is made when the order is first sent and kept until the shop has answered, so that a
// second click, a repeat after a broken connection or a reload meanwhile is the same order.

import { isAnswer, newKey, post } from "./api.js";
import { $, el, money, number, say } from "./dom.js";

const KEPT = "hark-shop-cart";
const MOST = 1000; // of one product in one order

export class Cart {
    #lines = new Map(); // sku -> quantity
    #rows = new Map();
    #key = "";
    #sending = false;

    constructor(products, customer, onPlaced) {
        this.products = products;
        this.customer = customer;
        this.onPlaced = onPlaced;
        try {
            const kept = JSON.parse(localStorage.getItem(KEPT)) ?? {};
            this.#lines = new Map(kept.lines);
            this.#key = kept.key ?? "";
        } catch {
            // Nothing was kept, or by another program: an empty cart.
        }
        $("cart-form").addEventListener("submit", (e) => {
            e.preventDefault();
            this.#place();
        });
    }

    add(sku) {
        this.#set(sku, Math.min((this.#lines.get(sku) ?? 0) + 1, MOST));
    }

    /** Another order than the one that was tried: another key. */
    changed() {
        this.#key = "";
        this.#keep();
    }

    #keep() {
        localStorage.setItem(KEPT, JSON.stringify({ lines: [...this.#lines], key: this.#key }));
    }

    #set(sku, quantity) {
        if (this.#sending) return;
        if (quantity > 0) this.#lines.set(sku, quantity);
        else this.#lines.delete(sku);
        this.#clear();
        this.changed();
        this.show();
    }

    show() {
        let sum = 0;
        for (const [sku, row] of this.#rows) if (!this.#lines.has(sku)) this.#drop(sku, row);
        for (const [sku, quantity] of this.#lines) {
            const product = this.products.items.get(sku);
            if (!product) continue; // not looked at yet
            if (!this.#rows.has(sku)) this.#rows.set(sku, this.#row(product));
            const row = this.#rows.get(sku);
            sum += quantity * product.cents;
            say(row.sum, money(quantity * product.cents));
            if (row.quantity !== document.activeElement || !row.quantity.value) row.quantity.value = quantity;
            say(row.hint, quantity > product.stock ? `${number(product.stock)} in stock: this order will be cancelled` : "");
        }
        const pieces = [...this.#lines.values()].reduce((a, b) => a + b, 0);
        say($("cart-count"), number(pieces));
        $("cart-count").hidden = pieces === 0;
        $("cart-empty").hidden = pieces > 0;
        say($("cart-total"), money(sum));
    }

    #drop(sku, row) {
        this.#rows.delete(sku); // first: what loses the focus shows the cart again
        if (row.line.contains(document.activeElement)) $("place").focus();
        row.line.remove();
    }

    #row({ sku, name, cents: price }) {
        const id = `line-${sku}`;
        const step = (by) => this.#set(sku, Math.min(MOST, Math.max(1, (this.#lines.get(sku) ?? 0) + by)));
        const row = {
            quantity: el("input", {
                id, type: "number", inputmode: "numeric", min: 1, max: MOST, "aria-describedby": `${id}-hint ${id}-problem`,
                oninput: (e) => e.target.value !== "" && this.#set(sku, Math.trunc(Number(e.target.value)) || 1),
                onblur: () => this.show(),
            }),
            sum: el("span", { class: "line-sum" }),
            hint: el("p", { class: "hint", id: `${id}-hint` }),
            problem: el("p", { class: "problem", id: `${id}-problem`, role: "alert" }),
        };
        row.line = el("li", { class: "line", "data-sku": sku },
            el("label", { for: id }, name, el("span", { class: "hint" }, ` ${money(price)}`)),
            el("span", { class: "stepper" },
                el("button", { type: "button", "aria-label": `One ${name} less`, onclick: () => step(-1) }, "−"),
                row.quantity,
                el("button", { type: "button", "aria-label": `One ${name} more`, onclick: () => step(1) }, "+")),
            row.sum,
            el("button", { type: "button", class: "icon", "aria-label": `Remove ${name}`, onclick: () => this.#set(sku, 0) }, "×"),
            row.hint, row.problem);
        $("cart-lines").append(row.line);
        return row;
    }

    // ---- ordering

    #clear() {
        for (const row of this.#rows.values()) say(row.problem, "");
        this.customer.problem("");
        say($("cart-problem"), "");
        say($("cart-note"), "");
    }

    /** A product that is no longer known has no price here: the shop says what it thinks of it. */
    #order() {
        const items = [...this.#lines].map(([sku, quantity]) => {
            const price = this.products.items.get(sku)?.cents;
            return { product_id: sku, quantity, ...(price !== undefined && { price: price / 100 }) };
        });
        return { user_id: this.customer.id, items };
    }

    async #place() {
        if (this.#sending) return;
        this.#clear();
        if (!this.#lines.size) {
            say($("cart-problem"), "The cart is empty.");
            return;
        }
        this.#key ||= newKey();
        this.#keep();
        this.#busy(true);
        try {
            const order = await post("/orders", this.#order(), this.#key, (e) =>
                say($("cart-note"), `${e.message} Trying again: however often, it is ordered once.`));
            this.#busy(false);
            this.#lines.clear();
            this.changed();
            say($("cart-note"), `Order ${order.id} is placed.`);
            this.onPlaced(order);
        } catch (e) {
            this.#busy(false);
            this.#refused(e);
        }
        this.show();
    }

    #busy(on) {
        this.#sending = on;
        $("place").setAttribute("aria-busy", on);
        say($("place"), on ? "Placing …" : "Place the order");
    }

    /** A refusal is an answer: the next try is another. Without an answer, or while the first copy of the
     * request still runs, it stays the same one. */
    #refused(e) {
        say($("cart-note"), "");
        if (isAnswer(e)) this.changed();
        const rows = [...this.#lines.keys()].map((sku) => this.#rows.get(sku));
        let placed = false;
        for (const { field, detail } of e.faults ?? []) {
            const row = rows[Number(/^items\/(\d+)/.exec(field)?.[1] ?? -1)];
            if (row) say(row.problem, detail);
            else if (field === "user_id") this.customer.problem(detail);
            else continue;
            placed = true;
        }
        if (!placed) say($("cart-problem"), isAnswer(e) ? e.message : `${e.message} Your cart is kept; try again.`);
        this.products.refresh(); // a price may be another by now
    }
}
