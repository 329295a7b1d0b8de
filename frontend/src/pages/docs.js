// The viewer is told here, not in the page, to keep to files of this server and to follow the theme.
import { chosenTheme } from "../theme.js";

const dark = chosenTheme() === "dark";
const viewer = document.createElement("rapi-doc");
const settings = {
  "spec-url": "/openapi.json",
  "load-fonts": "false",
  "regular-font": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif",
  "mono-font": "ui-monospace, Menlo, Consolas, monospace",
  theme: dark ? "dark" : "light",
  "bg-color": dark ? "#16171a" : "#fcfbf8",
  "text-color": dark ? "#e9e7e2" : "#1f1e1b",
  "primary-color": dark ? "#85b6ea" : "#2c639c",
  "nav-bg-color": dark ? "#1d1f23" : "#ffffff",
  "header-color": dark ? "#1d1f23" : "#ffffff",
  "render-style": "read",
  "schema-style": "table",
  "show-header": "false",
  "allow-authentication": "false",
  "allow-server-selection": "false",
  "allow-spec-url-load": "false",
  "allow-spec-file-load": "false",
  "allow-try": "true",
};
for (const [name, value] of Object.entries(settings)) viewer.setAttribute(name, value);
document.body.append(viewer);
