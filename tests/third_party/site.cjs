// Look at the catalogue site as a reader does: node site.cjs ADDRESS FOLDER PROFILE [SHOTS]
// ADDRESS serves the site that FOLDER holds. Prints one JSON object of what was seen; PROFILE is
// where the browser keeps its own. With SHOTS, screenshots are left there.
const { readFileSync } = require("node:fs");
const { join } = require("node:path");
const { pathToFileURL } = require("node:url");
const { chromium } = require("playwright-core");

const [address, folder, profile, shots] = process.argv.slice(2);
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
const IMAGE = "images/sklearn-0.24.1.html";
const PAGES = ["index.html", "compare.html", IMAGE];
const NARROW = { width: 320, height: 640 };
const WIDE = { width: 1280, height: 900 };

const seen = { console: [], requests: [], axe: {}, overflow: {}, languages: {}, search: {} };

async function main() {
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: "/usr/bin/chromium",
    args: FLAGS,
    viewport: WIDE,
  });
  try {
    context.on("page", watch);
    const page = await context.newPage();
    await search(page, address);
    await languages(page);
    await compare(page);
    await keyboard(page);
    for (const scheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme: scheme });
      for (const at of [...PAGES, "zh/index.html"]) await accessible(page, at, scheme);
    }
    await page.emulateMedia({ colorScheme: "light" });
    await page.setViewportSize(NARROW);
    for (const at of [...PAGES, ...PAGES.map((one) => "zh/" + one), "fr/index.html", "es/compare.html"]) {
      await page.goto(address + at);
      seen.overflow[at] = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    }
    for (const at of PAGES) await accessible(page, at, "narrow");
    await page.setViewportSize(WIDE);
    await fromFolder(page);
    await withoutScript(context);
    if (shots) await screenshots(page);
  } finally {
    await context.close();
  }
}

function watch(page) {
  page.on("console", (message) => seen.console.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => seen.console.push(`error: ${error}`));
  page.on("request", (request) => seen.requests.push(request.url()));
}

// A click may be over before the page it leads to has run its script.
async function follow(page, link) {
  await Promise.all([page.waitForEvent("load"), page.click(link)]);
}

const rows = (page) =>
  page.$$eval("#results tbody tr", (all) =>
    all.map((row) => [...row.children].map((cell) => cell.textContent)),
  );

async function ask(page, question) {
  await page.fill("#q", question);
  await page.press("#q", "Enter");
  return { rows: await rows(page), status: await page.textContent("#status") };
}

async function search(page, at) {
  await page.goto(at + "index.html");
  const asked = {};
  for (const question of [
    "pandas 1.1.5",
    "which images hold pandas 1.1.5?",
    "pandas==0.25.1",
    "pandas 9.9",
    "pandas 1.1.50",
    "no-such-package",
    "lib",
    "",
  ]) {
    asked[question] = await ask(page, question);
  }
  await ask(page, "pandas 1.1.5");
  seen.search.asked = asked;
  seen.search.hash = new URL(page.url()).hash;
  await page.reload();
  seen.search.reloaded = await rows(page);
  await follow(page, "#results tbody a");
  seen.search.followed = { url: page.url(), heading: await page.textContent("h1") };
  await follow(page, "header nav a");
  seen.search.back = page.url();
}

async function languages(page) {
  await page.goto(address + IMAGE);
  for (const tag of ["es", "fr", "zh-Hans", "en"]) {
    await follow(page, `.languages a[hreflang="${tag}"]`);
    seen.languages[tag] = {
      url: page.url(),
      lang: await page.getAttribute("html", "lang"),
      current: await page.textContent(".languages [aria-current]"),
      headings: await page.$$eval("h2", (all) => all.map((one) => one.textContent)),
    };
  }
}

async function compare(page) {
  await page.goto(address + IMAGE);
  await follow(page, 'a[href*="compare.html#"]');
  seen.compare = { chosen: [await page.inputValue("#a"), await page.inputValue("#b")] };
  await page.selectOption("#a", "xgboost-0.9");
  await page.selectOption("#b", "sklearn-0.24.1");
  seen.compare.rows = await rows(page);
  seen.compare.status = await page.textContent("#status");
  seen.compare.command = await page.textContent("#command");
  await page.selectOption("#a", "sklearn-0.24.1");
  seen.compare.same = { rows: await rows(page), status: await page.textContent("#status") };
  await skip(page);
  seen.compare.skipped = [await page.inputValue("#a"), await page.inputValue("#b")];
}

// What the link that skips to the content does, seen to its end.
const skip = (page) =>
  page.evaluate(() => new Promise((done) => {
    addEventListener("hashchange", done, { once: true });
    location.hash = "main";
  }));

// Tab, tab: the way to the content, to each link and field; focus can be seen.
async function keyboard(page) {
  await page.goto(address + "index.html");
  await page.keyboard.press("Tab");
  const first = await page.evaluate(() => document.activeElement.className);
  await page.keyboard.press("Enter");
  const main = await page.evaluate(() => document.activeElement.id);
  await page.keyboard.press("Tab");
  const field = await page.evaluate(() => {
    const style = getComputedStyle(document.activeElement);
    return { id: document.activeElement.id, outline: style.outlineStyle };
  });
  await page.keyboard.type("scikit-learn 0.24");
  await page.keyboard.press("Enter");
  seen.keyboard = { first, main, field, rows: await rows(page) };
  await skip(page);
  seen.keyboard.skipped = await page.inputValue("#q");
}

async function accessible(page, at, called) {
  await page.goto(address + at);
  if (at === "index.html") await ask(page, "pandas");
  await page.$$eval("details", (all) => all.forEach((one) => (one.open = true)));
  await page.evaluate(axe);
  const found = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
  seen.axe[`${at} ${called}`] = {
    checked: found.passes.length,
    violations: found.violations.map((one) => `${one.id}: ${one.nodes.map((n) => n.html).slice(0, 3)}`),
  };
}

async function fromFolder(page) {
  await page.goto(pathToFileURL(join(folder, "fr", "index.html")).href);
  seen.folder = (await ask(page, "pandas 1.1.5")).rows;
  seen.styled = await page.evaluate(() => getComputedStyle(document.querySelector(".top")).borderBottomStyle);
}

async function withoutScript(context) {
  const page = await (await context.browser().newContext({ javaScriptEnabled: false })).newPage();
  await page.goto(address + "index.html");
  seen.plain = { text: await page.innerText("main"), form: await page.isVisible("#search") };
  await page.close();
}

async function screenshots(page) {
  const take = async (name, at, scheme, size, question) => {
    await page.emulateMedia({ colorScheme: scheme });
    await page.setViewportSize(size);
    await page.goto(address + at);
    if (question) await ask(page, question);
    await page.screenshot({ path: join(shots, name + ".png"), fullPage: true });
  };
  await take("index", "index.html", "light", WIDE, "pandas 1.1.5");
  await take("image", IMAGE, "light", WIDE);
  await take("image-dark", "images/xgboost-0.9.html", "dark", WIDE);
  await take("index-zh", "zh/index.html", "light", WIDE);
  await take("compare", "compare.html#a=xgboost-0.9&b=sklearn-0.24.1", "light", WIDE);
  await take("index-narrow", "fr/index.html", "light", { width: 360, height: 740 }, "pandas");
  await take("image-narrow", "es/" + IMAGE, "dark", { width: 360, height: 740 });
  await page.goto(address + IMAGE);
  await page.pdf({ path: join(shots, "image.pdf"), format: "A4" });
}

main().then(
  () => console.log(JSON.stringify(seen)),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
