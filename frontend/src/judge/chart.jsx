import { useState } from "preact/hooks";
import { short } from "../run.js";
import { powers, powerText, ticks, tickText } from "./scales.js";

const W = 520, H = 250, LEFT = 66, RIGHT = 14, TOP = 12, BOTTOM = 42;

/**
 * Lines over common axes.
 * @param {{series: {name: string, xs: number[], ys: number[]}[], x: string, y: string, log?: boolean, title: string, note?: string}} props
 */
export function Chart({ series, x, y, log, title, note }) {
  const [at, setAt] = useState(null);
  const lines = series.map((one) => ({ ...one, points: one.xs.map((v, i) => [v, one.ys[i]]).filter(([a, b]) => Number.isFinite(a) && Number.isFinite(b) && (!log || b > 0)) }))
    .filter((one) => one.points.length);
  if (!lines.length) return null;
  const all = lines.flatMap((one) => one.points);
  let [x0, x1] = extent(all.map((p) => p[0]));
  if (x0 === x1) { x0 -= 0.5; x1 += 0.5; }
  let [y0, y1] = extent(all.map((p) => p[1]));
  let yTicks;
  if (log) {
    y0 = Math.max(y0, y1 * 1e-12); // below, there is only the noise of the arithmetic
    yTicks = powers(y0, y1);
    y0 = Math.min(y0, yTicks[0]);
    y1 = Math.max(y1, yTicks[yTicks.length - 1]);
  } else {
    if (y0 > 0 && y0 < 0.6 * y1) y0 = 0;
    if (y0 === y1) { y0 -= 0.5; y1 += 0.5; }
    const pad = 0.06 * (y1 - y0);
    y1 += pad;
    if (y0 !== 0) y0 -= pad;
    yTicks = ticks(y0, y1);
  }
  const px = (v) => LEFT + ((v - x0) / (x1 - x0)) * (W - LEFT - RIGHT);
  const share = (v) => (log ? (Math.log10(Math.max(v, y0)) - Math.log10(y0)) / (Math.log10(y1) - Math.log10(y0)) : (v - y0) / (y1 - y0));
  const py = (v) => H - BOTTOM - share(v) * (H - TOP - BOTTOM);
  const nearest = (one) => one.points.reduce((best, p) => (Math.abs(p[0] - at) < Math.abs(best[0] - at) ? p : best));
  const follow = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    const inside = ((event.clientX - box.left) / box.width) * W;
    setAt(x0 + ((inside - LEFT) / (W - LEFT - RIGHT)) * (x1 - x0));
  };
  const last = lines[0].points[lines[0].points.length - 1];
  return (
    <figure class="chart">
      <figcaption><h3>{title}</h3>
        <output>{at !== null && lines.map((one, i) => <span key={i} class={`s${i}`}>{lines.length > 1 && `${one.name}: `}{short(nearest(one)[1])}{i === 0 && <span class="soft"> at {short(nearest(one)[0])}</span>} </span>)}</output>
      </figcaption>
      <svg viewBox={`0 0 ${W} ${H}`} role="img" aria-label={`${title}: ${y} over ${x}; the last value is ${short(last[1])}`}
        onPointerMove={follow} onPointerLeave={() => setAt(null)}>
        {yTicks.map((v) => <g key={v}><line class="gridline" x1={LEFT} x2={W - RIGHT} y1={py(v)} y2={py(v)} /><text x={LEFT - 8} y={py(v) + 4} text-anchor="end">{log ? powerText(v) : tickText(v)}</text></g>)}
        {ticks(x0, x1, 6).map((v) => <text key={v} x={px(v)} y={H - BOTTOM + 18} text-anchor="middle">{tickText(v)}</text>)}
        <line class="axis" x1={LEFT} x2={W - RIGHT} y1={H - BOTTOM} y2={H - BOTTOM} />
        <text class="label" x={(LEFT + W - RIGHT) / 2} y={H - 5} text-anchor="middle">{x}</text>
        <text class="label" transform={`translate(13 ${(TOP + H - BOTTOM) / 2}) rotate(-90)`} text-anchor="middle">{y}</text>
        {lines.map((one, i) => (
          <g key={i} class={`s${i}`}>
            <path class="line" d={`M${one.points.map((p) => `${px(p[0]).toFixed(1)},${py(p[1]).toFixed(1)}`).join("L")}`} />
            {(one.points.length === 1 || at !== null) && [at === null ? one.points[0] : nearest(one)].map((p) => <circle key="at" class="at" cx={px(p[0])} cy={py(p[1])} r="4" />)}
          </g>
        ))}
      </svg>
      {lines.length > 1 && <p class="key">{lines.map((one, i) => <span key={i} class={`s${i}`}><i class="swatch" /> {one.name}</span>)}</p>}
      {note && <p class="soft">{note}</p>}
    </figure>
  );
}

function extent(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
  return [low, high];
}
