// Colours that read on light and dark paper: categories far apart from their neighbours, numbers from quiet to strong.

const LIGHT = [
  "#2c639c", "#d9822b", "#3d9a5f", "#c2453d", "#8462b3", "#8c6d3f", "#d76fa3", "#5f6b76", "#a8a12a", "#2aa5b5",
  "#6f9bd1", "#f0b069", "#86c79a", "#e58f86", "#b59ad6", "#bda37c", "#efabcc", "#9aa5ae", "#cfc96a", "#82cdd7",
];
const DARK = [
  "#6ea8e6", "#eea154", "#63c487", "#ee7d74", "#b594e6", "#c4a06a", "#f09ac4", "#a3aeb8", "#d2cb55", "#55c9d8",
  "#3f7fc1", "#b9742c", "#3d9a5f", "#c2554d", "#8462b3", "#8c6d3f", "#c25f91", "#74808b", "#98922f", "#2d93a1",
];
const MARKS = { light: { keep: "#28734a", drop: "#b0302a", "wrong label": "#945a00" }, dark: { keep: "#74c795", drop: "#f0908a", "wrong label": "#e6b062" } };
export const NONE = { light: "#b9b4a8", dark: "#565a61" };
const RAMPS = { light: ["#cfc9b4", "#8fb0c4", "#4b86b4", "#174a6b"], dark: ["#3f4852", "#5c7f9c", "#a9b58a", "#f3d98c"] };
const STEPS = 64;

/** A colour for the category at a place: the twenty of the palette, then hues by the golden angle. */
export function categoryColour(at, theme) {
  const colours = theme === "dark" ? DARK : LIGHT;
  return at < colours.length ? colours[at] : hslToHex((at * 137.508) % 360, 0.5, theme === "dark" ? 0.65 : 0.45);
}

/** @returns {string[]} a colour for each name */
export function categoryColours(names, theme, colouring) {
  if (colouring === "mark") return names.map((name, at) => MARKS[theme][name] ?? categoryColour(at, theme));
  return names.map((_, at) => categoryColour(at, theme));
}

export function hslToHex(hue, saturation, lightness) {
  const part = (n) => {
    const k = (n + hue / 30) % 12;
    const value = lightness - saturation * Math.min(lightness, 1 - lightness) * Math.max(-1, Math.min(k - 3, 9 - k, 1));
    return Math.round(255 * value).toString(16).padStart(2, "0");
  };
  return `#${part(0)}${part(8)}${part(4)}`;
}

const bytes = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

/** A scale of colours in so many steps, through the stops of a theme. */
export function ramp(theme, steps = STEPS) {
  const stops = RAMPS[theme].map(bytes);
  return Array.from({ length: steps }, (_, at) => {
    const place = (at / Math.max(1, steps - 1)) * (stops.length - 1);
    const from = Math.min(Math.floor(place), stops.length - 2);
    const mixed = stops[from].map((c, i) => Math.round(c + (stops[from + 1][i] - c) * (place - from)));
    return `#${mixed.map((c) => c.toString(16).padStart(2, "0")).join("")}`;
  });
}

/**
 * What the plot draws: a code for each point and a colour for each code, the last of them for "none".
 * Numbers are cut into steps, so that a point without one can have a colour of its own.
 */
export function coded(described, values, theme, colouring) {
  const n = values.length;
  const codes = new Float32Array(n);
  if (described.kind === "categories") {
    const none = described.names.length;
    for (let i = 0; i < n; i++) codes[i] = values[i] > none ? none : values[i];
    return { codes, colours: [...categoryColours(described.names, theme, colouring), NONE[theme]] };
  }
  const span = described.high - described.low || 1;
  for (let i = 0; i < n; i++) {
    const share = (values[i] - described.low) / span;
    codes[i] = Number.isNaN(share) ? STEPS : Math.max(0, Math.min(STEPS - 1, Math.floor(share * STEPS)));
  }
  return { codes, colours: [...ramp(theme), NONE[theme]] };
}

/** Points that are drawn before their colours have come: all alike. */
export function plain(n, theme) {
  return { codes: new Float32Array(n), colours: [NONE[theme], NONE[theme]] };
}
