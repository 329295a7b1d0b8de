import { useEffect, useState } from "preact/hooks";
import { get } from "../api.js";
import { grouped } from "../run.js";
import { complain } from "../toasts.js";
import { Changed } from "./changed.jsx";
import { Chart } from "./chart.jsx";

const NAMES = { rankme: "RankMe", lr: "learning rate" };
const FIRST = ["rankme", "loss"];
const SAYS = { rankme: "RankMe is the number of directions in use: a falling curve is an early sign of collapse." };

/** What the vectors are worth without labels. */
export function JudgeView() {
  const [told, setTold] = useState(null);
  useEffect(() => { get("/api/report").then(setTold, complain); }, []);
  if (!told) return <p class="wrap empty">Measuring …</p>;
  const { runs, changed } = told;
  return (
    <div class="wrap judge">
      <div class={runs.length > 1 ? "verdicts two" : "verdicts"}>{runs.map((run) => <Verdict key={run.name} run={run} named={runs.length > 1} />)}</div>
      <Scores runs={runs} />
      <Charts runs={runs} />
      {changed && <Changed changed={changed} names={runs.map((run) => run.name)} />}
    </div>
  );
}

function Verdict({ run, named }) {
  return (
    <section class={`verdict ${run.verdict ?? "unknown"}`} data-testid="verdict">
      {named && <h2 class="run-name">{run.name}</h2>}
      <p class="headline"><Headline run={run} /></p>
      <p class="soft">{run.method && `${run.method}, `}{grouped(run.rows)} rows, {run.width > 0 ? `vectors of ${grouped(run.width)} numbers` : "no vectors"}</p>
      {run.reasons.length > 0 && <ul class="reasons">{run.reasons.map((reason) => <li key={reason}>{reason}</li>)}</ul>}
    </section>
  );
}

/** The verdict stands first in the headline: it is the part that has the colour. */
function Headline({ run }) {
  const { verdict, headline } = run;
  if (!verdict || !headline.toLowerCase().startsWith(verdict)) return headline || "No verdict";
  return <><strong>{headline.slice(0, verdict.length)}</strong>{headline.slice(verdict.length)}</>;
}

function Scores({ runs }) {
  const names = [...new Set(runs.flatMap((run) => run.scores.map((score) => score.name)))];
  if (!names.length) return <p class="empty">There are no scores: the run holds too few vectors.</p>;
  const of = (run, name) => run.scores.find((score) => score.name === name);
  return (
    <section>
      <h2>Scores without labels</h2>
      <div class="scroll">
        <table data-testid="scores">
          <thead><tr><th scope="col">Score</th>{runs.map((run) => <th scope="col" key={run.name}>{runs.length > 1 ? run.name : "Value"}</th>)}
            <th scope="col">What it says</th><th scope="col">Good is</th></tr></thead>
          <tbody>
            {names.map((name) => {
              const first = runs.map((run) => of(run, name)).find(Boolean);
              return (
                <tr key={name}><th scope="row">{name}</th>{runs.map((run) => <td class="number" key={run.name}>{of(run, name)?.value ?? "–"}</td>)}
                  <td>{first.what}</td><td>{first.good}</td></tr>
              );
            })}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function Charts({ runs }) {
  const all = [...new Set(runs.flatMap((run) => run.curves.map((curve) => curve.name)))];
  const names = [...FIRST.filter((name) => all.includes(name)), ...all.filter((name) => !FIRST.includes(name))];
  const curve = (run, name) => run.curves.find((one) => one.name === name);
  const line = (name) => {
    const having = runs.filter((run) => curve(run, name));
    const what = NAMES[name] ?? name.replace(/_/g, " ");
    return <Chart key={name} title={`${what[0].toUpperCase()}${what.slice(1)} over training`} note={SAYS[name]} y={what} x={curve(having[0], name).axis ?? "step"}
      series={having.map((run) => ({ name: run.name, xs: curve(run, name).steps, ys: curve(run, name).values }))} />;
  };
  const spectra = runs.filter((run) => run.spectrum.length);
  return (
    <section>
      <h2>Training and spectrum</h2>
      <div class="charts">
        {names.slice(0, 1).map(line)}
        {spectra.length > 0 && (
          <Chart title="Spectrum" x="direction, the strongest first" y="share of the variance" log
            note="A slow fall means that many directions carry something; a cliff means that the vectors lie in few."
            series={spectra.map((run) => ({ name: run.name, xs: run.spectrum.map((_, at) => at + 1), ys: run.spectrum }))} />
        )}
        {names.slice(1).map(line)}
      </div>
      {!names.length && <p class="soft">No training curve was kept with this run.</p>}
    </section>
  );
}
