import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { itemOf, load } from "../items.js";
import { run, short } from "../run.js";
import { useStore } from "../store.js";
import { complain } from "../toasts.js";
import { Plot } from "./plot.js";
import { selection } from "./selection.js";
import { Thumbnails } from "./thumbnails.js";

const REST = 70; // milliseconds on a point before its picture is asked for

/** The canvas with what lies over it: pictures, the tip, the buttons. */
export function Stage({ placed, painted, colour, only, item, theme, onSelect, onDrawn }) {
  const canvas = useRef(null), layer = useRef(null), plot = useRef(null), pictures = useRef(null);
  const now = useRef({}); // what the plot's own handlers read
  const [lasso, setLasso] = useState(false);
  const [broken, setBroken] = useState("");
  const [over, setOver] = useState(-1);
  const [drawn, setDrawn] = useState(0);
  const { ids: chosen } = useStore(selection);
  const marked = useMemo(() => new Set(item !== null ? [item] : chosen), [item, chosen]);
  Object.assign(now.current, { placed, painted, colour, only, onSelect, onDrawn, marked });

  useEffect(() => {
    try {
      plot.current = new Plot(canvas.current, {
        onOver: setOver,
        onSelect: (points) => now.current.onSelect(points.map((at) => now.current.placed.ids[at])),
        onView: () => pictures.current?.moved(),
        onLasso: () => setLasso(false),
      });
    } catch (error) {
      now.current.onDrawn(); // nothing to wait for
      setBroken(`The map needs WebGL, which this browser does not give (${error.message}). Search, clusters and marks work without it.`);
      return undefined;
    }
    pictures.current = new Thumbnails(layer.current, plot.current, (at) => {
      const { placed: p, painted: c, only: o } = now.current;
      return { id: p.ids[at], colour: c.colours[c.codes[at]], shown: !o || o.has(c.codes[at]), chosen: now.current.marked.has(p.ids[at]) };
    }, { onOver: setOver, onOpen: (at) => now.current.onSelect([now.current.placed.ids[at]]) });
    return () => {
      pictures.current.clear();
      plot.current.destroy();
    };
  }, []);

  // one drawing at a time: points that came while another was under way are drawn after it
  const drawing = useRef(Promise.resolve());
  const key = useRef(null);
  useEffect(() => {
    if (!placed || !painted || !plot.current || !placed.ids.length) return;
    drawing.current = drawing.current.then(async () => {
      const moves = key.current !== null && key.current !== placed.key;
      key.current = placed.key;
      pictures.current.switch(false);
      await plot.current.draw(placed.points, painted.codes, painted.colours, moves);
      pictures.current.switch(run.get().thumbnails);
      setDrawn((n) => n + 1);
      now.current.onDrawn();
    }).catch(complain);
  }, [placed?.key, painted]);

  useEffect(() => {
    const style = getComputedStyle(document.documentElement);
    const of = (name) => style.getPropertyValue(name).trim();
    plot.current?.theme({ paper: of("--card"), ink: of("--ink"), accent: of("--accent") });
  }, [theme]);

  const visible = useMemo(() => {
    if (!only || !painted) return null;
    const found = [];
    painted.codes.forEach((code, at) => { if (only.has(code)) found.push(at); });
    return found;
  }, [only, painted]);
  useEffect(() => {
    if (!drawn) return;
    plot.current.show(visible);
    plot.current.reveal(visible ?? []);
    pictures.current.moved();
  }, [visible, drawn]);

  useEffect(() => {
    if (!drawn) return;
    const points = [...marked].map((id) => placed.placeOf.get(id)).filter((at) => at !== undefined);
    plot.current.select(points);
    plot.current.reveal(points);
    pictures.current.moved();
  }, [marked, drawn, visible]);

  useEffect(() => { plot.current?.lasso(lasso); }, [lasso]);

  const fitChosen = () => {
    const points = [...marked].map((id) => placed.placeOf.get(id)).filter((at) => at !== undefined);
    if (points.length) plot.current.zoomTo(points);
  };
  const keys = (event) => {
    const step = { ArrowLeft: [0.1, 0], ArrowRight: [-0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] }[event.key];
    if (step) plot.current.pan(...step);
    else if (event.key === "+" || event.key === "=") plot.current.zoom(1.3);
    else if (event.key === "-") plot.current.zoom(1 / 1.3);
    else if (event.key === "0") plot.current.fit();
    else if (event.key === "Escape") onSelect([]);
    else return;
    event.preventDefault();
  };

  return (
    <div class={`stage ${lasso ? "lassoing" : ""}`}>
      <canvas ref={canvas} data-testid="map-canvas" tabIndex={0} onKeyDown={keys} data-drawn={drawn || undefined}
        aria-label="Map of all items: arrows move it, plus and minus zoom, 0 shows all, Escape deselects" role="application" />
      <div class="pictures" ref={layer} aria-hidden="true" />
      {broken && <p class="empty">{broken}</p>}
      {placed && !placed.ids.length && <p class="empty">This run has no items with vectors, so there is nothing to draw.</p>}
      <div class="over left">
        <button type="button" data-testid="lasso" aria-pressed={lasso} title="Draw around points (or hold Shift and drag)" onClick={() => setLasso(!lasso)}>Lasso</button>
        {(item !== null || chosen.length > 0) && <button type="button" data-testid="zoom-chosen" onClick={fitChosen}>Zoom to selection</button>}
      </div>
      <div class="over right">
        <button type="button" aria-label="Zoom in" onClick={() => plot.current.zoom(1.5)}>+</button>
        <button type="button" aria-label="Zoom out" onClick={() => plot.current.zoom(1 / 1.5)}>−</button>
        <button type="button" data-testid="fit" onClick={() => plot.current.fit()}>Fit</button>
      </div>
      {over >= 0 && placed && drawn > 0 && !lasso && <Tip at={over} placed={placed} colour={colour} plot={plot.current} />}
    </div>
  );
}

function Tip({ at, placed, colour, plot }) {
  const id = placed.ids[at];
  const [, again] = useState(0);
  useEffect(() => {
    if (id === undefined || itemOf(id)) return undefined;
    const waiting = setTimeout(() => load([id]).then(() => again((n) => n + 1), () => {}), REST);
    return () => clearTimeout(waiting);
  }, [id]);
  const item = itemOf(id), place = id === undefined ? null : plot.at(at);
  if (!place) return null;
  const box = plot.canvas.getBoundingClientRect();
  const style = {
    [place[0] > box.width / 2 ? "right" : "left"]: `${(place[0] > box.width / 2 ? box.width - place[0] : place[0]) + 14}px`,
    [place[1] > box.height / 2 ? "bottom" : "top"]: `${(place[1] > box.height / 2 ? box.height - place[1] : place[1]) + 10}px`,
  };
  const value = colour?.values[at];
  const told = colour && (colour.described.kind === "categories" ? colour.described.names[value] ?? "none" : short(value));
  return (
    <div class="tip" style={style} data-testid="tip" aria-hidden="true">
      {item?.thumbnail && <img src={item.thumbnail} alt="" />}
      <p class="title">{item ? (item.thumbnail ? item.title : item.text ?? item.title) : `item ${id}`}</p>
      {colour && <p class="soft">{colour.name}: {told}</p>}
    </div>
  );
}
