// What is asked for, as the address keeps it and as the server takes it.

const NUMBERS = ["k", "dims", "rerank", "shortlist", "weight"];
export const FIELDS = ["words", "item", "where", "mode", "dims", "rerank", "shortlist", "plus", "weight", "k", "unfold"];

/** Fields of the form, all of them text, as the body of a search; null where nothing is asked for. */
export function bodyOf(fields, { picture = false } = {}) {
  const body = {};
  for (const name of ["where", "mode", "plus"]) if (fields[name]?.trim()) body[name] = fields[name].trim();
  for (const name of NUMBERS) if (fields[name] !== undefined && fields[name] !== "" && Number.isFinite(Number(fields[name]))) body[name] = Number(fields[name]);
  if (body.dims === undefined) {
    delete body.rerank;
    delete body.shortlist;
  }
  const item = fields.item?.toString().trim() ?? "";
  if (body.plus === undefined || (!picture && item === "")) {
    delete body.plus;
    delete body.weight;
  }
  if (fields.unfold) body.fold = false;
  if (picture) return body;
  if (/^\d+$/.test(item)) return { ...body, item: Number(item) };
  return fields.words?.trim() ? { ...body, words: fields.words } : null;
}

/** The box's text read as it is meant: "like 17", "like item 17" and "#17" ask for an item. */
export function readBox(text) {
  const like = /^\s*(?:like\s+(?:item\s+)?|#)(\d+)\s*$/i.exec(text);
  return like ? { item: like[1], words: "" } : { item: "", words: text };
}

export const boxOf = (fields) => (fields.item ? `like item ${fields.item}` : fields.words ?? "");

export function took(seconds) {
  return seconds < 1 ? `${Math.max(1, Math.round(1000 * seconds))} ms` : `${seconds.toFixed(1)} s`;
}
