// An item as a card: its picture or the beginning of its text, its mark, and what is known about it.
import { useItem } from "../items.js";
import { MARKS, mark, markOfKey } from "../marks.js";
import { short } from "../run.js";

const SLUG = { keep: "keep", drop: "drop", "wrong label": "wrong" };
const HINT = { keep: "k", drop: "d", "wrong label": "w" };

export function Picture({ item, large }) {
  if (item.thumbnail) return <img class="picture" src={item.thumbnail} alt={item.title} loading={large ? "eager" : "lazy"} decoding="async" />;
  return (
    <>
      {!large && named(item) && <b class="title">{item.title}</b>}
      <p class={large ? "excerpt whole" : "excerpt"}>{item.text ?? item.title}</p>
    </>
  );
}

/** Whether a text has a name of its own, not only its first words. */
export function named(item) {
  if (item.text === null) return false;
  const start = item.title.replace(/…$/, "");
  return !item.text.replace(/\s+/g, " ").trim().startsWith(start);
}

export function MarkSign({ item }) {
  return item.mark ? <span class={`sign ${SLUG[item.mark]}`}>{item.mark}</span> : null;
}

/** Buttons that mark some items; the one that all of them have is pressed, and pressing it again takes the mark away. */
export function MarkButtons({ ids, current, compact }) {
  return (
    <div class={`marks ${compact ? "compact" : ""}`} role="group" aria-label="Marks">
      {MARKS.map((name) => (
        <button type="button" key={name} data-testid={`mark-${SLUG[name]}`} class={SLUG[name]} aria-pressed={current === name}
          aria-keyshortcuts={HINT[name]} aria-label={name} title={`${name} (${HINT[name]})`} tabIndex={compact ? -1 : 0} disabled={!ids.length}
          onClick={(event) => { event.stopPropagation(); mark(ids, { mark: current === name ? null : name }); }}>
          {compact ? SLUG[name] : name}
        </button>
      ))}
      {!compact && (
        <button type="button" data-testid="mark-clear" disabled={!ids.length || current === null} title="no mark (c)"
          onClick={() => mark(ids, { mark: null })}>clear</button>
      )}
    </div>
  );
}

/** Arrows go from card to card in their grid, k, d, w and c mark the card in focus. */
export function cardKeys(event, id) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, textarea, select")) return;
  const wanted = markOfKey(event.key);
  if (wanted !== undefined) {
    event.preventDefault();
    mark([id], { mark: wanted });
    return;
  }
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 1, ArrowUp: -1 }[event.key];
  const card = event.currentTarget;
  if (!step || !card.parentElement?.closest("[data-grid]")) return;
  const all = [...card.closest("[data-grid]").querySelectorAll("[data-card]")];
  let to = all.indexOf(card) + step;
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    // the card nearest across in the next row
    const { left, top } = card.getBoundingClientRect();
    const beyond = all.filter((other) => step * (other.getBoundingClientRect().top - top) > 8);
    const row = beyond.length ? beyond[step > 0 ? 0 : beyond.length - 1].getBoundingClientRect().top : 0;
    const near = beyond.filter((other) => Math.abs(other.getBoundingClientRect().top - row) < 8);
    near.sort((a, b) => Math.abs(a.getBoundingClientRect().left - left) - Math.abs(b.getBoundingClientRect().left - left));
    to = near.length ? all.indexOf(near[0]) : -1;
  }
  if (all[to]) {
    event.preventDefault();
    all[to].focus();
  }
}

/** A small card that opens something. */
export function Card({ id, onOpen, note, chosen, onChoose, children }) {
  const item = useItem(id);
  if (!item) return <div class="card loading" />;
  const label = [item.title, item.mark && `marked ${item.mark}`].filter(Boolean).join(", ");
  return (
    <div class={`card ${item.thumbnail ? "" : "text"} ${item.mark ? `is-${SLUG[item.mark]}` : ""}`} data-card data-id={id} tabIndex={0} role="button"
      aria-label={label} title={item.title} onClick={() => onOpen?.(id)}
      onKeyDown={(event) => {
        if (event.target !== event.currentTarget) return;
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); onOpen?.(id); } else cardKeys(event, id);
      }}>
      {onChoose && (
        <input type="checkbox" class="choose" checked={chosen} aria-label={`Select ${item.title}`} onClick={(event) => event.stopPropagation()}
          onChange={(event) => onChoose(id, event.currentTarget.checked)} />
      )}
      <MarkSign item={item} />
      <Picture item={item} />
      {note && <span class="note">{note}</span>}
      <MarkButtons ids={[id]} current={item.mark} compact />
      {children}
    </div>
  );
}

export function Grid({ ids, onOpen, noteOf, testid, chosen, onChoose, small }) {
  return (
    <div class={`grid ${small ? "small" : ""}`} data-grid data-testid={testid}>
      {ids.map((id) => (
        <Card key={id} id={id} onOpen={onOpen} note={noteOf?.(id)} chosen={chosen?.has(id)} onChoose={onChoose} />
      ))}
    </div>
  );
}

/** All columns of an item. */
export function Columns({ item }) {
  const rows = Object.entries(item.columns).filter(([, value]) => value !== null && value !== "");
  return (
    <dl class="columns">
      <div><dt>id</dt><dd>{item.id}</dd></div>
      {rows.map(([name, value]) => <div key={name}><dt>{name}</dt><dd>{short(value)}</dd></div>)}
    </dl>
  );
}
