// Small helpers: making elements, and how money, numbers and times are written. Text always goes in as
// text, never as HTML, so nothing that a customer types can become part of the page.

export const $ = (id) => document.getElementById(id);

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) {
        if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
        else if (value === true) node.setAttribute(name, "");
        else if (value !== false && value != null) node.setAttribute(name, value);
    }
    node.append(...children.filter((c) => c != null));
    return node;
}

/** el("button", { class: "main", onclick: f }, "Buy"): attributes, listeners (on…), children. */
export function el(tag, attributes = {}, ...children) {
    return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
    return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** Writes only what has changed: screen readers and selections are left in peace. */
export function say(node, text) {
    const s = String(text);
    if (node.textContent !== s) node.textContent = s;
}

export const cents = (price) => Math.round(Number(price) * 100);

const decimal = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
export const money = (inCents, currency = "EUR") => `${decimal.format(inCents / 100)} ${currency}`;

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
export const number = (n) => whole.format(n);
/** 0, 0.4, 3.2, 17: as many digits as can be read in passing. */
export const rate = (n) => (n < 10 ? String(Math.round(n * 10) / 10) : whole.format(n));

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const calendar = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
export function time(rfc3339) {
    const t = new Date(rfc3339);
    const today = new Date().toDateString() === t.toDateString();
    return today ? clock.format(t) : `${calendar.format(t)}, ${clock.format(t)}`;
}
