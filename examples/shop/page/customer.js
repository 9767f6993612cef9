// Who orders: an id that is typed, or the one of a customer who has just been made. No passwords: it is
// an example.

import { get, isAnswer, newKey, post } from "./api.js";
import { $, number, say } from "./dom.js";

const KEPT = "hark-shop-customer";
const FIRST = "user123"; // the shop begins with this one

export class Customer {
    #newcomer = newKey(); // the key of the try at hand, until it has an answer

    constructor(onChange) {
        this.onChange = onChange;
        this.id = localStorage.getItem(KEPT) || FIRST;
        $("customer").value = this.id;
        $("customer").addEventListener("change", () => this.#become($("customer").value.trim() || FIRST));
        $("newcomer-form").addEventListener("input", () => (this.#newcomer = newKey()));
        $("newcomer-form").addEventListener("submit", (e) => {
            e.preventDefault();
            this.#register();
        });
        this.refresh();
    }

    problem(text) {
        say($("customer-problem"), text);
        $("customer-facts").hidden = text !== "";
        $("customer").setAttribute("aria-invalid", text !== "");
    }

    #become(id) {
        this.id = $("customer").value = id;
        localStorage.setItem(KEPT, id);
        this.problem("");
        this.refresh();
        this.onChange(id);
    }

    /** Name and points. `paid` is the cursor of an event "order:paid": the points of that order are waited for. */
    async refresh(paid = "") {
        const id = this.id;
        const path = `/users/${encodeURIComponent(id)}`;
        const wait = paid ? { "Hark-Wait": `consumer=loyalty; seq=${paid}; max=2s` } : {};
        try {
            const user = await get(path, wait).catch((e) => (paid && e.status !== 404 ? get(path) : Promise.reject(e)));
            if (id !== this.id) return;
            const orders = Array.isArray(user.orders) ? user.orders.length : user.orders;
            say($("customer-facts"), `${user.name}: ${number(user.points)} points from ${number(orders)} ${orders === 1 ? "order" : "orders"}`);
        } catch (e) {
            if (id === this.id) say($("customer-facts"), e.status === 404 ? "The shop knows nobody with this id." : "");
        }
    }

    async #register() {
        for (const field of ["name", "email", "newcomer"]) say($(`${field}-problem`), "");
        const key = this.#newcomer;
        try {
            const user = await post("/users", { name: $("name").value.trim(), email: $("email").value.trim() }, key);
            this.#answered(key);
            $("newcomer-form").reset();
            $("newcomer").open = false;
            this.#become(user.id);
            $("customer").focus();
        } catch (e) {
            if (isAnswer(e)) this.#answered(key);
            const faults = (e.faults ?? []).filter(({ field }) => field === "name" || field === "email");
            for (const { field, detail } of faults) say($(`${field}-problem`), detail);
            if (!faults.length) say($("newcomer-problem"), isAnswer(e) ? e.message : `${e.message} Try again: you become a customer once.`);
        }
    }

    /** The next try is another one; without an answer it is the same, lest it makes a second customer. */
    #answered(key) {
        if (this.#newcomer === key) this.#newcomer = newKey();
    }
}
