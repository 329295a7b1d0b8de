// Builds the pages into the Python package. The same sources and lock file give the same bytes: fixed names, no dates, no maps.
import { build } from "esbuild";
import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { licences } from "./licences.js";

const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, "../src/nolabel/explorer/static");
const modules = join(here, "node_modules");

const made = await build({
  absWorkingDir: here,
  entryPoints: { app: "src/app.jsx", docs: "src/pages/docs.js" },
  outdir: out,
  bundle: true,
  minify: true,
  format: "iife",
  target: ["es2020"],
  charset: "utf8",
  legalComments: "none",
  sourcemap: false,
  metafile: true,
  write: false,
  jsx: "automatic",
  jsxImportSource: "preact",
  logLevel: "warning",
});

await rm(out, { recursive: true, force: true });
await mkdir(out, { recursive: true });
for (const file of made.outputFiles) await writeFile(file.path, file.contents);
for (const name of ["index.html", "docs.html"]) await cp(join(here, "src/pages", name), join(out, name));

// the viewer of the API's page is loaded by that page alone, as its authors built it
const viewer = await readFile(join(modules, "rapidoc/dist/rapidoc-min.js"), "utf8");
await writeFile(join(out, "rapidoc.js"), viewer.replace(/\n\/\/# sourceMappingURL=\S+\s*$/, "\n"));
// both of these come with what they depend on already inside
await writeFile(join(out, "LICENSES.txt"), await licences(modules, Object.keys(made.metafile.inputs), ["rapidoc", "regl-scatterplot"]));
