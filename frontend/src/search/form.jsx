import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { useItem, load } from "../items.js";
import { marks } from "../marks.js";
import { useStore } from "../store.js";
import { boxOf, readBox } from "./question.js";

/** The box and what narrows the search down. Typing changes nothing until it is sent. */
export function Form({ asked, fields, told, picture, query, onSubmit }) {
  const [now, setNow] = useState(fields);
  const [box, setBox] = useState(boxOf(fields));
  const [over, setOver] = useState(false);
  const file = useRef(null);
  // at once, not after the next paint: by then somebody may have typed again
  useLayoutEffect(() => {
    setNow(fields);
    setBox(boxOf(fields));
  }, [asked]);
  const { asks } = told;
  const change = (name) => (event) => setNow({ ...now, [name]: event.currentTarget.value });
  const submit = (event) => {
    event?.preventDefault();
    if (picture && !box.trim()) onSubmit(now, picture);
    else onSubmit({ ...now, ...readBox(box) }, null);
  };
  const upload = (chosen) => {
    if (!chosen) return;
    setBox("");
    onSubmit(now, chosen);
  };
  const drop = (event) => {
    event.preventDefault();
    setOver(false);
    upload(event.dataTransfer.files[0]);
  };
  const dragging = (event) => {
    if (!asks.file) return;
    event.preventDefault();
    setOver(true);
  };
  const placeholder = asks.words ? "Words" : asks.item ? "like item 17" : "Words";
  const byPicture = picture || readBox(box).item;

  return (
    <form class={`search-form ${over ? "over" : ""}`} onSubmit={submit} onDragOver={dragging} onDragLeave={() => setOver(false)} onDrop={asks.file ? drop : undefined}>
      <div class="row main">
        {picture && <Sent picture={picture} query={query} />}
        {!picture && fields.item && <Asked id={Number(fields.item)} />}
        <input type="search" data-testid="search-box" aria-label="Search" placeholder={picture ? `like ${picture.name}` : placeholder} value={box}
          onInput={(event) => setBox(event.currentTarget.value)} autocomplete="off" />
        {asks.file && (
          <>
            <button type="button" onClick={() => file.current.click()} title="or drop a picture here">Picture …</button>
            <input type="file" hidden ref={file} data-testid="upload" accept="image/*" aria-label="Picture to search by"
              onChange={(event) => { upload(event.currentTarget.files[0]); event.currentTarget.value = ""; }} />
          </>
        )}
        <button type="submit" class="strong" data-testid="search-go">Search</button>
      </div>
      <div class="row more">
        {told.modes.length > 1 && (
          <label>Mode <select data-testid="mode" value={now.mode} onChange={change("mode")}>
            <option value="">usual</option>
            {told.modes.map((mode) => <option key={mode} value={mode}>{mode}</option>)}
          </select></label>
        )}
        {told.dims.length > 0 && (
          <>
            <label>Dimensions <select data-testid="dims" value={now.dims} onChange={change("dims")}>
              <option value="">all {told.width}</option>
              {told.dims.map((dim) => <option key={dim} value={dim}>first {dim}</option>)}
            </select></label>
            {now.dims && (
              <>
                <label>Rank again with <select data-testid="rerank" value={now.rerank} onChange={change("rerank")}>
                  <option value="">no more</option>
                  {[...told.dims.filter((dim) => dim > Number(now.dims)), told.width].map((dim) => <option key={dim} value={dim}>{dim}</option>)}
                </select></label>
                {now.rerank && <label>Shortlist <input type="number" data-testid="shortlist" min="1" placeholder="usual" value={now.shortlist} onInput={change("shortlist")} /></label>}
              </>
            )}
          </>
        )}
        {asks.plus && byPicture && (
          <>
            <label class="grow">Plus words <input data-testid="plus" value={now.plus} onInput={change("plus")} placeholder="at night" /></label>
            {now.plus && <label>Weight <input type="number" data-testid="weight" step="0.1" value={now.weight} placeholder="1" onInput={change("weight")} /></label>}
          </>
        )}
        <label class="grow">Filter <input data-testid="where" value={now.where} onInput={change("where")} spellcheck={false} autocomplete="off"
          placeholder={example(told.columns)} title={told.columns.map(({ name, type }) => `${name} (${type})`).join(", ")} /></label>
        <label>Hits <select value={now.k || "50"} data-testid="k" onChange={change("k")}>{[10, 20, 50, 100, 200, 500].map((k) => <option key={k} value={k}>{k}</option>)}</select></label>
      </div>
      <ColumnHint columns={told.columns} />
    </form>
  );
}

/** A filter that this run would take. */
export function example(columns) {
  const column = columns.find(({ type }) => type === "text") ?? columns[0];
  if (!column) return "SQL: id < 100";
  const name = /^[a-z_][a-z0-9_]*$/.test(column.name) ? column.name : `\`${column.name}\``;
  return `SQL: ${name} ${column.type === "text" ? "LIKE '%cat%'" : column.type === "number" ? "> 3" : "= true"}`;
}

export function ColumnHint({ columns }) {
  const { marks: counts, tags } = useStore(marks);
  const marked = Object.values(counts).some(Boolean) || Object.keys(tags).length > 0; // before, the index has no such columns
  const own = [{ name: "id", type: "number" }, ...(marked ? [{ name: "curated", type: "the mark" }, { name: "curated_tags", type: "the tags" }] : [])];
  return <p class="hint soft">Columns to filter by: {[...columns, ...own].map(({ name, type }, at) => <span key={name}>{at > 0 && ", "}<code>{name}</code> {type}</span>)}</p>;
}

function Sent({ picture, query }) {
  return <span class="asked">{query && <img src={query} alt={picture.name} />}</span>;
}

function Asked({ id }) {
  const item = useItem(id);
  useEffect(() => { load([id]).catch(() => {}); }, [id]); // the search itself says that there is none
  return item?.thumbnail ? <span class="asked"><img src={item.thumbnail} alt={item.title} title={item.title} /></span> : null;
}
