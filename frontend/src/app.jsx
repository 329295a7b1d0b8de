import "tabulator-tables/dist/css/tabulator.min.css";
import "./styles/base.css";
import "./styles/views.css";
import "./styles/table.css";
import { render } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { VIEWS, address, addressOf, remembered, watchAddress } from "./address.js";
import { get } from "./api.js";
import { ClustersView } from "./clusters/ClustersView.jsx";
import { CurateView } from "./curate/CurateView.jsx";
import { JudgeView } from "./judge/JudgeView.jsx";
import { MapView } from "./map/MapView.jsx";
import { follow } from "./map/data.js";
import { loadMarks, marks, saving, undo } from "./marks.js";
import { counted, followRun, run } from "./run.js";
import { SearchView } from "./search/SearchView.jsx";
import { useStore } from "./store.js";
import { chosenTheme, followSystem, switchTheme } from "./theme.js";
import { complain, dismiss, toasts } from "./toasts.js";

const PARTS = { map: MapView, search: SearchView, clusters: ClustersView, judge: JudgeView, curate: CurateView };
const TITLES = { map: "Map", search: "Search", clusters: "Clusters", judge: "Judge", curate: "Curate" };

function App() {
  const told = useStore(run);
  const [problem, setProblem] = useState(null);
  useEffect(() => {
    if (address.get().view === "map") follow().catch(() => {}); // the map asks again, and says what is wrong
    get("/api/run").then((found) => {
      document.title = `${found.name} – nolabel explorer`;
      run.set(found);
      loadMarks().catch(complain);
      if (!found.ready) followRun();
    }, setProblem);
  }, []);
  if (problem) return <main class="wrap empty alone" role="alert"><h1>nolabel explorer</h1><p>{problem.message}</p></main>;
  if (!told) return <main class="wrap empty alone"><p>Opening the run …</p></main>;
  return <Shell told={told} />;
}

function Shell({ told }) {
  const { view, params } = useStore(address);
  const theme = useTheme();
  // a view stays as it was left: it is hidden, not taken away; what it showed last is what its tab leads to
  const visited = useRef({});
  visited.current[view] = params;
  useUndoKey();
  useScroll(view);
  const views = VIEWS.filter((name) => told.width > 0 || (name !== "map" && name !== "clusters"));
  return (
    <>
      <a class="skip" href={addressOf(view, params)} onClick={(event) => { event.preventDefault(); document.getElementById("content").focus(); }}>Skip to the content</a>
      <header class="bar">
        <b class="brand">nolabel</b>
        <nav aria-label="Views">
          {views.map((name) => (
            <a key={name} href={addressOf(name, visited.current[name] ?? remembered()[name])} data-testid={`tab-${name}`} aria-current={name === view ? "page" : undefined}>{TITLES[name]}</a>
          ))}
        </nav>
        <span class="about soft" title={told.against ? `${told.name}, against ${told.against}` : told.name}>
          <strong>{told.name}</strong>{told.against && ` against ${told.against}`} · {counted(told.rows)}{told.method && ` · ${told.method}`}
        </span>
        <Saved />
        <a class="soft api" href="/docs">API</a>
        <button type="button" class="quiet theme" data-testid="theme" aria-label={`Switch to ${theme === "dark" ? "light" : "dark"} colours`} onClick={switchTheme}>
          {theme === "dark" ? "Light" : "Dark"}
        </button>
      </header>
      <main id="content" tabIndex={-1}>
        {views.filter((name) => visited.current[name]).map((name) => {
          const View = PARTS[name];
          return <section key={name} class={`view view-${name}`} hidden={name !== view} aria-label={TITLES[name]}><View params={visited.current[name]} theme={theme} active={name === view} /></section>;
        })}
        {!views.includes(view) && <p class="wrap empty">This run has no vectors, so there is no {TITLES[view].toLowerCase()}. Search and curate work.</p>}
      </main>
      <Toasts />
    </>
  );
}

function useTheme() {
  const [theme, setTheme] = useState(chosenTheme());
  useEffect(() => {
    const heard = (event) => setTheme(event.detail);
    addEventListener("theme", heard);
    return () => removeEventListener("theme", heard);
  }, []);
  return theme;
}

/** Each view is where it was left, also after another was scrolled. */
function useScroll(view) {
  const places = useRef({});
  useLayoutEffect(() => {
    scrollTo(0, places.current[view] ?? 0);
    const heard = () => { places.current[view] = scrollY; };
    addEventListener("scroll", heard, { passive: true });
    return () => removeEventListener("scroll", heard);
  }, [view]);
}

function useUndoKey() {
  useEffect(() => {
    const heard = (event) => {
      if (!(event.ctrlKey || event.metaKey) || event.shiftKey || event.key.toLowerCase() !== "z") return;
      if (event.target.matches?.("input:not([type=checkbox]), textarea")) return; // there it undoes typing
      event.preventDefault();
      if (marks.get().undo) undo();
    };
    addEventListener("keydown", heard);
    return () => removeEventListener("keydown", heard);
  }, []);
}

function Saved() {
  const state = useStore(saving);
  const { undo: last } = useStore(marks);
  return (
    <span class="saved" role="status" data-testid="saved">
      {state === "saving" && "saving …"}
      {state === "saved" && "saved"}
      {state === "saved" && last && <button type="button" class="quiet" title={`Undo ${last} (Ctrl-Z)`} onClick={undo}>undo</button>}
    </span>
  );
}

function Toasts() {
  return (
    <div class="toasts" role="alert">
      {useStore(toasts).map((toast) => (
        <p key={toast.id} class="toast" data-testid="toast"><span>{toast.text}</span><button type="button" aria-label="Close" onClick={() => dismiss(toast.id)}>×</button></p>
      ))}
    </div>
  );
}

followSystem();
watchAddress();
render(<App />, document.getElementById("app"));
