import { useEffect, useReducer } from "preact/hooks";

/** A value that components listen to. */
export function store(initial) {
  let value = initial;
  const listeners = new Set();
  return {
    get: () => value,
    set(next) {
      value = typeof next === "function" ? next(value) : next;
      for (const listener of [...listeners]) listener(value);
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

export function useStore(from) {
  const [, again] = useReducer((n) => n + 1, 0);
  useEffect(() => from.subscribe(again), [from]);
  return from.get();
}
