// The shelves: what there is, what it costs, how much is left. Read again whenever orders move.

import { get, put } from "./api.js";
import { $, cents, el, money, number, say, svg } from "./dom.js";

const PICTURES = { prod1: "teapot", prod2: "cup", prod3: "tea" };
const SCARCE = 20; // from here on the card says so
const RESTOCK = 100;
const PAUSE = 1000; // ms

export class Products {
    #cards = new Map();
    #read = 0; // when
    #due = 0; // the timer of the next reading
    items = new Map(); // sku -> { sku, name, cents, stock, reserved, sold }

    constructor(onAdd, onChange) {
        this.onAdd = onAdd;
        this.onChange = onChange;
    }

    /** At once, but not more often than each second: however fast orders move, one reading shows it. */
    async refresh() {
        if (this.#due) return;
        const pause = this.#read + PAUSE - Date.now();
        if (pause > 0) {
            this.#due = setTimeout(() => {
                this.#due = 0;
                this.refresh();
            }, pause);
            return;
        }
        this.#read = Date.now();
        try {
            const { items } = await get("/inventory");
            for (const item of items) this.#show(item);
            this.onChange();
        } catch {
            // What is shown stays; the connection's state is told at the top of the page.
        }
    }

    #show(item) {
        this.items.set(item.sku, { ...item, cents: cents(item.price) });
        if (!this.#cards.size) $("product-list").replaceChildren();
        if (!this.#cards.has(item.sku)) this.#cards.set(item.sku, this.#card(item));
        const card = this.#cards.get(item.sku);
        say(card.name, item.name);
        say(card.price, money(cents(item.price)));
        say(card.stock, item.stock > 0 ? `${number(item.stock)} in stock` : "Sold out");
        card.stock.dataset.level = item.stock === 0 ? "none" : item.stock <= SCARCE ? "low" : "good";
        say(card.rest, `${number(item.reserved)} reserved, ${number(item.sold)} sold`);
        card.restock.hidden = item.stock > SCARCE;
    }

    #card(item) {
        const card = {
            name: el("h3"), price: el("p", { class: "price" }), stock: el("p", { class: "stock" }),
            rest: el("p", { class: "hint" }),
            restock: el("button", { class: "quiet", onclick: () => this.#restock(item.sku, card.restock) }, `Restock ${RESTOCK}`),
        };
        const picture = svg("svg", { class: "picture", "aria-hidden": "true" },
            svg("use", { href: `art.svg#${PICTURES[item.sku] ?? "box"}` }));
        const add = el("button", { "aria-label": `Add ${item.name} to the cart`, onclick: () => this.onAdd(item.sku) }, "Add to cart");
        $("product-list").append(el("li", { class: "card product", "data-sku": item.sku }, picture,
            card.name, card.price, card.stock, card.rest, el("p", { class: "actions" }, add, card.restock)));
        return card;
    }

    async #restock(sku, button) {
        button.disabled = true;
        try {
            await put(`/inventory/${encodeURIComponent(sku)}`, { add: RESTOCK });
        } catch {
            // Nothing came in: the card still says how many there are.
        }
        button.disabled = false;
        this.refresh();
    }
}
