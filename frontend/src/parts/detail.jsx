import { useEffect, useState } from "preact/hooks";
import { post } from "../api.js";
import { go } from "../address.js";
import { keep, load, useItem } from "../items.js";
import { run } from "../run.js";
import { complain } from "../toasts.js";
import { Columns, Grid, MarkButtons, Picture, named } from "./item.jsx";
import { TagField, Tags } from "./tags.jsx";

const NEIGHBOURS = 12;

/** An item with all that is known of it, and the items nearest to it. */
export function Detail({ id, onOpen, onMap }) {
  const item = useItem(id);
  const [near, setNear] = useState(null);
  const [missing, setMissing] = useState("");
  const { asks, modes } = run.get();
  useEffect(() => {
    let stale = false;
    setNear(null);
    setMissing("");
    load([id]).catch((error) => !stale && setMissing(error.message));
    if (asks.item) {
      post("/api/search", { item: id, k: NEIGHBOURS + 1, fold: false, ...(modes.includes("dense") && { mode: "dense" }) })
        .then((found) => {
          keep(found.hits);
          const hits = found.hits.filter((hit) => hit.id !== id).slice(0, NEIGHBOURS);
          if (!stale) setNear({ ids: hits.map((hit) => hit.id), scores: new Map(hits.map((hit) => [hit.id, hit.score])) });
        })
        .catch((error) => error.status !== 404 && complain(error));
    }
    return () => { stale = true; };
  }, [id]);
  if (missing) return <p class="problem" role="alert">{missing}</p>;
  if (!item) return <p class="soft">Reading item {id} …</p>;
  return (
    <article class="detail" data-testid="detail" aria-label={item.title}>
      {!item.thumbnail && named(item) && <h3>{item.title}</h3>}
      <Picture item={item} large />
      {item.thumbnail && <h3>{item.title}</h3>}
      <MarkButtons ids={[id]} current={item.mark} />
      <Tags item={item} />
      <TagField ids={[id]} />
      <p class="actions">
        {asks.item && <button type="button" data-testid="find-like" onClick={() => go("search", { item: id })}>Find like this</button>}
        {onMap && <button type="button" data-testid="to-map" onClick={() => go("map", { item: id })}>Show on the map</button>}
      </p>
      <Columns item={item} />
      {item.thumbnail && item.text && <p class="excerpt whole">{item.text}</p>}
      {asks.item && <h4>Nearest neighbours</h4>}
      {asks.item && !near && <p class="soft">Looking …</p>}
      {near && <Grid ids={near.ids} onOpen={onOpen} noteOf={(other) => near.scores.get(other).toFixed(3)} testid="neighbours" small />}
    </article>
  );
}
