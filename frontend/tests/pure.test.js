import assert from "node:assert/strict";
import { test } from "node:test";
import { addressOf, parseAddress } from "../src/address.js";
import { withQuery } from "../src/api.js";
import { powers, powerText, ticks, tickText } from "../src/judge/scales.js";
import { categoryColour, coded, hslToHex, ramp } from "../src/map/palette.js";
import { apart, sizeFor } from "../src/map/thumbnails.js";
import { bodyOf, boxOf, readBox } from "../src/search/question.js";

test("an address names a view and what it shows, and comes back the same", () => {
  const params = { q: "a & b = c?", where: "folder = 'x#y'" };
  assert.deepEqual(parseAddress(addressOf("search", params)), { view: "search", params });
  assert.deepEqual(parseAddress("#nowhere?x=1"), { view: "map", params: { x: "1" } });
  assert.deepEqual(parseAddress(""), { view: "map", params: {} });
  assert.equal(addressOf("map", { item: 0, colour: null, tag: "" }), "#map?item=0");
});

test("a query leaves out what is not given, but not zero", () => {
  assert.equal(withQuery("/api/items", { offset: 0, where: "", tag: null, mark: "wrong label" }), "/api/items?offset=0&mark=wrong+label");
  assert.equal(withQuery("/api/run"), "/api/run");
});

test("the box asks for words or for an item", () => {
  for (const text of ["like 17", "like item 17", " Like Item 17 ", "#17"]) assert.deepEqual(readBox(text), { item: "17", words: "" });
  assert.deepEqual(readBox("like a house"), { item: "", words: "like a house" });
  assert.equal(boxOf({ item: "17" }), "like item 17");
  assert.equal(boxOf({ words: "red", item: "" }), "red");
});

test("a search sends only what belongs together", () => {
  assert.equal(bodyOf({ words: "  " }), null);
  assert.deepEqual(bodyOf({ words: "red", k: "20", plus: "night", weight: "2" }), { words: "red", k: 20 });
  assert.deepEqual(bodyOf({ item: "0", plus: "night", weight: "0.5" }), { item: 0, plus: "night", weight: 0.5 });
  assert.deepEqual(bodyOf({ words: "red", rerank: "64", shortlist: "100" }), { words: "red" });
  assert.deepEqual(bodyOf({ words: "red", dims: "16", rerank: "64" }), { words: "red", dims: 16, rerank: 64 });
  assert.deepEqual(bodyOf({ plus: "night", where: " a > 1 " }, { picture: true }), { plus: "night", where: "a > 1" });
});

test("categories get their code, none the last colour", () => {
  const { codes, colours } = coded({ kind: "categories", names: ["a", "b"] }, Uint16Array.of(1, 65535, 0), "light", "folder");
  assert.deepEqual([...codes], [1, 2, 0]);
  assert.equal(colours.length, 3);
  assert.equal(colours[0], categoryColour(0, "light"));
});

test("numbers are cut into steps, those outside go to the ends, those missing have a step of their own", () => {
  const { codes, colours } = coded({ kind: "numbers", low: 0, high: 1 }, Float32Array.of(0, 0.5, 1, -3, 7, NaN), "dark", "score");
  assert.deepEqual([...codes], [0, 32, 63, 0, 63, 64]);
  assert.equal(colours.length, 65);
  assert.deepEqual([...coded({ kind: "numbers", low: 2, high: 2 }, Float32Array.of(2), "dark", "score").codes], [0]);
});

test("colours are written as browsers read them", () => {
  assert.equal(hslToHex(0, 1, 0.5), "#ff0000");
  assert.equal(hslToHex(120, 1, 0.5), "#00ff00");
  assert.match(categoryColour(57, "dark"), /^#[0-9a-f]{6}$/);
  assert.deepEqual([ramp("light", 4)[0], ramp("light", 4)[3]], ["#cfc9b4", "#174a6b"]);
});

test("axes have round numbers", () => {
  assert.deepEqual(ticks(0, 100), [0, 25, 50, 75, 100]);
  assert.deepEqual(ticks(0, 0.3), [0, 0.1, 0.2, 0.3]);
  assert.deepEqual(ticks(-0.9, 2.1), [0, 1, 2]);
  assert.deepEqual(ticks(5, 5), [5]);
  assert.deepEqual(powers(0.002, 0.4), [1e-3, 1e-2, 1e-1, 1]);
  assert.equal(powerText(1e-7), "10⁻⁷");
  assert.equal(powerText(0.01), "0.01");
  assert.equal(tickText(2_500_000), "2.5M");
  assert.equal(tickText(40_000), "40k");
});

test("pictures on the map do not cover each other", () => {
  assert.deepEqual(apart([[0, 0], [10, 5], [60, 0], [0, 45]], 50), [0, 2, 3]);
  assert.equal(sizeFor(1, 800, 600), 72);
  assert.equal(sizeFor(100_000, 800, 600), 26);
});
