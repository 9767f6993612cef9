// The consumers: how far behind each is and why, and the switches that break it. The figures come with
// the live statistics; the switches are read when the page opens, when the shop comes back, and while
// one of them waits for its victim.

import { get, put } from "./api.js";
import { Spark } from "./chart.js";
import { $, el, number, rate, say } from "./dom.js";

const FAIL_RATES = [[0, "never"], [0.05, "5 %"], [0.25, "25 %"], [0.5, "50 %"], [1, "always"]];
const DELAYS = [[0, "none"], [50, "50 ms"], [200, "200 ms"], [1000, "1 s"], [5000, "5 s"]];

// Of each column: its class and its head.
const PLACES = ["col-name", "col-state", "col-lag", "col-open", "col-dead", "col-pace", "col-switches"];
const HEADS = ["Consumer", "State", "Lag", "Open", "Dead", "Per second", "Break it"];

export class Consumers {
    #rows = new Map();
    #armed = false;

    constructor() {
        $("consumers").append(el("div", { role: "row", class: "row heads" },
            ...HEADS.map((text, i) => el("span", { role: "columnheader", class: PLACES[i] }, text))));
    }

    show(consumers) {
        for (const c of consumers) {
            if (!this.#rows.has(c.name)) this.#rows.set(c.name, this.#row(c.name));
            this.#fill(this.#rows.get(c.name), c);
        }
        if (this.#armed) this.readSwitches();
    }

    #fill(row, c) {
        const state = stateOf(c);
        row.line.dataset.state = Object.values(STATES).includes(state) ? state : "stuck";
        say(row.state, state);
        say(row.lag, number(c.lag));
        row.spark.add(c.lag);
        say(row.open, number(c.open));
        say(row.retrying, c.retrying ? `${number(c.retrying)} retrying` : "");
        say(row.dead, number(c.dead_letters));
        say(row.pace, rate(c.per_second));
        say(row.why, state === "idle" ? "" : c.why);
    }

    #row(name) {
        const row = {
            state: el("span", { class: "chip" }), lag: el("span", { class: "lag-value" }), spark: new Spark(),
            open: el("span"), retrying: el("span", { class: "hint" }), dead: el("span"), pace: el("span"),
            why: el("span", { class: "why", role: "cell" }),
        };
        const cells = [
            el("strong", {}, name), row.state, el("span", { class: "with-spark" }, row.lag, row.spark.picture),
            el("span", {}, row.open, " ", row.retrying), row.dead, row.pace, this.#switches(name, row),
        ];
        row.line = el("div", { role: "row", class: "row", "data-consumer": name },
            ...PLACES.map((place, i) => el("span", { role: i ? "cell" : "rowheader", class: place, "data-head": HEADS[i] }, cells[i])), row.why);
        $("consumers").append(row.line);
        return row;
    }

    // ---- switches

    #switches(name, row) {
        const change = (field) => (e) => this.#set(name, { [field]: Number(e.target.value) });
        const select = (label, options, field) => el("select", { "aria-label": `${name}: ${label}`, onchange: change(field) },
            ...options.map(([value, text]) => el("option", { value }, text)));
        row.fail = select("fails", FAIL_RATES, "fail_rate");
        row.delay = select("delay", DELAYS, "delay_ms");
        row.crash = el("button", {
            class: "quiet crash", "aria-pressed": "false", title: "The next event that it sees crashes the shop, at each attempt",
            "aria-label": `${name}: crash`, onclick: () => this.#set(name, { crash: row.crash.getAttribute("aria-pressed") !== "true" }),
        }, "crash");
        return el("span", { class: "switch-row" },
            el("label", {}, "fails ", row.fail), el("label", {}, "delay ", row.delay), row.crash);
    }

    async readSwitches() {
        try {
            const { consumers } = await get("/chaos");
            consumers.forEach((c) => this.#switched(c));
            this.#armed = consumers.some((c) => c.crash);
        } catch {
            // Read again when the shop is back.
        }
    }

    async #set(name, change) {
        say($("consumers-problem"), "");
        try {
            this.#switched(await put(`/chaos/${encodeURIComponent(name)}`, change));
        } catch (e) {
            say($("consumers-problem"), `${name}: ${e.message}`);
        }
        this.readSwitches();
    }

    #switched({ consumer, fail_rate, delay_ms, crash, poisoned }) {
        const row = this.#rows.get(consumer);
        if (!row) return;
        choose(row.fail, fail_rate, `${Math.round(fail_rate * 100)} %`);
        choose(row.delay, delay_ms, `${delay_ms} ms`);
        const on = Boolean(crash || poisoned);
        row.crash.setAttribute("aria-pressed", on);
        say(row.crash, poisoned ? `crashes at ${poisoned}` : crash ? "crashes next" : "crash");
        row.line.classList.toggle("broken", on || fail_rate > 0 || delay_ms > 0);
    }
}

/** A value that is not on the list (somebody used curl) is added to it. */
function choose(select, value, text) {
    if (![...select.options].some((o) => Number(o.value) === value)) select.append(el("option", { value }, text));
    if (select !== document.activeElement || Number(select.value) !== value) select.value = String(value);
}

const STATES = { idle: "idle", "catching-up": "working", "worker-busy": "working", "window-full": "working", "lane-waiting": "retrying" };

/** One word for what hark_why says; "parked", "paused", "store-failing" … as they are. */
function stateOf(c) {
    return STATES[c.why_code] ?? c.why_code.replace(/-/g, " ");
}
