// What the browser tests share: a shop in a scratch directory, Chromium, a runner that prints as cmocka
// does (script/tally counts its lines), and screenshots of what was seen when a test failed.
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const CHROMIUM = "/usr/bin/chromium";
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"];
const PATIENCE = 30000; // ms until a condition that is waited for is taken as not coming
const VIEW = { width: 1280, height: 900 };

export const scratch = mkdtempSync(join(tmpdir(), "hark-browser-"));

/** Chromium with a profile in the scratch directory; Playwright is where npm has put it. */
export function launch(modules) {
    const { chromium } = createRequire(join(modules, "package.json"))("playwright-core");
    process.env.TMPDIR = scratch;
    return chromium.launch({ executablePath: CHROMIUM, headless: true, args: FLAGS, env: { ...process.env, HOME: scratch } });
}

// ---- the shop

export class Shop {
    static running = new Set();

    /** Supervised, on a free port; resolves when it has told its address. */
    static start(program, name, ...args) {
        const store = `sqlite:${join(scratch, `${name}.db`)}`;
        const process = spawn(program, ["--store", store, "--listen", "127.0.0.1:0", "--quiet", ...args], { cwd: scratch });
        const shop = Object.assign(new Shop(), { process, errors: "" });
        Shop.running.add(shop);
        process.stderr.on("data", (text) => (shop.errors += text));
        return new Promise((resolve, reject) => {
            process.on("error", reject);
            process.on("exit", (status, signal) => reject(new Error(`the shop ended: ${status ?? signal}\n${shop.errors}`)));
            createInterface({ input: process.stdout }).on("line", (line) => {
                shop.url ??= /^shop: (http:\S+)$/.exec(line)?.[1];
                if (shop.url) resolve(shop);
            });
        });
    }

    /** Kills the process that serves; its supervisor, which keeps the port, starts another. */
    killServer() {
        const { pid } = this.process;
        const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").map(Number);
        if (children.length !== 1 || !children[0]) throw new Error(`the supervisor has ${children.length} children, expected 1`);
        process.kill(children[0], "SIGKILL");
    }

    stop() {
        Shop.running.delete(this);
        return new Promise((resolve) => {
            this.process.removeAllListeners("exit").on("exit", resolve);
            this.process.kill("SIGTERM");
        });
    }

    /** As a careful client: what got no answer, since the shop has died meanwhile, is asked again with the same key. */
    async ask(method, path, body) {
        const headers = { "Content-Type": "application/json", "Idempotency-Key": randomUUID() };
        const signal = AbortSignal.timeout(PATIENCE);
        const request = { method, headers: body && headers, body: body && JSON.stringify(body), signal };
        let reply, json;
        while (!json) {
            try {
                reply = await fetch(new URL(path, this.url), request);
                json = await reply.json();
            } catch (e) {
                if (signal.aborted) throw e;
            }
        }
        if (!reply.ok) throw new Error(`${method} ${path}: ${reply.status}, ${json.detail}`);
        return json;
    }

    /** A customer of a test's own, so that tests do not see each other's orders. */
    async customer(name = "Ann") {
        return (await this.ask("POST", "/users", { name, email: `${name.toLowerCase()}@example.com` })).id;
    }

    async orders(user) {
        return (await this.ask("GET", `/orders?user_id=${user}`)).orders;
    }
}

// ---- a page

/** What scripts in the page may not do, and what they failed at, is a fault of the page. */
function watch(page, faults) {
    page.on("pageerror", (e) => faults.push(`in the page: ${e.stack}`));
    page.on("console", (m) => {
        if (/Content Security Policy/.test(m.text())) faults.push(m.text());
    });
}

/** The page as a customer sees it, in a browser that has never been there; states() are those that
 * orders have gone through before its eyes, connections() those of its connection; marked() is false
 * when it was loaded anew. */
export async function visit(browser, shop, user, faults = []) {
    const context = await browser.newContext({ viewport: VIEW });
    context.setDefaultTimeout(PATIENCE);
    const page = await context.newPage();
    watch(page, faults);
    await page.addInitScript((id) => {
        if (id) localStorage.setItem("hark-shop-customer", id);
        window.states = {};
        window.connections = [];
        const note = ({ id, dataset: { order, status, state } }) => {
            if (status) (window.states[order] ??= []).push(status);
            if (id === "connection") window.connections.push(state);
        };
        new MutationObserver((changes) => changes.forEach((c) => note(c.target)))
            .observe(document, { subtree: true, attributes: true, attributeFilter: ["data-status", "data-state"] });
    }, user);
    const reply = await page.goto(shop.url);
    if (!/default-src 'self'/.test(reply.headers()["content-security-policy"])) faults.push("the page came without its Content-Security-Policy");
    await page.locator("#connection", { hasText: /^live$/ }).waitFor();
    await page.locator("[data-sku=prod1] .stock").waitFor();
    await page.evaluate(() => (window.marked = true));
    return page;
}

export const states = (page, order) => page.evaluate((id) => window.states[id], order);
export const connections = (page) => page.evaluate(() => [...new Set(window.connections)]);
export const marked = (page) => page.evaluate(() => window.marked === true);

export async function until(what, page, condition, argument) {
    try {
        return await page.waitForFunction(condition, argument, { timeout: PATIENCE });
    } catch (e) {
        throw new Error(`waited ${PATIENCE / 1000} s in vain: ${what}\n${e.message}`);
    }
}

export function expect(what, got, expected) {
    const [g, e] = [JSON.stringify(got), JSON.stringify(expected)];
    if (g !== e) throw new Error(`${what}: ${g}, expected ${e}`);
}

// ---- the runner

async function picture(browser, name, shots) {
    mkdirSync(shots, { recursive: true });
    const pages = browser.contexts().flatMap((c) => c.pages());
    for (const [i, page] of pages.entries()) {
        const path = join(shots, `${name}${i || ""}.png`);
        await page.screenshot({ path, fullPage: true }).then(() => console.log(`seen then: ${path}`), () => {});
    }
}

async function one(name, test, browser, shots) {
    const faults = [];
    console.log(`[ RUN      ] ${name}`);
    try {
        await test(browser, faults);
        if (faults.length) throw new Error(faults.join("\n"));
        console.log(`[       OK ] ${name}`);
        return true;
    } catch (e) {
        console.log(e.stack);
        for (const shop of Shop.running) if (shop.errors) console.log(`the shop says:\n${shop.errors}`);
        await picture(browser, name, shots);
        console.log(`[  FAILED  ] ${name}`);
        return false;
    } finally {
        await Promise.all(browser.contexts().map((c) => c.close()));
    }
}

/** Runs all, in their order; tells how many passed, and is true if all did. */
export async function run(tests, browser, shots) {
    let passed = 0;
    console.log(`[==========] browser: Running ${tests.length} test(s).`);
    for (const test of tests) passed += await one(test.name, test, browser, shots);
    console.log(`[  PASSED  ] ${passed} test(s).`);
    if (passed < tests.length) console.log(`[  FAILED  ] ${tests.length - passed} test(s).`);
    return passed > 0 && passed === tests.length;
}

export async function clear(browser) {
    await browser?.close();
    await Promise.all([...Shop.running].map((shop) => shop.stop()));
    rmSync(scratch, { recursive: true, force: true });
}
