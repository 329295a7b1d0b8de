// The WebGL plot behind the map, with the few verbs that the map needs.
import createScatterplot from "regl-scatterplot";
import { handleTouch } from "./touch.js";

const CALM = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** Points get smaller as there are more of them. */
export function pointSize(n) {
  return Math.max(1.6, Math.min(9, 60 / n ** 0.31));
}

export class Plot {
  /** @param {HTMLCanvasElement} canvas @param {{onOver, onSelect, onView, onLasso}} tell */
  constructor(canvas, tell) {
    this.canvas = canvas;
    this.n = 0;
    this.lassoing = false;
    const box = canvas.parentElement.getBoundingClientRect();
    // all of the map is in view also where the canvas is higher than it is wide
    this.distance = () => Math.max(1, canvas.clientHeight / Math.max(1, canvas.clientWidth));
    this.plot = createScatterplot({
      canvas,
      cameraDistance: Math.max(1, box.height / Math.max(1, box.width)),
      width: Math.max(1, box.width),
      height: Math.max(1, box.height),
      colorBy: "valueA",
      lassoMinDelay: 10,
      lassoMinDist: 3,
      showReticle: false,
      pointSizeSelected: 3,
      pointOutlineWidth: 2,
      opacityInactiveScale: 0.28,
      deselectOnEscape: false, // it would hear the key in other views too
      spatialIndexUseWorker: false, // its worker would be made from text, which the server's policy forbids
      actionKeyMap: { lasso: "shift", merge: "ctrl" },
    });
    this.plot.subscribe("pointOver", (at) => tell.onOver(at));
    this.plot.subscribe("pointOut", () => tell.onOver(-1));
    this.plot.subscribe("select", ({ points }) => tell.onSelect([...points]));
    this.plot.subscribe("deselect", () => tell.onSelect([]));
    this.plot.subscribe("view", () => tell.onView());
    this.plot.subscribe("draw", () => tell.onView());
    this.plot.subscribe("lassoEnd", () => tell.onLasso());
    this.untouch = handleTouch(canvas, this);
    this.watch = new ResizeObserver(([entry]) => {
      const { width, height } = entry.contentRect;
      if (width > 0 && height > 0) this.plot.set({ width, height }); // 0: the tab is hidden
    });
    this.watch.observe(canvas.parentElement);
  }

  /** Colours of the parts that are not points. */
  theme({ paper, ink, accent }) {
    this.plot.set({
      backgroundColor: paper,
      lassoColor: accent,
      pointColorHover: ink,
      pointColorActive: ink,
    });
  }

  /** @param {Float32Array} points (n, 2) flat @param {Float32Array} codes @param {string[]} colours */
  async draw(points, codes, colours, moves) {
    const n = points.length / 2;
    const x = new Float32Array(n), y = new Float32Array(n);
    for (let i = 0; i < n; i++) {
      x[i] = 0.94 * points[2 * i]; // a margin around the outermost
      y[i] = 0.94 * points[2 * i + 1];
    }
    const same = n === this.n;
    this.n = n;
    this.place = (at) => [x[at], y[at]];
    const size = pointSize(n);
    this.plot.set({ pointSize: size, opacity: n > 20_000 ? 0.6 : 0.85 });
    this.recolour(colours);
    await this.plot.draw(
      { x, y, z: codes },
      { zDataType: "categorical", transition: moves && same && !CALM(), transitionDuration: 1600, preventFilterReset: true },
    );
  }

  recolour(colours) {
    this.plot.set({ pointColor: colours, pointColorActive: colours, pointColorHover: colours });
  }

  lasso(on) {
    this.lassoing = on;
    this.plot.set({ mouseMode: on ? "lasso" : "panZoom" });
  }

  show(points) {
    if (points === null) this.plot.unfilter({ preventEvent: true });
    else this.plot.filter(points, { preventEvent: true });
  }

  select(points) {
    if (points.length) this.plot.select(points, { preventEvent: true });
    else this.plot.deselect({ preventEvent: true });
  }

  zoomTo(points) {
    // a single point has no extent to fill the view with
    if (points.length === 1) this.plot.zoomToLocation(this.place(points[0]), 0.25, { transition: !CALM() });
    else this.plot.zoomToPoints(points, { padding: 0.4, transition: !CALM() });
  }

  /** Go to points none of which is in view. */
  reveal(points) {
    if (!points.length) return;
    const there = new Set(this.inView());
    if (!points.some((at) => there.has(at))) this.zoomTo(points);
  }

  fit() {
    this.plot.zoomToLocation([0, 0], this.distance(), { transition: !CALM() });
  }

  /** The camera's unit is half the height of the canvas, also across. */
  get wide() {
    return this.canvas.clientWidth / Math.max(1, this.canvas.clientHeight);
  }

  /** @param {[number, number]} at the place that stays, from -1 to 1 across and up */
  zoom(factor, at = [0, 0]) {
    this.plot.get("camera").scale(factor, [at[0] * this.wide, at[1]]);
    this.plot.redraw();
  }

  /** @param {number} dx @param {number} dy shares of the canvas's width and height */
  pan(dx, dy) {
    this.plot.get("camera").pan([dx * 2 * this.wide, -dy * 2]);
    this.plot.redraw();
  }

  inView() {
    return this.plot.get("pointsInView") ?? [];
  }

  /** @returns {[number, number]} pixels from the corner of the canvas */
  at(point) {
    return this.plot.getScreenPosition(point);
  }

  destroy() {
    this.untouch();
    this.watch.disconnect();
    this.plot.destroy();
  }
}
