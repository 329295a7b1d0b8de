import { useEffect, useRef, useState } from "preact/hooks";
import { adjust, go } from "../address.js";
import { post, send } from "../api.js";
import { keep } from "../items.js";
import { choose } from "../map/selection.js";
import { run, counted, grouped } from "../run.js";
import { useStore } from "../store.js";
import { complain } from "../toasts.js";
import { Form } from "./form.jsx";
import { Hits } from "./hits.jsx";
import { FIELDS, bodyOf, took } from "./question.js";

/** Ask by words, a picture or an item. */
export function SearchView({ params }) {
  const told = useStore(run);
  const [found, setFound] = useState(null);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");
  const [picture, setPicture] = useState(null); // a file, which no address can hold
  const asking = useRef(null);
  const fields = Object.fromEntries(FIELDS.map((name) => [name, params[name] ?? ""]));

  const ask = async (given, file) => {
    const body = bodyOf(given, { picture: Boolean(file) });
    if (!body) return;
    asking.current?.abort();
    const mine = (asking.current = new AbortController());
    setBusy(true);
    setProblem("");
    try {
      let answer;
      if (file) {
        const form = new FormData();
        form.append("file", file);
        for (const [name, value] of Object.entries(body)) form.append(name, String(value));
        answer = await send("/api/search/upload", form, { signal: mine.signal });
      } else answer = await post("/api/search", body, { signal: mine.signal });
      keep(answer.hits);
      setFound({ ...answer, asked: file ? file.name : given.item ? `item ${given.item}` : given.words, item: given.item });
    } catch (error) {
      if (error.name === "AbortError") return;
      setFound(null);
      if (error.status >= 400 && error.status < 500 && error.status !== 401) setProblem(error.message);
      else complain(error);
    } finally {
      if (asking.current === mine) setBusy(false);
    }
  };

  // what the address asks is asked at once: also after a reload, and when another view leads here
  const asked = FIELDS.map((name) => fields[name]).join("\n");
  useEffect(() => {
    if (fields.words || fields.item) {
      setPicture(null);
      ask(fields, null);
    }
  }, [asked]);

  const submit = (given, file) => {
    if (file) {
      setPicture(file);
      adjust({ ...given, words: null, item: null });
      ask({ ...given, words: "", item: "" }, file);
    } else if (FIELDS.every((name) => (given[name] ?? "") === fields[name])) ask(given, null);
    else go("search", given);
  };
  const ids = found?.hits.map((hit) => hit.id) ?? [];
  const onMap = () => {
    choose(ids, `found for ${found.asked}`);
    go("map", { colour: null });
  };

  return (
    <div class="search-view wrap">
      <Form asked={asked} fields={fields} told={told} picture={picture} query={found?.query} onSubmit={submit} />
      {problem && <p class="problem" role="alert">{problem}</p>}
      <p class="soft status" aria-live="polite" data-testid="search-status">
        {busy ? "Searching …" : found && (
          <>{counted(found.hits.length, "hits")}{found.folded > 0 && `, ${counted(found.folded, "near-duplicates")} folded`} in {took(found.seconds)}, {found.mode}
            {found.multiply_adds > 0 && `, ${grouped(found.multiply_adds)} multiply-adds`}
            {ids.length > 0 && told.width > 0 && <button type="button" class="quiet" data-testid="hits-on-map" onClick={onMap}>Show on the map</button>}</>
        )}
      </p>
      {found && !found.hits.length && !busy && <p class="empty">Nothing was found. Try other words, or a wider filter.</p>}
      {found && <Hits found={found} />}
      {!found && !busy && !problem && <Hints told={told} />}
    </div>
  );
}

function Hints({ told }) {
  const ways = [
    told.asks.words && `words, such as what a ${told.noun.replace(/s$/, "")} shows or says`,
    told.asks.file && "a picture, dropped here or chosen",
    told.asks.item && "an item, as in “like item 17”, or by “Find like this” in any view",
  ].filter(Boolean);
  return (
    <div class="empty">
      <p>{ways.length ? "Search by" : "This run cannot be searched."}</p>
      {ways.length > 0 && <ul>{ways.map((way) => <li key={way}>{way}</li>)}</ul>}
    </div>
  );
}
