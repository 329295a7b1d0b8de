import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { address, adjust } from "../address.js";
import { get } from "../api.js";
import { marks } from "../marks.js";
import { useStore } from "../store.js";
import { complain } from "../toasts.js";
import { counted } from "../run.js";
import { colouring, follow, layout } from "./data.js";
import { Legend } from "./legend.jsx";
import { coded, plain } from "./palette.js";
import { Panel } from "./panel.jsx";
import { choose } from "./selection.js";
import { Stage } from "./stage.jsx";

const LINES = {
  PCA: "Main components (PCA): the two directions in which the vectors differ most.",
  UMAP: "UMAP: neighbours lie together; distances between groups mean little.",
};

/** The map of all items with its colours, legend and selection. */
export function MapView({ params, theme }) {
  const placed = useStore(layout);
  const { count } = useStore(marks);
  const [names, setNames] = useState([]);
  const [colour, setColour] = useState(null);
  const [only, setOnly] = useState(null);
  const [begun, setBegun] = useState(false); // colours wait for the first picture: making them takes the processor from it
  const ready = begun || placed?.ids.length === 0;
  const wanted = params.colour && names.includes(params.colour) ? params.colour : names[0];
  const item = params.item !== undefined && /^\d+$/.test(params.item) ? Number(params.item) : null;

  useEffect(() => {
    follow().catch(complain);
    // items may have come while nobody looked
    const back = () => { if (!document.hidden) follow().catch(() => {}); };
    document.addEventListener("visibilitychange", back);
    return () => document.removeEventListener("visibilitychange", back);
  }, []);

  useEffect(() => {
    if (ready) get("/api/colours").then((found) => setNames(found.names), complain);
  }, [ready]);

  const shownName = useRef(null);
  useEffect(() => {
    if (!wanted || !placed) return undefined;
    let stale = false;
    colouring(wanted, wanted === "mark")
      .then((found) => {
        if (stale) return;
        // a new colouring starts with everything shown, or with the one category that the address asks for
        if (shownName.current !== wanted) setOnly(readOnly(address.get().params.only));
        shownName.current = wanted;
        setColour({ name: wanted, ...found });
      })
      .catch(complain);
    return () => { stale = true; };
  }, [wanted, placed?.ids, wanted === "mark" ? count : 0]);

  useEffect(() => {
    if (shownName.current === wanted) setOnly(readOnly(params.only));
  }, [params.only]);

  const painted = useMemo(
    () => {
      if (!placed) return null;
      const fits = colour && colour.values.length === placed.ids.length;
      return fits ? coded(colour.described, colour.values, theme, colour.name) : plain(placed.ids.length, theme);
    },
    [colour, placed?.ids, theme],
  );
  const open = useCallback((id) => adjust({ item: id }), []);
  const select = useCallback((ids) => {
    if (ids.length === 1) adjust({ item: ids[0] });
    else {
      choose(ids, ids.length ? "in the lasso" : "");
      adjust({ item: null });
    }
  }, []);
  const show = (next) => adjust({ only: next ? [...next].sort((a, b) => a - b).join(".") : null });

  return (
    <div class="map-view">
      <div class="map-main">
        <div class="toolbar">
          <label>Colour <select data-testid="colour" value={wanted} onChange={(e) => adjust({ colour: e.currentTarget.value, only: null })}>
            {names.map((name) => <option key={name} value={name}>{name}</option>)}
          </select></label>
          <p class="soft says" data-testid="map-method">{placed ? <Says placed={placed} /> : "Reading the map …"}</p>
        </div>
        <Stage placed={placed} painted={painted} colour={colour} only={only} item={item} theme={theme} onSelect={select} onDrawn={() => setBegun(true)} />
        <Legend described={colour?.described} colours={colour ? painted?.colours ?? [] : []} only={only} onOnly={show} />
      </div>
      <Panel item={item} onOpen={open} />
    </div>
  );
}

/** Categories of the address, as in 3.7. */
function readOnly(text) {
  const found = (text ?? "").split(".").filter((part) => /^\d+$/.test(part)).map(Number);
  return found.length ? new Set(found) : null;
}

function Says({ placed }) {
  const waiting = placed.state === "pca" && "UMAP is being computed.";
  return <>{counted(placed.ids.length)}. {LINES[placed.method]} {waiting} {placed.note}</>;
}
