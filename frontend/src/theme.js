// Light or dark: as the system says, until the switch is used; then as it was set last.
const KEY = "nolabel-theme";

/** @returns {"light" | "dark"} */
export function chosenTheme() {
  const kept = localStorage.getItem(KEY);
  if (kept === "light" || kept === "dark") return kept;
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

export function applyTheme(theme) {
  document.documentElement.dataset.theme = theme;
  dispatchEvent(new CustomEvent("theme", { detail: theme }));
}

export function switchTheme() {
  const other = chosenTheme() === "dark" ? "light" : "dark";
  localStorage.setItem(KEY, other);
  applyTheme(other);
}

export function followSystem() {
  applyTheme(chosenTheme());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => applyTheme(chosenTheme()));
}
