import { useEffect, useState } from "preact/hooks";
import { go } from "../address.js";
import { get } from "../api.js";
import { keep } from "../items.js";
import { colouring, follow, layout } from "../map/data.js";
import { Detail } from "../parts/detail.jsx";
import { Dialog } from "../parts/dialog.jsx";
import { Grid, MarkButtons } from "../parts/item.jsx";
import { TagField } from "../parts/tags.jsx";
import { counted, grouped } from "../run.js";
import { complain } from "../toasts.js";

const PAGE = 60;

/** Every id of a cluster: the map's colours say which item is of which. */
async function idsOf(cluster) {
  if (!layout.get()) await follow();
  const { values } = await colouring("cluster");
  return [...layout.get().ids].filter((_, at) => values[at] === cluster.label);
}

/** One cluster with all its items, the nearest to its centre first. */
export function OpenCluster({ cluster }) {
  const [page, setPage] = useState(0);
  const [ids, setIds] = useState(null);
  const [chosen, setChosen] = useState(new Set());
  const [open, setOpen] = useState(null);
  const [all, setAll] = useState(null);
  useEffect(() => {
    let stale = false;
    get(`/api/clusters/${cluster.label}/items`, { offset: page * PAGE, limit: PAGE })
      .then((found) => !stale && setIds(keep(found.items)), complain);
    return () => { stale = true; };
  }, [page]);
  const choose = (id, on) => setChosen((now) => {
    const next = new Set(now);
    if (on) next.add(id);
    else next.delete(id);
    return next;
  });
  const everything = () => (all ? setAll(null) : idsOf(cluster).then((found) => { setAll(found); setChosen(new Set()); }, complain));
  const pages = Math.ceil(cluster.size / PAGE);
  const shown = cluster.central[0]?.thumbnail ? 6 : 3; // texts take a line each
  const targets = all ?? [...chosen];

  return (
    <div class="wrap open-cluster" data-testid="cluster-open">
      <p class="crumbs"><button type="button" class="quiet" onClick={() => go("clusters")}>← All clusters</button></p>
      <header>
        <h2>{cluster.name}</h2>
        <p class="soft">{counted(cluster.size)} · tightness {cluster.tightness.toFixed(3)}, the mean cosine to its centre
          {cluster.duplicates > 0 && ` · ${grouped(cluster.duplicates)} near-duplicates`}</p>
        <button type="button" data-testid="cluster-on-map" onClick={() => go("map", { colour: "cluster", only: cluster.label })}>Show on the map</button>
      </header>
      <div class="ends">
        <section><h3>At the centre</h3><Grid small ids={cluster.central.slice(0, shown).map((item) => item.id)} onOpen={setOpen} /></section>
        <section><h3>At the edge</h3><Grid small ids={cluster.edge.slice(0, shown).map((item) => item.id)} onOpen={setOpen} /></section>
      </div>
      <div class="toolbar sticky">
        <label class="check"><input type="checkbox" data-testid="cluster-all" checked={all !== null} onChange={everything} /> all {grouped(cluster.size)}</label>
        <span class="soft">{targets.length ? `${counted(targets.length)} selected` : "Select items, or all, to mark them"}</span>
        <MarkButtons ids={targets} />
        <TagField ids={targets} />
      </div>
      {ids && <Grid ids={ids} onOpen={setOpen} chosen={all ? new Set(ids) : chosen} onChoose={all ? undefined : choose} testid="cluster-items" />}
      {pages > 1 && (
        <nav class="pager" aria-label="Pages">
          <button type="button" disabled={page === 0} onClick={() => setPage(page - 1)}>Nearer</button>
          <span class="soft">page {page + 1} of {pages}, from the centre outwards</span>
          <button type="button" data-testid="cluster-next" disabled={page + 1 >= pages} onClick={() => setPage(page + 1)}>Farther</button>
        </nav>
      )}
      {open !== null && <Dialog label="Item" onClose={() => setOpen(null)}><Detail id={open} onOpen={setOpen} onMap /></Dialog>}
    </div>
  );
}
