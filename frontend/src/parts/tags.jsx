import { useState } from "preact/hooks";
import { mark, marks } from "../marks.js";
import { useStore } from "../store.js";

/** A field that tags some items; what is used already is offered. */
export function TagField({ ids }) {
  const [text, setText] = useState("");
  const { tags } = useStore(marks);
  const add = async (event) => {
    event.preventDefault();
    const tag = text.trim();
    if (tag && ids.length && (await mark(ids, { add: [tag] }))) setText("");
  };
  return (
    <form class="tag-field" onSubmit={add}>
      <input data-testid="tag-input" aria-label="Tag to add" placeholder="add a tag" value={text} list="known-tags" maxLength={60}
        onInput={(event) => setText(event.currentTarget.value)} />
      <button type="submit" data-testid="tag-add" disabled={!text.trim() || !ids.length}>Tag</button>
      <datalist id="known-tags">{Object.keys(tags).map((tag) => <option key={tag} value={tag} />)}</datalist>
    </form>
  );
}

export function Tags({ item }) {
  if (!item.tags.length) return null;
  return (
    <ul class="tags">
      {item.tags.map((tag) => (
        <li key={tag}>{tag}
          <button type="button" aria-label={`Remove the tag ${tag}`} onClick={() => mark([item.id], { remove: [tag] })}>×</button>
        </li>
      ))}
    </ul>
  );
}
