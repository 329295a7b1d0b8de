import { useEffect, useRef, useState } from "preact/hooks";
import { address, adjust } from "../address.js";
import { download, get } from "../api.js";
import { itemOf, load } from "../items.js";
import { MARKS, mark, marks, undo } from "../marks.js";
import { Detail } from "../parts/detail.jsx";
import { Dialog } from "../parts/dialog.jsx";
import { MarkButtons } from "../parts/item.jsx";
import { TagField } from "../parts/tags.jsx";
import { counted, grouped, run } from "../run.js";
import { ColumnHint, example } from "../search/form.jsx";
import { useStore } from "../store.js";
import { complain } from "../toasts.js";
import { makeTable } from "./table.js";

const SLUG = { keep: "keep", drop: "drop", "wrong label": "wrong" };

/** What was marked, as a table to look through, mend and save. */
export function CurateView({ params, active }) {
  const element = useRef(null), made = useRef(null), ready = useRef(false);
  const told = useStore(marks);
  const [where, setWhere] = useState(params.where ?? "");
  const [open, setOpen] = useState(null);
  const [chosen, setChosen] = useState([]);
  const [total, setTotal] = useState(null);
  const query = { mark: params.mark, tag: params.tag, where: params.where };
  const filtered = Boolean(params.mark || params.tag || params.where);

  useEffect(() => {
    const read = () => {
      const { params: p } = address.get();
      return { mark: p.mark, tag: p.tag, where: p.where };
    };
    made.current = makeTable(element.current, { run: run.get(), query: read, onOpen: setOpen, onSelect: setChosen, onTotal: setTotal });
    made.current.table.on("tableBuilt", () => { ready.current = true; });
    return () => made.current.table.destroy();
  }, []);

  useEffect(() => {
    setWhere(params.where ?? "");
    if (ready.current && made.current) made.current.table.setPage(1).catch(() => {}); // the table tells of its errors itself
  }, [params.mark, params.tag, params.where]);

  // a mark set anywhere: rows on this page are shown anew, in their place, also where they no longer pass the filter
  const seen = useRef(told), left = useRef(false);
  useEffect(() => {
    if (!ready.current || seen.current.count === told.count) return;
    const anew = seen.current.undone !== told.undone;
    seen.current = told;
    left.current ||= !active;
    const { table, flat } = made.current;
    if (filtered) get("/api/items", { ...query, limit: 1 }).then((found) => setTotal(found.total), complain);
    const rows = table.getRows();
    load(rows.map((row) => row.getData().id), anew).then(() => {
      for (const row of rows) row.update(flat(itemOf(row.getData().id))).then(() => row.reformat(), () => {});
    }, complain);
  }, [told.count]);
  // what was marked in other views may have come into the filter, or gone out of it
  useEffect(() => {
    if (!active || !left.current) return;
    left.current = false;
    made.current.table.setPage(made.current.table.getPage()).catch(() => {});
  }, [active]);

  const save = async (format) => {
    try {
      await download("/api/export", { ...query, format });
    } catch (error) {
      complain(error);
    }
  };
  const pick = (name) => (value) => adjust({ [name]: params[name] === value ? null : value });

  return (
    <div class="curate-view wrap">
      <div class="counts">
        <Counts label="Marks" names={MARKS} counts={told.marks} current={params.mark} onPick={pick("mark")} testid="filter-mark" slug={SLUG} />
        <Counts label="Tags" names={Object.keys(told.tags)} counts={told.tags} current={params.tag} onPick={pick("tag")} testid="filter-tag" />
        <span class="push" />
        <button type="button" data-testid="undo" disabled={!told.undo} title={told.undo ? `Undo ${told.undo} (Ctrl-Z)` : "Nothing to undo"} onClick={undo}>
          Undo{told.undo && <span class="soft"> {told.undo}</span>}
        </button>
      </div>
      <form class="row more" onSubmit={(event) => { event.preventDefault(); adjust({ where: where.trim() }); }}>
        <label class="grow">Filter <input data-testid="curate-where" value={where} spellcheck={false} autocomplete="off" placeholder={example(run.get().columns)}
          onInput={(event) => setWhere(event.currentTarget.value)} /></label>
        <button type="submit">Filter</button>
        {filtered && <button type="button" class="quiet" data-testid="filter-clear" onClick={() => adjust({ mark: null, tag: null, where: null })}>Show all</button>}
        <span class="export" role="group" aria-label="Save what is filtered">
          <span class="soft">{filtered ? `Save ${total === null ? "" : grouped(total)} as` : "Pick a mark, a tag or a filter to save a subset"}</span>
          {["parquet", "csv", "paths"].map((format) => (
            <button type="button" key={format} data-testid={`export-${format}`} disabled={!filtered || !total} onClick={() => save(format)}>
              {{ parquet: "Parquet", csv: "CSV", paths: "List of paths" }[format]}
            </button>
          ))}
        </span>
      </form>
      <ColumnHint columns={run.get().columns} />
      <div class="toolbar picked">
        <span class={chosen.length ? "" : "soft"} data-testid="rows-chosen">{chosen.length ? `${counted(chosen.length)} selected` : "Select rows to mark them together"}</span>
        <MarkButtons ids={chosen} />
        <TagField ids={chosen} />
        <Untag ids={chosen} />
      </div>
      <div class="table" ref={element} data-testid="table" />
      {open !== null && <Dialog label="Item" onClose={() => setOpen(null)}><Detail id={open} onOpen={setOpen} onMap /></Dialog>}
    </div>
  );
}

function Counts({ label, names, counts, current, onPick, testid, slug }) {
  if (!names.length) return <p class="soft">No tags yet</p>;
  return (
    <div class="picks" role="group" aria-label={label}>
      {names.map((name) => (
        <button type="button" key={name} data-testid={testid} class={slug?.[name]} aria-pressed={current === name} onClick={() => onPick(name)}>
          {name} <b>{grouped(counts[name] ?? 0)}</b>
        </button>
      ))}
    </div>
  );
}

/** Takes a tag from all selected rows that have it. */
function Untag({ ids }) {
  useStore(marks);
  const used = [...new Set(ids.flatMap((id) => itemOf(id)?.tags ?? []))];
  if (!used.length) return null;
  return (
    <select class="untag" aria-label="Remove a tag from the selected rows" value="" onChange={(event) => event.currentTarget.value && mark(ids, { remove: [event.currentTarget.value] })}>
      <option value="">remove a tag …</option>
      {used.map((tag) => <option key={tag} value={tag}>{tag}</option>)}
    </select>
  );
}
