// Items seen so far, kept once: a mark set in one view shows in all others.
import { useEffect, useReducer } from "preact/hooks";
import { get } from "./api.js";

const known = new Map();
const listeners = new Map();
const CHUNK = 300;
const MOST_KEPT = 20_000;

const tell = (id) => listeners.get(id)?.forEach((listener) => listener());

/** Take in items that an answer brought; @returns their ids */
export function keep(items) {
  if (known.size > MOST_KEPT) for (const id of [...known.keys()]) if (!listeners.has(id)) known.delete(id);
  for (const { score, matched, duplicates, ...item } of items) {
    known.set(item.id, item);
    tell(item.id);
  }
  return items.map((item) => item.id);
}

export const itemOf = (id) => known.get(id);

/** Ask for items; those known already are not asked for again unless `anew`. */
export async function load(ids, anew = false) {
  const wanted = [...new Set(anew ? ids : ids.filter((id) => !known.has(id)))];
  for (let at = 0; at < wanted.length; at += CHUNK) {
    keep((await get("/api/items", { ids: wanted.slice(at, at + CHUNK).join(",") })).items);
  }
}

/** What a change of marks did to the items on the screen. */
export function changed(ids, { mark, add = [], remove = [] }) {
  for (const id of ids) {
    const item = known.get(id);
    if (!item) continue;
    const tags = [...item.tags.filter((tag) => !remove.includes(tag)), ...add.filter((tag) => !item.tags.includes(tag))];
    known.set(id, { ...item, tags, ...(mark === undefined ? {} : { mark }) });
    tell(id);
  }
}

/** Read again whatever is on the screen, and forget the rest: after an undo nobody knows what changed. */
export async function refresh() {
  for (const id of [...known.keys()]) if (!listeners.has(id)) known.delete(id);
  await load([...listeners.keys()], true);
}

export function useItem(id) {
  const [, again] = useReducer((n) => n + 1, 0);
  useEffect(() => {
    if (id === null || id === undefined) return undefined;
    if (!listeners.has(id)) listeners.set(id, new Set());
    listeners.get(id).add(again);
    return () => {
      listeners.get(id)?.delete(again);
      if (!listeners.get(id)?.size) listeners.delete(id);
    };
  }, [id]);
  return known.get(id);
}
