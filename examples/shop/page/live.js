// A stream of the shop's (Server-Sent Events) that is kept open. EventSource comes back by itself after
// a broken connection and tells how far it had read; this adds what it does not do: coming back after
// an answer that is not a stream, noticing silence, and giving the connection back while nobody looks
// (a browser has six for a site, all tabs together).

const PATIENCE = 2000; // ms until a closed stream is tried again
const HIDDEN = 30000; // ms after which a tab that nobody sees lets go

export class Live {
    #url; #on; #source = null; #last = ""; #timer = 0; #hidden = 0; #watch = 0;

    /** on: message(data), state("live" | "reconnecting"), open(), gap(): something is missing. */
    constructor(url, on, { silence = 0 } = {}) {
        this.#url = url;
        this.#on = { message() {}, state() {}, open() {}, gap() {}, ...on };
        this.silence = silence;
        document.addEventListener("visibilitychange", () => this.#seen());
        this.#open();
    }

    /** Another stream from here on, from its beginning. */
    move(url) {
        this.#url = url;
        this.#last = "";
        this.reopen();
    }

    reopen() {
        this.#close();
        this.#open();
    }

    #open() {
        const after = this.#last ? `${this.#url.includes("?") ? "&" : "?"}lastEventId=${encodeURIComponent(this.#last)}` : "";
        const source = new EventSource(this.#url + after);
        this.#source = source;
        source.onopen = () => {
            this.#on.state("live");
            this.#on.open();
            this.#listen();
        };
        source.onmessage = (e) => {
            if (e.lastEventId) this.#last = e.lastEventId;
            this.#listen();
            this.#on.message(JSON.parse(e.data), e.lastEventId);
        };
        source.addEventListener("gap", (e) => {
            if (e.lastEventId) this.#last = e.lastEventId;
            this.#on.gap();
        });
        source.onerror = () => {
            this.#on.state("reconnecting");
            if (source.readyState !== EventSource.CLOSED) return;
            this.#close();
            this.#timer = setTimeout(() => this.#open(), PATIENCE);
        };
    }

    #close() {
        this.#source?.close();
        this.#source = null;
        clearTimeout(this.#timer);
        clearTimeout(this.#watch);
    }

    /** Called at each sign of life. */
    #listen() {
        clearTimeout(this.#watch);
        if (!this.silence) return;
        this.#watch = setTimeout(() => {
            this.#on.state("reconnecting");
            this.reopen();
        }, this.silence);
    }

    #seen() {
        clearTimeout(this.#hidden);
        if (document.hidden) this.#hidden = setTimeout(() => this.#close(), HIDDEN);
        else if (!this.#source) this.reopen();
    }
}
