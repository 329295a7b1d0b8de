// Round numbers for the axes of the charts.

/** About so many round values that span low to high. */
export function ticks(low, high, count = 4) {
  if (!(high > low)) return [low];
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].find((m) => m * power >= rough) * power;
  const found = [];
  for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + 1e-9 * step; value += step) {
    found.push(Number(value.toPrecision(12)));
  }
  return found;
}

/** The powers of ten that span positive values; not more than about so many. */
export function powers(low, high, count = 5) {
  const from = Math.floor(Math.log10(low)), to = Math.ceil(Math.log10(high));
  const every = Math.max(1, Math.ceil((to - from) / count));
  const found = [];
  for (let power = to; power >= from; power -= every) found.unshift(power);
  return found.map((power) => 10 ** power);
}

const RAISED = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };

export function powerText(value) {
  const power = Math.round(Math.log10(value));
  if (power >= -2 && power <= 3) return String(Number(value.toPrecision(3)));
  return `10${[...String(power)].map((c) => RAISED[c]).join("")}`;
}

export function tickText(value) {
  const size = Math.abs(value);
  if (size >= 1e6) return `${Number((value / 1e6).toPrecision(3))}M`;
  if (size >= 10_000) return `${Number((value / 1e3).toPrecision(3))}k`;
  return String(Number(value.toPrecision(4)));
}
