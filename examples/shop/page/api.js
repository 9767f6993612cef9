// Requests to the shop, in JSON. What it refuses comes as a Problem (RFC 9457) whose faults know which
// field they are about; what gets no answer is repeated if it carries a key, since the shop then does
// it only once.

export class Problem extends Error {
    constructor(status, body) {
        super(body?.detail || body?.title || `The shop answered with ${status}.`);
        this.status = status;
        this.faults = (body?.errors ?? []).map((e) => faultOf(fieldOf(e), e.detail));
    }
}

const LABELS = { user_id: "Customer", product_id: "Product", quantity: "Quantity", price: "Price", name: "Name", email: "E-mail" };

/** The shop's detail reads on after the field's name: "is 0, expected an integer from 1 to 1000". */
function faultOf(field, detail) {
    const label = LABELS[field.split("/").pop()];
    return { field, detail: label ? `${label} ${detail}` : detail };
}

/** "$.items[0].quantity" and "#/items/0/quantity" are both "items/0/quantity". */
function fieldOf({ pointer, path }) {
    const text = pointer?.replace(/^#\//, "") ?? path ?? "";
    return text.replace(/^\$\.?/, "").replace(/\]/g, "").replace(/[.[]/g, "/");
}

/** No answer: not told whether it was done. */
export class Unheard extends Error {
    constructor() {
        super("The shop does not answer.");
    }
}

async function once(method, path, body, headers) {
    let reply;
    try {
        reply = await fetch(path, {
            method,
            headers: body === undefined ? headers : { "Content-Type": "application/json", ...headers },
            body: body === undefined ? undefined : JSON.stringify(body),
        });
    } catch {
        throw new Unheard();
    }
    const json = await reply.json().catch(() => null);
    if (reply.ok && json === null) throw new Unheard(); // it died while it spoke
    if (!reply.ok) throw Object.assign(new Problem(reply.status, json), { again: reply.headers.get("Retry-After") });
    return json;
}

export const get = (path, headers = {}) => once("GET", path, undefined, headers);
export const put = (path, body = {}) => once("PUT", path, body, {});

/** Is this what became of a request, or may the next try under the same key tell more? Not when nothing
 * was heard, the shop failed (5xx: nothing was stored), or its first copy still runs. */
export const isAnswer = (e) => e instanceof Problem && e.status < 500 && !(e.status === 409 && e.again);

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const passing = (e) => e instanceof Unheard || e.status >= 502 || (e.status === 409 && e.again);

/** POST with an Idempotency-Key: tried again with the same key until there is an answer. */
export async function post(path, body, key, onRetry = () => {}) {
    for (let attempt = 1; ; attempt++) {
        try {
            return await once("POST", path, body, { "Idempotency-Key": key });
        } catch (e) {
            if (!passing(e) || attempt === 10) throw e;
            onRetry(e);
            await pause(e.again ? e.again * 1000 : Math.min(250 * 2 ** attempt, 4000));
        }
    }
}

/** As crypto.randomUUID, which browsers only give to https and localhost. */
export function newKey() {
    return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}
