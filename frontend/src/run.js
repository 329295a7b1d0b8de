import { get } from "./api.js";
import { store } from "./store.js";

/** What /api/run said. */
export const run = store(null);

const POLL = 1000;

/** Ask again until the run's model is read, and it is certain what can be asked of it. */
export async function followRun() {
  await new Promise((done) => setTimeout(done, POLL));
  const found = await get("/api/run").catch(() => null);
  if (found) run.set(found);
  if (!found?.ready) followRun();
}

const ONE = { images: "image", texts: "text", videos: "video", nodes: "node", pages: "page" };

/** "1 image", "1,797 images" */
export function counted(n, noun = run.get()?.noun ?? "items") {
  return `${n.toLocaleString("en")} ${n === 1 ? ONE[noun] ?? noun.replace(/s$/, "") : noun}`;
}

export const grouped = (n) => n.toLocaleString("en");

/** A number short enough for a table. */
export function short(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return value.toLocaleString("en");
  const size = Math.abs(value);
  return size >= 1000 ? value.toLocaleString("en", { maximumFractionDigits: 0 }) : String(Number(value.toPrecision(4)));
}
