// Dead letters: what consumers gave up on, and sending it to them once more. The list is read page by
// page; what is being redriven is left out, and of many the newest are shown.

import { get, newKey, post } from "./api.js";
import { $, el, say, time } from "./dom.js";

const SHOWN = 50;
const PAGE = 100;

export class Letters {
    #count = -1;
    #reading = 0;

    /** Reads the list when the figures say that there are more or fewer. */
    count(n) {
        if (n === this.#count) return;
        this.#count = n;
        this.refresh();
    }

    async refresh() {
        const mine = ++this.#reading;
        let dead = [];
        try {
            for (let after = ""; after !== undefined && mine === this.#reading;) {
                const { dead_letters, next } = await get(`/dead-letters?limit=${PAGE}${after && `&after=${after}`}`);
                dead = [...dead, ...dead_letters.filter((l) => !l.redriven)].slice(-SHOWN);
                after = next;
            }
            if (mine === this.#reading) this.#show(dead.reverse());
        } catch {
            this.#count = -1; // with the next figures
        }
    }

    #show(letters) {
        $("letters").replaceChildren(...letters.map((l) => this.#line(l)));
        $("letters-empty").hidden = letters.length > 0;
    }

    #line(l) {
        const tries = [l.attempts && `${l.attempts} attempts`, l.crashes && `${l.crashes} crashes`].filter(Boolean).join(", ");
        const button = el("button", { "aria-label": `Redrive event ${l.sequence} to ${l.consumer}`, onclick: () => this.#redrive(l.id, button) }, "Redrive");
        return el("li", { "data-letter": l.id },
            el("p", {}, el("strong", {}, l.consumer), ` ${l.type} `, el("code", {}, l.subject || `event ${l.sequence}`)),
            el("p", { class: "reason" }, [l.reason, l.error].filter(Boolean).join(": ")),
            el("p", { class: "hint" }, [tries, time(l.dead_at)].filter(Boolean).join(" · ")),
            button);
    }

    async #redrive(id, button) {
        say($("letters-problem"), "");
        button.disabled = true;
        try {
            await post(`/dead-letters/${encodeURIComponent(id)}/redrive`, undefined, newKey());
        } catch (e) {
            say($("letters-problem"), e.message);
        }
        this.refresh();
    }
}
