// The part of the address behind #: which view, and what it shows, as in #search?q=a+red+car&mode=dense.
import { store } from "./store.js";

export const VIEWS = ["map", "search", "clusters", "judge", "curate"];

/** @returns {{view: string, params: Record<string, string>}} */
export function parseAddress(hash) {
  const [view, query = ""] = hash.replace(/^#/, "").split(/\?(.*)/s);
  return { view: VIEWS.includes(view) ? view : "map", params: Object.fromEntries(new URLSearchParams(query)) };
}

export function addressOf(view, params = {}) {
  const given = Object.entries(params).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return given.length ? `#${view}?${new URLSearchParams(given.map(([k, v]) => [k, String(v)]))}` : `#${view}`;
}

/** What each view showed last, so that a tab leads back to it; also over a reload. */
export function remembered() {
  try {
    return JSON.parse(sessionStorage.getItem("nolabel-views") ?? "{}");
  } catch {
    return {};
  }
}

export const address = store({ view: "map", params: {} });

function read() {
  const now = parseAddress(location.hash);
  sessionStorage.setItem("nolabel-views", JSON.stringify({ ...remembered(), [now.view]: now.params }));
  address.set(now);
}

export function watchAddress() {
  if (!location.hash) history.replaceState(null, "", addressOf("map", remembered().map));
  addEventListener("hashchange", read);
  read();
}

/** Go to a view; a new step in the browser's history. */
export function go(view, params = {}) {
  const next = addressOf(view, params);
  if (next === location.hash) read();
  else location.hash = next;
}

/** Change what the view shows without a new step in the history. */
export function adjust(params) {
  const now = address.get();
  history.replaceState(null, "", addressOf(now.view, { ...now.params, ...params }));
  read();
}
