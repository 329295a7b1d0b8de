import { useEffect, useState } from "preact/hooks";
import { go } from "../address.js";
import { get } from "../api.js";
import { keep } from "../items.js";
import { Picture } from "../parts/item.jsx";
import { counted, grouped, run } from "../run.js";
import { complain } from "../toasts.js";
import { categoryColour } from "../map/palette.js";
import { OpenCluster } from "./open.jsx";

const SHEET = 12;

export function ClustersView({ params, theme }) {
  const [told, setTold] = useState(null);
  const [order, setOrder] = useState("size");
  useEffect(() => {
    get("/api/clusters").then((found) => {
      for (const cluster of found.clusters) {
        keep(cluster.central);
        keep(cluster.edge);
      }
      setTold(found);
    }, complain);
  }, []);
  if (!told) return <p class="wrap empty">Grouping {counted(run.get().rows)} …</p>;
  if (!told.clusters.length) return <p class="wrap empty">There are too few items to group.</p>;
  const open = told.clusters.find((cluster) => String(cluster.label) === params.open);
  if (open) return <OpenCluster key={open.label} cluster={open} />;
  const shown = [...told.clusters].sort(
    (a, b) => (order === "tight" ? b.tightness - a.tightness : order === "loose" ? a.tightness - b.tightness : b.size - a.size) || a.label - b.label,
  );
  return (
    <div class="wrap">
      <div class="toolbar">
        <p class="soft says">{counted(told.clusters.length, "clusters")}: {told.what}.</p>
        <label>Order <select data-testid="cluster-order" value={order} onChange={(event) => setOrder(event.currentTarget.value)}>
          <option value="size">largest first</option><option value="tight">tightest first</option><option value="loose">loosest first</option>
        </select></label>
      </div>
      <div class="clusters">
        {shown.map((cluster) => <Summary key={cluster.label} cluster={cluster} theme={theme} />)}
      </div>
    </div>
  );
}

function Summary({ cluster, theme }) {
  const open = () => go("clusters", { open: cluster.label });
  const first = cluster.central.slice(0, SHEET);
  const pictures = first.some((item) => item.thumbnail);
  return (
    <article class="cluster" data-testid="cluster">
      <header>
        <i class="dot" style={{ background: categoryColour(cluster.label, theme) }} />
        <h3><button type="button" class="link" onClick={open}>{cluster.name}</button></h3>
        <p class="soft">{counted(cluster.size)} · tightness {cluster.tightness.toFixed(2)}
          {cluster.duplicates > 0 && ` · ${grouped(cluster.duplicates)} near-duplicates`}</p>
      </header>
      {pictures ? (
        <div class="sheet" onClick={open}>{first.map((item) => <Picture key={item.id} item={item} />)}</div>
      ) : (
        <ul class="lines" onClick={open}>{first.slice(0, 5).map((item) => <li key={item.id}>{item.title}</li>)}</ul>
      )}
    </article>
  );
}

