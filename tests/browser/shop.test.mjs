// The shop's page in a browser: what it promises to a visitor. Nothing sleeps: each step waits until
// the page shows what it must.
//
// Usage: shop.test.mjs SHOP MODULES SHOTS [PART]: the program, the folder with Playwright in
// node_modules, where to put pictures of what failed, and which tests: those with this in their names.
import { clear, connections, expect, launch, marked, run, Shop, states, until, visit } from "./harness.mjs";

const STOCK = 40;
let shop; // payments are automatic, parcels are sent by hand: so "paid" stays until a test goes on

// ---- what a visitor does

const add = (page, name) => page.getByRole("button", { name: `Add ${name} to the cart` }).click();
const press = (page, verb, order) => page.getByRole("button", { name: `${verb} order ${order}` }).click();
const place = (page) => page.getByRole("button", { name: "Place the order" }).click();

/** Places what is in the cart; its id. */
async function order(page) {
    await place(page);
    const note = page.locator("#cart-note", { hasText: "is placed" });
    await note.waitFor();
    return /ord-\w+/.exec(await note.textContent())[0];
}

const sees = (page, id, status) => page.locator(`[data-order="${id}"][data-status="${status}"]`).waitFor();
const figure = (page, name) => page.locator(`[data-figure=${name}]`).textContent();

function number(text) {
    return Number(text.replace(/[^\d.]/g, ""));
}

/** A cell of a consumer's row, as a number that fulfils a condition. */
async function lag(page, consumer, condition) {
    const cell = `[data-consumer=${consumer}] .lag-value`;
    await until(`lag of ${consumer} ${condition}`, page, ([at, text]) => {
        const lag = Number(document.querySelector(at)?.textContent.replace(/\D/g, ""));
        const [, op, n] = /^(\S+) (\d+)$/.exec(text);
        return op === ">" ? lag > Number(n) : lag === Number(n);
    }, [cell, condition]);
    return number(await page.locator(cell).textContent());
}

const breakIt = (page, consumer, what) => page.getByLabel(`${consumer}: fails`).selectOption(what);

/** Its pauses between two tries are a hundredth. */
const hurry = (page) => page.evaluate(() => {
    const set = window.setTimeout;
    window.setTimeout = (f, ms) => set(f, ms > 4000 ? ms : ms / 100);
});

/** The first `times` requests of this kind are answered by `answer`; the keys of all of them. */
async function meddle(page, path, times, answer) {
    const keys = [];
    await page.route(path, async (route) => {
        if (route.request().method() !== "POST") return route.continue();
        keys.push(route.request().headers()["idempotency-key"]);
        return keys.length > times ? route.continue() : answer(route);
    });
    return keys;
}

// ---- buying

async function test_what_is_bought_is_paid_and_shipped_before_the_buyers_eyes(browser, faults) {
    const user = await shop.customer();
    const page = await visit(browser, shop, user, faults);
    await add(page, "Teapot");
    await add(page, "Cup");
    await page.getByRole("button", { name: "One Cup more" }).click();
    expect("the total", await page.locator("#cart-total").textContent(), "19.99 EUR");
    const id = await order(page);
    await sees(page, id, "paid");
    expect("steps reached", await page.locator(`[data-order="${id}"] [data-reached=true]`).count(), 3);
    await press(page, "Ship", id);
    await sees(page, id, "shipped");
    expect("the last states", (await states(page, id)).slice(-2), ["paid", "shipped"]);
    await page.locator("#customer-facts", { hasText: "19 points from 1 order" }).waitFor();
    await until("the shelf has one teapot less", page,
        (n) => document.querySelector("[data-sku=prod1] .stock").textContent === `${n} in stock`, STOCK - 1);
    expect("loaded once", await marked(page), true);
}

async function test_a_cart_is_changed_and_outlives_a_reload(browser, faults) {
    const page = await visit(browser, shop, await shop.customer(), faults);
    await add(page, "Teapot");
    await add(page, "Tea, 100 g");
    await page.getByLabel("Tea, 100 g 7.25 EUR").fill("4");
    await page.getByRole("button", { name: "Remove Teapot" }).click();
    await page.reload();
    await page.locator("#cart-total", { hasText: "29.00 EUR" }).waitFor();
    await page.getByRole("button", { name: "One Tea, 100 g less" }).click();
    await page.locator("#cart-total", { hasText: "21.75 EUR" }).waitFor();
    await page.getByRole("button", { name: "Remove Tea, 100 g" }).click();
    await place(page);
    await page.locator("#cart-problem", { hasText: "The cart is empty." }).waitFor();
}

async function test_an_order_whose_reply_is_lost_is_placed_once(browser, faults) {
    const user = await shop.customer();
    const page = await visit(browser, shop, user, faults);
    let lost = 0;
    await page.route("**/orders", async (route) => {
        if (route.request().method() !== "POST") return route.continue();
        await route.fetch(); // the shop has it, and its answer never comes
        lost++;
        await route.abort();
    }, { times: 1 });
    await add(page, "Cup");
    const id = await order(page);
    expect("replies lost", lost, 1);
    await sees(page, id, "paid");
    expect("orders", (await shop.orders(user)).map((o) => o.id), [id]);
}

async function test_an_order_that_still_runs_is_tried_again_under_its_key(browser, faults) {
    const user = await shop.customer();
    const page = await visit(browser, shop, user, faults);
    await hurry(page);
    const keys = await meddle(page, "**/orders", 10, (route) => route.fulfill({
        status: 409, headers: { "Retry-After": "1" }, contentType: "application/problem+json", body: '{"detail":"still running"}',
    }));
    await add(page, "Cup");
    await place(page);
    await page.locator("#cart-problem", { hasText: "still running Your cart is kept; try again." }).waitFor();
    const id = await order(page);
    expect("tries, keys", [keys.length, new Set(keys).size], [11, 1]);
    expect("orders", (await shop.orders(user)).map((o) => o.id), [id]);
    await add(page, "Cup");
    await order(page);
    expect("keys of two orders", new Set(keys).size, 2);
}

async function test_a_newcomer_becomes_a_customer_and_buys(browser, faults) {
    const page = await visit(browser, shop, "", faults);
    await page.getByText("I am new here").click();
    await page.getByRole("button", { name: "Become a customer" }).click();
    await page.locator("#newcomer-form .problem", { hasText: /./ }).first().waitFor();
    await page.getByLabel("Name").fill("Zoë <b>Ö</b>");
    await page.getByLabel("E-mail").fill("zoe@example.com");
    await page.getByRole("button", { name: "Become a customer" }).click();
    await page.locator("#customer-facts", { hasText: "Zoë <b>Ö</b>: 0 points" }).waitFor();
    await add(page, "Cup");
    await sees(page, await order(page), "paid");
}

async function test_a_newcomer_who_gets_no_answer_becomes_one_customer(browser, faults) {
    const newcomers = async () => (await shop.ask("GET", "/stats")).events.by_type.find((t) => t.type === "user:created")?.count ?? 0;
    const page = await visit(browser, shop, await shop.customer(), faults);
    const before = await newcomers();
    await hurry(page);
    const keys = await meddle(page, "**/users", 10, async (route) => {
        await route.fetch(); // the shop has made it, and its answer never comes
        return route.abort();
    });
    await page.getByText("I am new here").click();
    await page.getByLabel("Name").fill("Ida");
    await page.getByLabel("E-mail").fill("ida@example.com");
    await page.getByRole("button", { name: "Become a customer" }).click();
    await page.locator("#newcomer-problem", { hasText: "The shop does not answer. Try again" }).waitFor();
    await page.getByRole("button", { name: "Become a customer" }).click();
    await page.locator("#customer-facts", { hasText: "Ida: 0 points" }).waitFor();
    expect("tries, keys", [keys.length, new Set(keys).size], [11, 1]);
    expect("new customers", (await newcomers()) - before, 1);
}

async function test_older_orders_come_page_by_page(browser, faults) {
    const user = await shop.customer();
    for (let i = 0; i < 8; i++) await shop.ask("POST", "/orders", { user_id: user, items: [{ product_id: "prod3", quantity: 1 }] });
    const page = await visit(browser, shop, user, faults);
    const cards = page.locator("[data-order]");
    await cards.nth(5).waitFor();
    expect("orders at first", await cards.count(), 6);
    await page.getByRole("button", { name: "Older orders" }).click();
    await cards.nth(7).waitFor();
    expect("newest first", await cards.evaluateAll((all) => all.map((c) => c.dataset.order)), (await shop.orders(user)).map((o) => o.id));
    await page.getByRole("button", { name: "Older orders" }).waitFor({ state: "hidden" });
}

// ---- what is refused

async function test_more_than_there_is_is_cancelled_and_says_why(browser, faults) {
    const page = await visit(browser, shop, await shop.customer(), faults);
    await add(page, "Tea, 100 g");
    await page.getByLabel("Tea, 100 g 7.25 EUR").fill("1000");
    await page.getByText("this order will be cancelled").waitFor();
    const id = await order(page);
    await sees(page, id, "cancelled");
    await page.locator(`[data-order="${id}"] .reason`, { hasText: /sold out/ }).waitFor();
}

async function test_a_problem_is_shown_beside_its_field(browser, faults) {
    const page = await visit(browser, shop, await shop.customer(), faults);
    await add(page, "Cup");
    await page.getByLabel("Customer").fill("nobody");
    await place(page);
    await page.locator("#customer-problem", { hasText: "nobody" }).waitFor();
    expect("marked", await page.getByLabel("Customer").getAttribute("aria-invalid"), "true");
    await page.route("**/orders", (route) => {
        const body = route.request().postDataJSON();
        body.items[0].quantity = 0;
        return route.continue({ postData: JSON.stringify(body) });
    });
    await page.getByLabel("Customer").fill("user123");
    await place(page);
    await page.locator("#line-prod2-problem", { hasText: "Quantity is 0, expected an integer from 1 to 1000" }).waitFor();
}

async function test_buttons_pay_and_cancel_where_the_state_allows_it(browser, faults) {
    const manual = await Shop.start(shop.process.spawnfile, "manual", "--payment", "manual");
    const page = await visit(browser, manual, await manual.customer(), faults);
    await add(page, "Teapot");
    const paid = await order(page);
    await sees(page, paid, "reserved");
    await press(page, "Pay", paid);
    await sees(page, paid, "shipped");
    expect("buttons then", await page.locator(`[data-order="${paid}"] button`).count(), 0);
    await add(page, "Cup");
    const left = await order(page);
    await sees(page, left, "reserved");
    await press(page, "Cancel", left);
    await sees(page, left, "cancelled");
    await manual.stop();
}

// ---- what is going on

async function test_statistics_move_with_what_is_bought(browser, faults) {
    const page = await visit(browser, shop, await shop.customer(), faults);
    await page.locator("[data-figure=created]", { hasText: /\d/ }).waitFor();
    const before = { created: number(await figure(page, "created")), revenue: number(await figure(page, "revenue")) };
    const column = "path[data-series='order:paid']";
    const points = await page.locator(column).getAttribute("d");
    await add(page, "Teapot");
    await sees(page, await order(page), "paid");
    await until("the figures have it", page, ({ created, revenue }) => {
        const n = (name) => Number(document.querySelector(`[data-figure=${name}]`).textContent.replace(/[^\d.]/g, ""));
        return n("created") > created && n("revenue") > revenue;
    }, before);
    await until("the chart has it", page, ([at, d]) => (document.querySelector(at).getAttribute("d") ?? "") !== (d ?? ""), [column, points]);
    expect("consumers", await page.locator("[data-consumer]").count(), 8);
    await page.locator(".plot").focus();
    for (let i = 0; i < 3; i++) await page.keyboard.press("ArrowLeft");
    await page.locator(".tip", { hasText: "3 s ago" }).waitFor();
}

async function test_a_broken_consumer_falls_behind_says_why_and_catches_up(browser, faults) {
    const page = await visit(browser, shop, await shop.customer(), faults);
    const row = page.locator("[data-consumer=notification]");
    await lag(page, "notification", "= 0");
    await breakIt(page, "notification", "always");
    await row.locator(".col-name", { hasText: "notification" }).waitFor();
    await page.locator("[data-consumer=notification].broken").waitFor();
    await add(page, "Cup");
    await sees(page, await order(page), "paid"); // orders go on
    const first = await lag(page, "notification", "> 0");
    await row.locator(".why", { hasText: /notification service is down/ }).waitFor();
    await add(page, "Cup");
    await sees(page, await order(page), "paid");
    await lag(page, "notification", `> ${first}`);
    await breakIt(page, "notification", "never");
    await lag(page, "notification", "= 0");
    await row.locator(".chip", { hasText: "idle" }).waitFor();
}

async function test_a_poison_order_becomes_a_dead_letter_that_is_redriven_from_the_page(browser, faults) {
    const page = await visit(browser, shop, await shop.customer(), faults);
    const crash = page.getByRole("button", { name: "inventory: crash" });
    await crash.click();
    await page.locator(".crash[aria-pressed=true]").waitFor();
    await add(page, "Cup");
    const id = await order(page);
    const letter = page.locator("#letters li", { hasText: id });
    await letter.waitFor();
    await letter.getByText("3 crashes").waitFor();
    await page.locator("#connection", { hasText: /^live$/ }).waitFor();
    await crash.click(); // mended
    await page.locator(".crash[aria-pressed=true]").waitFor({ state: "detached" });
    await letter.getByRole("button", { name: "Redrive" }).click();
    await sees(page, id, "paid");
    await letter.waitFor({ state: "detached" });
    expect("loaded once", await marked(page), true);
}

async function test_dead_letters_of_all_pages_are_shown_and_redriven_ones_are_not(browser, faults) {
    const letter = (id, redriven) => ({
        id, consumer: "inventory", sequence: 100 + id, type: "order:created", subject: `ord-${id}`, reason: "crash",
        error: "SIGABRT", attempts: 3, crashes: 3, dead_at: "2031-05-17T10:00:00Z", redriven,
    });
    const pages = { "": { dead_letters: [letter(1, false), letter(2, true)], next: 2 }, 2: { dead_letters: [letter(3, false)] } };
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.route("**/dead-letters?*", (route) =>
        route.fulfill({ json: pages[new URL(route.request().url()).searchParams.get("after") ?? ""] }));
    await page.goto(shop.url);
    await page.locator("#letters li").first().waitFor();
    expect("newest first", await page.locator("#letters li").evaluateAll((all) => all.map((l) => l.dataset.letter)), ["3", "1"]);
}

// ---- a shop that dies

async function test_a_page_comes_back_by_itself_after_a_kill_and_has_missed_nothing(browser, faults) {
    const user = await shop.customer();
    const page = await visit(browser, shop, user, faults);
    shop.killServer();
    const { id } = await shop.ask("POST", "/orders", { user_id: user, items: [{ product_id: "prod2", quantity: 2 }] });
    await sees(page, id, "paid");
    await page.locator("#connection", { hasText: /^live$/ }).waitFor();
    expect("the connection was", (await connections(page)).slice(-2), ["live", "reconnecting"]);
    await press(page, "Ship", id);
    await sees(page, id, "shipped");
    expect("loaded once", await marked(page), true);
}

// ---- main

const tests = [
    test_what_is_bought_is_paid_and_shipped_before_the_buyers_eyes,
    test_a_cart_is_changed_and_outlives_a_reload,
    test_an_order_whose_reply_is_lost_is_placed_once,
    test_an_order_that_still_runs_is_tried_again_under_its_key,
    test_a_newcomer_becomes_a_customer_and_buys,
    test_a_newcomer_who_gets_no_answer_becomes_one_customer,
    test_older_orders_come_page_by_page,
    test_more_than_there_is_is_cancelled_and_says_why,
    test_a_problem_is_shown_beside_its_field,
    test_buttons_pay_and_cancel_where_the_state_allows_it,
    test_statistics_move_with_what_is_bought,
    test_a_broken_consumer_falls_behind_says_why_and_catches_up,
    test_a_poison_order_becomes_a_dead_letter_that_is_redriven_from_the_page,
    test_dead_letters_of_all_pages_are_shown_and_redriven_ones_are_not,
    test_a_page_comes_back_by_itself_after_a_kill_and_has_missed_nothing,
];

const [program, modules, shots, part = ""] = process.argv.slice(2);
if (!shots) {
    console.error("usage: shop.test.mjs SHOP MODULES SHOTS [PART]");
    process.exit(64);
}
let browser;
try {
    browser = await launch(modules);
    shop = await Shop.start(program, "shop", "--shipping", "manual", "--stock", String(STOCK));
    process.exitCode = (await run(tests.filter((t) => t.name.includes(part)), browser, shots)) ? 0 : 1;
} catch (e) {
    console.error(e.stack);
    process.exitCode = 1;
} finally {
    await clear(browser);
}
