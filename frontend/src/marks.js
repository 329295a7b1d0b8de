// Marks and tags: saved at once, undone step by step, each browser its own steps.
import { get, post } from "./api.js";
import { changed, refresh } from "./items.js";
import { store } from "./store.js";
import { complain } from "./toasts.js";

export const MARKS = ["keep", "drop", "wrong label"];
const MOST = 100_000;
const KEY = "nolabel-session";

/** The name under which this browser's steps are kept. */
export function session() {
  let name = localStorage.getItem(KEY);
  if (!/^[A-Za-z0-9_-]{1,64}$/.test(name ?? "")) {
    name = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
    localStorage.setItem(KEY, name);
  }
  return name;
}

export const marks = store({ marks: {}, tags: {}, undo: null, version: 0, count: 0, undone: 0 });
/** "" | "saving" | "saved" */
export const saving = store("");
let fading;

let undone = 0;

/** `count` rises with every change seen, `undone` with those taken back: what they changed is known to the server alone. */
const take = (answer) => marks.set((now) => ({ ...answer, count: now.count + 1, undone }));

async function saved(what) {
  clearTimeout(fading);
  saving.set("saving");
  try {
    await what();
    saving.set("saved");
    fading = setTimeout(() => saving.set(""), 4000);
    return true;
  } catch (error) {
    saving.set("");
    complain(error);
    return false;
  }
}

export async function loadMarks() {
  take(await get("/api/marks", { session: session() }));
}

/** Mark items ({mark}, null takes it away), add or remove tags. @returns whether it was saved */
export const mark = (ids, change) =>
  saved(async () => {
    for (let at = 0; at < ids.length; at += MOST) {
      const some = ids.slice(at, at + MOST);
      const answer = await post("/api/marks", { ids: some, session: session(), ...change });
      changed(some, change);
      take(answer);
    }
  });

export const undo = () =>
  saved(async () => {
    const answer = await post("/api/marks/undo", { session: session() });
    await refresh();
    undone += 1;
    take(answer);
  });

/** @returns the mark a key stands for: undefined for other keys, null for "no mark" */
export function markOfKey(key) {
  return { k: "keep", d: "drop", w: "wrong label", c: null }[key];
}
