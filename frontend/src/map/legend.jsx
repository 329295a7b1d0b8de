import { grouped, short } from "../run.js";

/** Categories to switch, or a scale of colours. `only` is the set of categories shown, null for all. */
export function Legend({ described, colours, only, onOnly }) {
  if (!described) return null;
  if (described.kind === "numbers") {
    return (
      <div class="legend numbers" data-testid="legend">
        <span class="end">{short(described.low)}</span>
        <span class="scale" style={{ background: `linear-gradient(90deg, ${colours.slice(0, -1).filter((_, at) => at % 9 === 0).join(", ")})` }} />
        <span class="end">{short(described.high)}</span>
        {described.what && <span class="soft what">{described.what}</span>}
      </div>
    );
  }
  // a click shows one category alone, with ctrl or shift it comes to those shown
  const press = (at, adds) => {
    if (adds) {
      const next = new Set(only ?? []);
      if (!next.delete(at)) next.add(at);
      onOnly(next.size ? next : null);
    } else onOnly(only?.size === 1 && only.has(at) ? null : new Set([at]));
  };
  const total = described.counts.reduce((sum, count) => sum + count, 0);
  if (!total) return <p class="legend soft" data-testid="legend">No item has a value here yet.</p>;
  return (
    <ul class="legend" data-testid="legend" aria-label="Legend">
      {described.names.map((name, at) => (
        <li key={at}>
          <button type="button" aria-pressed={only ? only.has(at) : true} class={only && !only.has(at) ? "off" : ""}
            title={`${name}: click to show it alone, with Ctrl to add it`} onClick={(event) => press(at, event.ctrlKey || event.metaKey || event.shiftKey)}>
            <i class="dot" style={{ background: colours[at] }} /><span class="name">{name}</span><span class="soft">{grouped(described.counts[at] ?? 0)}</span>
          </button>
        </li>
      ))}
      {only && <li><button type="button" class="all" onClick={() => onOnly(null)}>show all</button></li>}
    </ul>
  );
}
