// node shoot.mjs < job.json: opens a GLB in three.js, or an HTML player, in Chromium; takes pictures at some shares of
// the time; prints what it saw as JSON. The browser is offline: every request but those served here is refused and listed.
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const here = dirname(fileURLToPath(import.meta.url));
const job = JSON.parse(readFileSync(0, "utf8"));
const browser = await chromium.launch({
  executablePath: job.chromium,
  args: ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"],
});
const seen = { console: [], refused: [] };
try {
  const [width, height] = job.size;
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: job.scheme ?? "light", hasTouch: !!job.touch });
  const page = await context.newPage();
  page.on("console", (message) => {
    const text = message.text();
    if (["error", "warning"].includes(message.type()) && !/GPU stall due to ReadPixels/.test(text)) seen.console.push(text);
  });
  page.on("pageerror", (error) => seen.console.push(String(error)));
  const types = { ".html": "text/html", ".js": "text/javascript", ".glb": "model/gltf-binary" };
  await page.route("**/*", (route) => {
    const url = new URL(route.request().url());
    if (job.kind === "html" && url.href === pathToFileURL(job.file).href) return route.continue();
    if (job.kind === "glb" && url.host === "sdfnet.test") {
      const path = url.pathname === "/morph.glb" ? job.file : join(here, normalize(url.pathname));
      if (url.pathname === "/favicon.ico") return route.fulfill({ status: 204 });
      return route.fulfill({ body: readFileSync(path), contentType: types[path.slice(path.lastIndexOf("."))] });
    }
    seen.refused.push(url.href.slice(0, 200));
    return route.abort();
  });
  const save = (name, dataUrl) => writeFileSync(join(job.out, name), Buffer.from(dataUrl.split(",")[1], "base64"));
  if (job.kind === "glb") {
    await page.goto("http://sdfnet.test/three.html");
    await page.waitForFunction(() => window.load);
    Object.assign(seen, await page.evaluate(([url, size]) => window.load(url, size), ["/morph.glb", job.size]));
    for (const [index, share] of job.shares.entries()) {
      for (const look of job.looks) {
        const picture = await page.evaluate(([s, c, l]) => window.draw(s, c, l), [share, job.camera, look]);
        save(`${look}_${index}.png`, picture);
      }
    }
  } else {
    await page.goto(pathToFileURL(job.file).href);
    await page.waitForFunction(() => document.documentElement.dataset.state === "ready" || document.documentElement.dataset.state === "failed", null, { timeout: 60000 });
    seen.state = await page.evaluate(() => document.documentElement.dataset.state);
    for (const step of job.steps ?? []) {
      const value = await page.evaluate(step.script ?? "null");
      if (step.press) await page.keyboard.press(step.press);
      // The page's own policy forbids what waitForFunction would do with a text.
      while (step.until && !(await page.evaluate(step.until))) await page.waitForTimeout(50);
      if (step.wait) await page.waitForTimeout(step.wait);
      if (step.drag) {
        await page.mouse.move(...step.drag[0]);
        await page.mouse.down();
        await page.mouse.move(...step.drag[1], { steps: 4 });
        await page.mouse.up();
      }
      if (step.name) (seen.values ??= {})[step.name] = step.script ? value : null;
      if (step.picture) await page.screenshot({ path: join(job.out, step.picture) });
    }
  }
} finally {
  await browser.close();
}
console.log(JSON.stringify(seen));
