// My orders. A list is read once, and from then on each event of the stream moves an order; what the
// list and the stream say of one order may come in any order, so the state that is further on counts.

import { get, put } from "./api.js";
import { $, cents, el, money, say, time } from "./dom.js";
import { Live } from "./live.js";

const STEPS = ["created", "reserved", "paid", "shipped"];
const RANK = { created: 0, reserved: 1, paid: 2, shipped: 3, cancelled: 4 };
const ACTIONS = { created: ["cancel"], reserved: ["pay", "cancel"], paid: ["ship", "cancel"] };
const LABELS = { pay: "Pay", ship: "Ship", cancel: "Cancel" };
const PAGE = 6;
const SETTLED = 600; // ms

export class Orders {
    #cards = new Map();
    #next = null; // behind which the older ones are
    #room = PAGE; // so many are shown
    #user;
    #stream;

    constructor(user, products, { onState, onMove }) {
        this.#user = user;
        this.products = products;
        this.onMove = onMove;
        $("orders-more").addEventListener("click", () => {
            this.#room += PAGE;
            this.#read(this.#next);
        });
        this.#stream = new Live(this.#address(), {
            state: onState,
            open: () => this.#read(), // after the stream is there, so that nothing is missed between
            gap: () => this.#read(),
            message: (order, cursor) => this.#moved(order, cursor),
        });
    }

    #address() {
        return `/orders/stream?user_id=${encodeURIComponent(this.#user)}`;
    }

    of(user) {
        this.#user = user;
        this.#room = PAGE;
        this.#cards.clear();
        $("order-list").replaceChildren();
        this.#more(null);
        $("orders-empty").hidden = false;
        this.#stream.move(this.#address());
    }

    reopen() {
        this.#stream.reopen();
    }

    async #read(after = "") {
        const user = this.#user;
        const query = new URLSearchParams({ user_id: user, limit: PAGE, ...(after && { after }) });
        try {
            const { orders, next } = await get(`/orders?${query}`);
            if (user !== this.#user) return;
            orders.forEach((order) => this.show(order));
            if (after || this.#cards.size <= orders.length) this.#more(next);
        } catch {
            // The next opening of the stream reads it again.
        }
    }

    #more(next) {
        this.#next = next ?? null;
        $("orders-more").hidden = !next;
    }

    async #moved(event, cursor) {
        const user = this.#user;
        if (!this.#cards.has(event.id)) {
            try {
                event = { ...(await get(`/orders/${encodeURIComponent(event.id)}`)) };
            } catch {
                return;
            }
            if (user !== this.#user) return;
        }
        this.show(event);
        say($("orders-said"), `Order ${event.id} is ${event.status}${event.reason ? `: ${event.reason}` : ""}`);
        this.onMove(event, cursor);
    }

    // ---- one order

    show(order) {
        const card = this.#cards.get(order.id) ?? this.#place(order);
        if (RANK[order.status] <= RANK[card.status]) return;
        card.reached = order.status === "cancelled" ? card.reached : RANK[order.status];
        card.status = order.status;
        card.line.dataset.status = order.status;
        card.steps.forEach((step, i) => this.#step(step, i, card));
        say(card.state, order.status);
        say(card.reason, order.reason ?? "");
        say(card.problem, "");
        this.#offer(order, card);
    }

    /** The buttons come after a moment: a state that is left at once has none. */
    #offer({ id, status }, card) {
        clearTimeout(card.timer);
        card.actions.replaceChildren();
        const buttons = () => (ACTIONS[status] ?? []).map((verb) => this.#button(id, verb, card));
        card.timer = setTimeout(() => card.actions.replaceChildren(...buttons()), SETTLED);
    }

    #step(step, i, card) {
        step.dataset.reached = i <= card.reached;
        if (i === card.reached && card.status !== "cancelled") step.setAttribute("aria-current", "step");
        else step.removeAttribute("aria-current");
    }

    #named(items) {
        const name = (id) => this.products.items.get(id)?.name ?? id;
        return items.map(({ product_id, quantity }) => `${quantity} × ${name(product_id)}`.replace(/ /g, "\u00a0")).join(" · ");
    }

    /** The products' names have come, or have changed. */
    renamed() {
        for (const card of this.#cards.values()) say(card.items, this.#named(card.contents));
    }

    #place(order) {
        const card = {
            status: "", reached: 0, made: new Date(order.created_at),
            state: el("strong", { class: "state" }), reason: el("p", { class: "reason" }),
            problem: el("p", { class: "problem", role: "alert" }), actions: el("p", { class: "actions" }),
            steps: STEPS.map((name) => el("li", {}, name)),
        };
        card.contents = order.items;
        card.items = el("span", {}, this.#named(order.items));
        card.line = el("li", { class: "card order", "data-order": order.id },
            el("p", { class: "order-head" }, el("code", {}, order.id), " ", el("time", { datetime: order.created_at }, time(order.created_at)),
                card.state),
            el("p", { class: "order-items" }, card.items, el("strong", {}, money(cents(order.total), order.currency))),
            el("ol", { class: "steps", "aria-label": "Progress" }, ...card.steps),
            card.reason, card.actions, card.problem);
        this.#insert(order.id, card);
        return card;
    }

    /** Newest first. */
    #insert(id, card) {
        const older = [...this.#cards.values()].filter((c) => c.made < card.made);
        const next = older.reduce((a, b) => (!a || b.made > a.made ? b : a), null);
        $("order-list").insertBefore(card.line, next?.line ?? null);
        this.#cards.set(id, card);
        $("orders-empty").hidden = true;
        if (this.#cards.size > this.#room) this.#drop();
    }

    /** The oldest makes room; it is the first of the older ones then. */
    #drop() {
        const byAge = [...this.#cards].sort(([, a], [, b]) => a.made - b.made);
        byAge[0][1].line.remove();
        this.#cards.delete(byAge[0][0]);
        this.#more(byAge[1][0]);
    }

    #button(id, verb, card) {
        const press = async () => {
            say(card.problem, "");
            for (const b of card.actions.children) b.disabled = true;
            try {
                this.show(await put(`/orders/${encodeURIComponent(id)}/${verb}`));
            } catch (e) {
                say(card.problem, e.message);
            }
            for (const b of card.actions.children) b.disabled = false;
        };
        return el("button", { class: verb === "cancel" ? "quiet" : "", "aria-label": `${LABELS[verb]} order ${id}`, onclick: press }, LABELS[verb]);
    }
}
