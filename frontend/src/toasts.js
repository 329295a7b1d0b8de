import { store } from "./store.js";

export const toasts = store([]);
let last = 0;

/** Show an error until it is closed; the same sentence once. */
export function complain(error) {
  if (error?.name === "AbortError") return;
  const text = error?.message ?? String(error);
  toasts.set((now) => (now.some((toast) => toast.text === text) ? now : [...now, { id: ++last, text }]));
}

export const dismiss = (id) => toasts.set((now) => now.filter((toast) => toast.id !== id));
