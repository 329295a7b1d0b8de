import { useState } from "preact/hooks";
import { Card } from "../parts/item.jsx";
import { Detail } from "../parts/detail.jsx";
import { Dialog } from "../parts/dialog.jsx";
import { load } from "../items.js";
import { counted } from "../run.js";
import { complain } from "../toasts.js";

/** The answer's items, the best first; near-duplicates lie under the best of them. */
export function Hits({ found }) {
  const [open, setOpen] = useState(null);
  return (
    <>
      <div class="grid hits" data-grid data-testid="hits">
        {found.hits.map((hit) => <Hit key={hit.id} hit={hit} onOpen={setOpen} />)}
      </div>
      {open !== null && <Dialog onClose={() => setOpen(null)} label="Item"><Detail id={open} onOpen={setOpen} onMap /></Dialog>}
    </>
  );
}

function Hit({ hit, onOpen }) {
  const [unfolded, setUnfolded] = useState(false);
  const [ready, setReady] = useState(false);
  const unfold = (event) => {
    event.stopPropagation();
    setUnfolded(!unfolded);
    if (!ready) load(hit.duplicates.map(({ id }) => id)).then(() => setReady(true), complain);
  };
  const most = Math.max(...hit.matched.map(([, weight]) => weight), 1e-9);
  return (
    <>
      <div class={`hit ${hit.duplicates.length ? "stack" : ""}`} data-testid="hit">
        <Card id={hit.id} onOpen={onOpen}>
          <span class="score" title="score">{hit.score.toFixed(3)}</span>
        </Card>
        {hit.matched.length > 0 && (
          <ul class="matched" aria-label="Matched words">
            {hit.matched.slice(0, 6).map(([word, weight]) => (
              <li key={word} title={weight.toFixed(3)}><span>{word}</span><i style={{ width: `${Math.max(4, (100 * weight) / most)}%` }} /></li>
            ))}
          </ul>
        )}
        {hit.duplicates.length > 0 && (
          <button type="button" class="badge" data-testid="stack" aria-expanded={unfolded} onClick={unfold}>
            {unfolded ? "fold" : `+${counted(hit.duplicates.length, "near-duplicates")}`}
          </button>
        )}
      </div>
      {unfolded && ready && hit.duplicates.map(({ id, reason }) => (
        <div class="hit duplicate" key={id} data-testid="duplicate"><Card id={id} onOpen={onOpen} note={reason} /></div>
      ))}
    </>
  );
}
