// Serves the dashboards and drives one Chromium over them. Reads {"id", "command", "arguments"}
// lines on stdin, answers {"id", "value"} or {"id", "error"} lines, ends with its stdin.
//
//   node driver.mjs <folder with node_modules> <Redis socket> <chromium> <folder of its profile>
import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { serve } from "./serve.mjs";

const [, , modulesFolder, socketPath, executablePath, profile] = process.argv;
const load = createRequire(join(modulesFolder, "package.json"));
const { chromium } = load("playwright-core");

const FLAGS = [
  ...["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"],
  ...["--disable-background-networking", "--disable-component-update", "--disable-sync"],
];
const LOOK_MS = 50_000;

const browser = await chromium.launchPersistentContext(profile, {
  ...{ executablePath, headless: true, args: FLAGS },
  viewport: { width: 1400, height: 900 },
  locale: "en-US",
});
browser.setDefaultTimeout(LOOK_MS);
const page = browser.pages()[0] ?? (await browser.newPage());
let troubles = [];
let dashboards;

page.on("pageerror", (error) => troubles.push(`page: ${error.message}`));
page.on("dialog", (dialog) => dialog.accept());
page.on("response", (answer) => {
  // Arena ships without the fonts of its icons.
  if (answer.status() < 400 || answer.request().resourceType() === "font") return;
  troubles.push(`${answer.status()} ${answer.request().method()} ${answer.url()}`);
});

// Arena reloads its page when an action is done, which cuts off what was asked for meanwhile.
async function visit(url, waitUntil, triesLeft = 3) {
  try {
    await page.goto(url, { waitUntil });
  } catch (error) {
    if (!triesLeft || !/ERR_ABORTED|interrupted|Timeout/.test(error.message)) throw error;
    await visit(url, waitUntil, triesLeft - 1);
  }
}

const commands = {
  open: async ({ queues }) => {
    troubles = [];
    dashboards = await serve(load, socketPath, queues);
    return dashboards.port;
  },

  // The page is left first: bull-board asks again and again.
  leave: async () => {
    await visit("about:blank", "load");
    await dashboards?.close();
  },

  goto: ({ url }) => visit(url, "networkidle"),
  see: async ({ selector }) => void (await page.locator(selector).first().waitFor()),
  click: async ({ selector }) => void (await page.locator(selector).first().click()),
  count: ({ selector }) => page.locator(selector).count(),
  fill: async ({ selector, value }) => void (await page.locator(selector).first().fill(value)),
  choose: async ({ selector, file }) => void (await page.locator(selector).setInputFiles(file)),
  press: async ({ key }) => void (await page.keyboard.press(key)),
  type: async ({ text }) => void (await page.keyboard.insertText(text)),
  run: async ({ script, given }) => void (await page.evaluate(`(${script})(${JSON.stringify(given)})`)),
  text: () => page.evaluate("document.body.innerText"),

  shot: async ({ path }) => void (await page.screenshot({ path })),

  // What went wrong on the pages since the last question.
  troubles: () => {
    const seen = troubles;
    troubles = [];
    return seen;
  },
};

async function answer(line) {
  const { id, command, arguments: given } = JSON.parse(line);
  try {
    return { id, value: (await commands[command](given)) ?? null };
  } catch (error) {
    return { id, error: error.message };
  }
}

const lines = createInterface({ input: process.stdin });
lines.on("line", async (line) => process.stdout.write(`${JSON.stringify(await answer(line))}\n`));
lines.on("close", async () => {
  await browser.close();
  process.exit(0);
});
