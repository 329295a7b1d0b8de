import { useEffect, useState } from "preact/hooks";
import { go } from "../address.js";
import { load } from "../items.js";
import { Detail } from "../parts/detail.jsx";
import { Grid, MarkButtons } from "../parts/item.jsx";
import { TagField } from "../parts/tags.jsx";
import { counted, run } from "../run.js";
import { useStore } from "../store.js";
import { complain } from "../toasts.js";
import { choose, selection } from "./selection.js";

const FIRST = 200;

/** What is chosen on the map: nothing, an item, or a group of them. */
export function Panel({ item, onOpen }) {
  const { ids, from } = useStore(selection);
  const [, loaded] = useState(null);
  const first = ids.slice(0, FIRST);
  useEffect(() => {
    if (item === null && first.length) load(first).then(() => loaded(ids), complain);
  }, [ids, item]);
  return (
    <aside class="panel" data-testid="panel" aria-label="Selection">
      {item !== null && (
        <>
          <p class="head">
            {ids.length > 1 && <button type="button" class="quiet" onClick={() => onOpen(null)}>← {counted(ids.length)}</button>}
            <button type="button" class="quiet close" aria-label="Close the item" onClick={() => onOpen(null)}>Close</button>
          </p>
          <Detail id={item} onOpen={onOpen} />
        </>
      )}
      {item === null && ids.length > 0 && (
        <>
          <p class="head"><strong data-testid="selected-count">{counted(ids.length)}</strong> {from && <span class="soft">{from}</span>}
            <button type="button" class="quiet close" data-testid="selection-clear" onClick={() => choose([])}>Deselect</button></p>
          <MarkButtons ids={ids} />
          <TagField ids={ids} />
          <Grid ids={first} onOpen={onOpen} testid="selected" small />
          {ids.length > FIRST && <p class="soft">The first {FIRST} are shown; marks and tags go to all {ids.length.toLocaleString("en")}.</p>}
        </>
      )}
      {item === null && !ids.length && <Help />}
    </aside>
  );
}

function Help() {
  const { asks, thumbnails } = run.get();
  return (
    <div class="help soft">
      <h3>Nothing selected</h3>
      <dl>
        <div><dt>Click a point</dt><dd>to see it and its nearest neighbours</dd></div>
        <div><dt>Lasso, or <kbd>Shift</kbd> and drag</dt><dd>to select a group and mark it</dd></div>
        <div><dt>Scroll</dt><dd>to zoom{thumbnails ? "; pictures appear where few points are in view" : ""}</dd></div>
        <div><dt>Click the legend</dt><dd>to show one category alone</dd></div>
      </dl>
      {asks.words && <button type="button" onClick={() => go("search")}>Search by words</button>}
    </div>
  );
}
