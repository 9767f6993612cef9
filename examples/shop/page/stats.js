// The live statistics: a message a second from the shop. The chart's numbers are differences between
// two messages, so a second in which none came, or a restart of the shop, is a hole and not a guess.

import { Chart } from "./chart.js";
import { $, cents, money, number, say } from "./dom.js";
import { Live } from "./live.js";

const SILENCE = 6000; // ms without a message: the connection is dead, whatever it says

const TYPES = ["order:created", "inventory:reserved", "order:paid", "order:shipped", "order:cancelled", "payment:failed", "request:completed"];

export class Stats {
    #chart = new Chart($("chart"), "Events per second, by type",
        [...TYPES.map((name) => ({ name, label: name })), { name: "other", label: "others" }]);
    #before = null;

    constructor({ onState, onStats }) {
        this.onStats = onStats;
        this.stream = new Live("/stats/stream", {
            state: (state) => {
                if (state !== "live") this.#before = null;
                onState(state);
            },
            message: (stats) => this.#show(stats),
        }, { silence: SILENCE });
    }

    #show(stats) {
        for (const name of ["created", "paid", "shipped", "cancelled"]) this.#figure(name, number(stats.orders[name]));
        this.#figure("revenue", money(cents(stats.orders.revenue)));
        this.#figure("events", number(stats.events.total));
        this.#plot(stats);
        this.onStats(stats);
    }

    #figure(name, text) {
        say(document.querySelector(`[data-figure="${name}"]`), text);
    }

    #plot({ time, events }) {
        const at = Date.parse(time);
        const counts = new Map(events.by_type.map(({ type, count }) => [type, count]));
        const before = this.#before;
        this.#before = { at, counts };
        if (!before || at <= before.at) return;
        const seconds = Math.max((at - before.at) / 1000, 0.5);
        const values = TYPES.map(() => 0);
        let others = 0;
        for (const [type, count] of counts) {
            const n = (count - (before.counts.get(type) ?? 0)) / seconds;
            if (n < 0) return; // counted anew
            const i = TYPES.indexOf(type);
            if (i < 0) others += n;
            else values[i] = n;
        }
        this.#chart.add(Math.round(at / 1000), [...values, others]);
    }
}
