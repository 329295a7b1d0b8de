// Every word with the server goes through here; what goes wrong comes out as an ApiError with the server's sentence.

export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export const NEEDS_TOKEN = "This page needs its token: open the address that `nolabel explore` printed";

async function asked(path, options) {
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server does not answer: is `nolabel explore` still running?", 0);
  }
  if (answer.ok) return answer;
  if (answer.status === 401) throw new ApiError(NEEDS_TOKEN, 401);
  let detail = "";
  try {
    detail = String((await answer.json()).detail ?? "");
  } catch {
    // no JSON: a proxy's page, say
  }
  throw new ApiError(detail || `The server answered with status ${answer.status}.`, answer.status);
}

/** A query string without what is null, undefined or empty. */
export function withQuery(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return given.length ? `${path}?${new URLSearchParams(given.map(([k, v]) => [k, String(v)]))}` : path;
}

export const get = async (path, query, options) => (await asked(withQuery(path, query), options)).json();

export const post = async (path, body, options) =>
  (await asked(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    ...options,
  })).json();

export const send = async (path, form, options) => (await asked(path, { method: "POST", body: form, ...options })).json();

/** The bytes at an address as an array of numbers; the server writes little-endian, as do all machines browsers run on. */
export async function numbers(path, query, Type) {
  return new Type(await (await asked(withQuery(path, query))).arrayBuffer());
}

/** A file of the server, saved under the name that it gives. */
export async function download(path, query) {
  const answer = await asked(withQuery(path, query));
  const name = /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition") ?? "")?.[1] ?? "items";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await answer.blob());
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 30_000); // the browser may still be reading it
  return name;
}
