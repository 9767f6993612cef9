// A chart of stacked columns: how many of each series in each second of the last two minutes. It only
// draws; what the numbers mean is its user's. Looking at a second works with a pointer and with the
// arrow keys. Widths are those of the place it is put in.

import { el, rate, say, svg } from "./dom.js";

const SPAN = 120; // seconds
const HEIGHT = 220;
const EDGE = { top: 10, right: 12, bottom: 24, left: 40 };

/** A top for the axis that is easy to read, and its steps: 1, 2 or 5 times a power of ten. */
function scale(most) {
    const rough = Math.max(most, 1) / 4;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = Math.max(1, [1, 2, 5, 10].find((m) => m * power >= rough) * power);
    const top = Math.ceil(Math.max(most, 1) / step) * step;
    return { top, ticks: Array.from({ length: Math.round(top / step) + 1 }, (_, i) => i * step) };
}

export class Chart {
    #points = []; // { second, values: number per series }
    #looked = null; // how many seconds ago, while somebody looks
    #width = 600;

    /** series: [{ name, label }]; colours are the classes s1, s2 … of the style sheet. */
    constructor(place, title, series) {
        this.series = series;
        this.columns = series.map((s, i) => svg("path", { class: `column s${i + 1}`, "data-series": s.name }));
        this.grid = svg("g", { class: "grid" });
        this.cursor = svg("line", { class: "cursor", y1: EDGE.top, y2: HEIGHT - EDGE.bottom });
        this.picture = svg("svg", { height: HEIGHT, "aria-hidden": "true" }, this.grid, ...this.columns, this.cursor);
        this.tip = el("div", { class: "tip", hidden: true });
        this.plot = el("div", {
            class: "plot", tabindex: 0, role: "slider", "aria-label": title, "aria-valuemin": -SPAN + 1, "aria-valuemax": 0,
            onpointermove: (e) => this.#look(this.#ago(e.offsetX)), onpointerdown: (e) => this.#look(this.#ago(e.offsetX)),
            onpointerleave: () => this.#look(null), onblur: () => this.#look(null), onkeydown: (e) => this.#key(e),
        }, this.picture, this.tip);
        this.values = series.map(() => el("span", { class: "value" }, "–"));
        const legend = el("ul", { class: "legend" }, ...series.map((s, i) =>
            el("li", {}, el("span", { class: `swatch s${i + 1}` }), s.label, " ", this.values[i])));
        place.replaceChildren(this.plot, legend);
        new ResizeObserver(([entry]) => this.#resize(entry.contentRect.width)).observe(this.plot);
    }

    #resize(width) {
        this.#width = Math.max(width, 200);
        this.picture.setAttribute("width", this.#width);
        this.#draw();
    }

    /** second: an integer; values: in the order of the series. A second that is missing stays empty. */
    add(second, values) {
        this.#points = this.#points.filter((p) => p.second !== second && p.second > second - SPAN && p.second < second);
        this.#points.push({ second, values });
        this.#draw();
    }

    // ---- looking

    #slot() {
        return (this.#width - EDGE.left - EDGE.right) / SPAN;
    }

    #ago(x) {
        const ago = Math.floor((this.#width - EDGE.right - x) / this.#slot());
        return x < EDGE.left || ago < 0 ? null : Math.min(ago, SPAN - 1);
    }

    #key(e) {
        const by = { ArrowLeft: 1, ArrowRight: -1, PageUp: 10, PageDown: -10, Home: SPAN, End: -SPAN }[e.key];
        if (e.key === "Escape") this.#look(null);
        if (!by) return;
        e.preventDefault();
        this.#look(Math.min(SPAN - 1, Math.max(0, (this.#looked ?? 0) + by)));
    }

    #look(ago) {
        this.#looked = ago;
        this.#point();
    }

    #at(ago) {
        const now = this.#points.at(-1)?.second;
        return this.#points.find((p) => p.second === now - ago);
    }

    /** The tooltip, the cursor, and the legend's numbers: of the second looked at, else of the last one. */
    #point() {
        const ago = this.#looked ?? 0;
        const point = this.#at(ago);
        this.values.forEach((v, i) => say(v, point ? rate(point.values[i]) : "–"));
        const looking = this.#looked !== null && this.#points.length > 0;
        this.tip.hidden = !looking;
        this.cursor.classList.toggle("on", looking);
        this.#describe(ago, point);
        if (!looking) return;
        const x = this.#width - EDGE.right - (ago + 0.5) * this.#slot();
        this.cursor.setAttribute("x1", x);
        this.cursor.setAttribute("x2", x);
        this.#tell(ago, point);
        const room = this.tip.offsetWidth + 12;
        this.tip.style.left = `${x + room > this.#width ? x - room : x + 12}px`;
    }

    #describe(ago, point) {
        const parts = this.series.map((s, i) => [s.label, point?.values[i] ?? 0]).filter(([, n]) => n > 0);
        this.plot.setAttribute("aria-valuenow", -ago);
        this.plot.setAttribute("aria-valuetext", `${ago ? `${ago} s ago` : "now"}: ${
            !point ? "not known" : parts.map(([label, n]) => `${rate(n)} ${label}`).join(", ") || "nothing"}`);
    }

    #tell(ago, point) {
        const rows = this.series.map((s, i) => [s.label, point?.values[i] ?? 0, i]).filter(([, n]) => n > 0);
        const sum = rows.reduce((a, [, n]) => a + n, 0);
        this.tip.replaceChildren(
            el("p", {}, ago ? `${ago} s ago` : "now", el("strong", {}, point ? `${rate(sum)} / s` : "not known")),
            ...rows.map(([label, n, i]) => el("p", {}, el("span", { class: `swatch s${i + 1}` }), label, el("span", { class: "value" }, rate(n)))));
    }

    // ---- drawing

    #draw() {
        const sums = this.#points.map((p) => p.values.reduce((a, b) => a + b, 0));
        const axis = scale(Math.max(0, ...sums));
        const bottom = HEIGHT - EDGE.bottom;
        const y = (n) => bottom - (n / axis.top) * (bottom - EDGE.top);
        this.#frame(axis, y, bottom);
        this.#stack(y);
        this.#point();
    }

    #frame({ ticks }, y, bottom) {
        const right = this.#width - EDGE.right;
        const step = this.#width < 480 ? 60 : 30;
        const lines = ticks.flatMap((n) => [
            svg("line", { x1: EDGE.left, x2: right, y1: y(n), y2: y(n) }),
            svg("text", { x: EDGE.left - 8, y: y(n) + 4, "text-anchor": "end" }, rate(n)),
        ]);
        for (let ago = 0; ago <= SPAN; ago += step) {
            const x = right - ago * this.#slot();
            lines.push(svg("text", { x, y: bottom + 18, "text-anchor": ago === 0 ? "end" : ago === SPAN ? "start" : "middle" },
                ago === 0 ? "now" : ago % 60 ? `−${ago} s` : `−${ago / 60} min`));
        }
        this.grid.replaceChildren(...lines);
    }

    #stack(y) {
        const now = this.#points.at(-1)?.second ?? 0;
        const right = this.#width - EDGE.right;
        const gap = this.#slot() > 4 ? 1 : 0.4;
        const paths = this.series.map(() => "");
        for (const { second, values } of this.#points) {
            const x = (right - (now - second + 1) * this.#slot() + gap / 2).toFixed(1);
            const width = (this.#slot() - gap).toFixed(1);
            let under = 0;
            values.forEach((n, i) => {
                if (n <= 0) return;
                paths[i] += `M${x} ${y(under).toFixed(1)}V${y(under + n).toFixed(1)}h${width}V${y(under).toFixed(1)}z`;
                under += n;
            });
        }
        paths.forEach((d, i) => this.columns[i].setAttribute("d", d));
    }
}

/** A line of the last values, from 0 to the largest of them; nothing while all are 0. */
export class Spark {
    #values = [];

    constructor() {
        this.line = svg("path");
        this.picture = svg("svg", { class: "spark", viewBox: "0 0 120 24", preserveAspectRatio: "none", "aria-hidden": "true" }, this.line);
    }

    add(value) {
        this.#values.push(value);
        if (this.#values.length > SPAN) this.#values.shift();
        const most = Math.max(...this.#values);
        const x = (i) => SPAN - this.#values.length + i + 1;
        this.line.setAttribute("d", most ? this.#values.map((v, i) => `${i ? "L" : "M"}${x(i)} ${(23 - (v / most) * 22).toFixed(1)}`).join("") : "");
    }
}
