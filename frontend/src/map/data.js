// The points of the map and their colours, as the server has them.
import { get, numbers } from "../api.js";
import { store } from "../store.js";

const POLL = 2000;

/** {key, method, state, note, ids: Float64Array, points: Float32Array, placeOf: Map} */
export const layout = store(null);
let polling = null, under = null;

/** Fetch the layout there is now, and look again until it is the final one; who asks meanwhile waits for the same answer. */
export function follow() {
  under ??= fetched().finally(() => { under = null; });
  return under;
}

async function fetched() {
  clearTimeout(polling);
  const told = await get("/api/map");
  const now = layout.get();
  if (!now || now.key !== told.key) {
    const [ids, points] = await Promise.all([
      numbers("/api/map/ids", { key: told.key }, Float64Array),
      numbers("/api/map/points", { key: told.key }, Float32Array),
    ]);
    if (points.length !== 2 * ids.length) throw new Error("The map changed while it was read: reload the page.");
    const placeOf = new Map();
    ids.forEach((id, at) => placeOf.set(id, at));
    layout.set({ ...told, ids, points, placeOf });
  } else if (now.state !== told.state || now.note !== told.note) {
    layout.set({ ...now, ...told });
  }
  if (told.state === "pca") {
    polling = setTimeout(() => follow().catch(() => { polling = setTimeout(follow, 5 * POLL); }), POLL);
  }
}

const made = new Map();

/** A colouring with its values; marks are read anew, others once for a layout's rows. */
export async function colouring(name, anew) {
  const key = `${name}\n${layout.get()?.ids.length}`;
  if (anew || !made.has(key)) {
    const path = `/api/colours/${encodeURIComponent(name)}`;
    const reading = get(path).then(async (described) => ({
      described,
      values: await numbers(`${path}/values`, {}, described.kind === "categories" ? Uint16Array : Float32Array),
    }));
    reading.catch(() => made.delete(key));
    made.set(key, reading);
  }
  return made.get(key);
}
