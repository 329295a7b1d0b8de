import { useMemo, useState } from "preact/hooks";
import { keep } from "../items.js";
import { Card, Grid } from "../parts/item.jsx";
import { Detail } from "../parts/detail.jsx";
import { Dialog } from "../parts/dialog.jsx";
import { counted, grouped, short } from "../run.js";

/** What a second run sees differently. */
export function Changed({ changed, names }) {
  const [open, setOpen] = useState(null);
  useMemo(() => changed.moved.forEach((one) => keep([one.item, ...one.before, ...one.after])), [changed]);
  return (
    <section data-testid="changed">
      <h2>What changed</h2>
      <p class="soft">{counted(changed.items)} are in both, matched by {changed.by}{changed.compared && changed.compared < changed.items ? `; ${grouped(changed.compared)} of them were compared` : ""}.</p>
      <div class="scroll">
        <table>
          <thead><tr><th scope="col">Likeness</th><th scope="col">Value</th><th scope="col">What it says</th></tr></thead>
          <tbody>{changed.likeness.map((one) => <tr key={one.name}><th scope="row">{one.name}</th><td class="number">{short(one.value)}</td><td>{one.what}</td></tr>)}</tbody>
        </table>
      </div>
      <h3>Items whose neighbours changed most</h3>
      {!changed.moved.length && <p class="soft">No item's neighbours changed.</p>}
      {changed.moved.map((one) => (
        <div class="moved" key={one.item.id} data-testid="moved">
          <div class="it"><Card id={one.item.id} onOpen={setOpen} /><p class="soft">{Math.round(100 * one.kept)} % of its neighbours stayed</p></div>
          <div><h4>{names[0]}</h4><Grid small ids={one.before.map((item) => item.id)} onOpen={setOpen} /></div>
          <div><h4>{names[1]}</h4><Grid small ids={one.after.map((item) => item.id)} onOpen={setOpen} /></div>
        </div>
      ))}
      {open !== null && <Dialog label="Item" onClose={() => setOpen(null)}><Detail id={open} onOpen={setOpen} onMap /></Dialog>}
    </section>
  );
}
