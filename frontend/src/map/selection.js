// The items chosen on the map, by id: lasso, search hits or a cluster; kept over a reload.
import { store } from "../store.js";

const KEY = "nolabel-selection";

function kept() {
  try {
    const found = JSON.parse(sessionStorage.getItem(KEY) ?? "null");
    return Array.isArray(found?.ids) ? found : { ids: [], from: "" };
  } catch {
    return { ids: [], from: "" };
  }
}

/** {ids, from}: from says where they come from, such as "lasso" or "hits of “red car”" */
export const selection = store(kept());

export function choose(ids, from = "") {
  selection.set({ ids, from });
  try {
    sessionStorage.setItem(KEY, JSON.stringify({ ids, from }));
  } catch {
    sessionStorage.removeItem(KEY); // too many for what the browser keeps: they last until the page is left
  }
}
