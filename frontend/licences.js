import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";

/** The package that a bundled file comes from, or null for our own. */
export function packageOf(path) {
  const inside = path.split("node_modules/").pop();
  if (inside === path) return null;
  const parts = inside.split("/");
  return parts[0].startsWith("@") ? parts.slice(0, 2).join("/") : parts[0];
}

async function described(modules, name) {
  const folder = join(modules, name);
  const told = JSON.parse(await readFile(join(folder, "package.json"), "utf8"));
  const inside = await readdir(folder, { withFileTypes: true });
  const named = inside.filter((entry) => /^(licen[cs]es?|copying|notice)/i.test(entry.name)).sort((a, b) => (a.name < b.name ? -1 : 1));
  const files = (await Promise.all(named.map(async (entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? (await readdir(path)).sort().map((file) => join(path, file)) : [path];
  }))).flat();
  const texts = await Promise.all(files.map((file) => readFile(file, "utf8")));
  const licence = typeof told.license === "string" ? told.license : told.license?.type ?? "see below";
  return { name, version: told.version, licence, texts, needs: Object.keys(told.dependencies ?? {}), author: told.author };
}

/**
 * Names, versions and licence texts of what is bundled.
 * @param {string} modules folder of the installed packages
 * @param {string[]} inputs files that went into the bundles
 * @param {string[]} whole packages taken as they were built, with all they depend on inside
 */
export async function licences(modules, inputs, whole) {
  const names = new Set(inputs.map(packageOf).filter(Boolean));
  const open = [...whole];
  const found = new Map();
  while (open.length) {
    const name = open.pop();
    if (found.has(name)) continue;
    names.add(name);
    const one = await described(modules, name);
    found.set(name, one);
    open.push(...one.needs.filter((need) => !found.has(need)));
  }
  const all = await Promise.all([...names].sort().map((name) => found.get(name) ?? described(modules, name)));
  const label = (one) => `${one.name} ${one.version} (${one.licence})`;
  // many packages share one text, which is given once
  const sharing = new Map();
  for (const one of all) {
    const author = typeof one.author === "string" ? one.author : one.author?.name;
    const texts = one.texts.map((text) => text.replace(/\r\n/g, "\n").trim()).filter(Boolean);
    if (!texts.length) texts.push(`Published under the ${one.licence} licence${author ? ` by ${author}` : ""}.`);
    for (const text of texts) sharing.set(text, [...(sharing.get(text) ?? []), label(one)]);
  }
  const rule = "-".repeat(100);
  const parts = [...sharing].map(([text, names]) => `${rule}\n${names.join("\n")}\n\n${text}\n`);
  return `What the pages of this folder are built from, besides our own sources.\n\n${all.map(label).join("\n")}\n\n${parts.join("\n")}`;
}
