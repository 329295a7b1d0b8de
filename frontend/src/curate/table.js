// The table of items. Whatever comes from data goes into its cells as text, never as HTML: every formatter makes elements.
import { AjaxModule, FormatModule, FrozenColumnsModule, InteractionModule, PageModule, ResizeColumnsModule, ResizeTableModule, SelectRowModule, SortModule, Tabulator } from "tabulator-tables";
import { get } from "../api.js";
import { keep } from "../items.js";
import { MARKS, mark } from "../marks.js";
import { grouped, short } from "../run.js";
import { complain } from "../toasts.js";

Tabulator.registerModule([AjaxModule, FormatModule, FrozenColumnsModule, InteractionModule, PageModule, ResizeColumnsModule, ResizeTableModule, SelectRowModule, SortModule]);

export const make = (tag, className, text) => {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
};

const asText = (cell) => make("span", "", short(cell.getValue()));
const titled = (text) => ({ title: "", titleFormatter: () => make("span", "", text) });

function picture(cell) {
  const item = cell.getData();
  if (!item.thumbnail) return make("span");
  const image = make("img", "mini");
  image.src = item.thumbnail;
  image.alt = "";
  image.loading = "lazy";
  return image;
}

function title(onOpen) {
  return (cell) => {
    const item = cell.getData();
    const button = make("button", "link", item.thumbnail ? item.title : (item.text ?? item.title).slice(0, 160));
    button.type = "button";
    button.title = item.title;
    button.addEventListener("click", () => onOpen(item.id));
    return button;
  };
}

function markField(cell) {
  const item = cell.getData();
  const field = make("select", item.mark ? `mark ${item.mark.split(" ")[0]}` : "mark");
  field.dataset.testid = "row-mark";
  field.setAttribute("aria-label", `Mark of ${item.title}`);
  for (const name of ["", ...MARKS]) {
    const option = make("option", "", name || "–");
    option.value = name;
    option.selected = (item.mark ?? "") === name;
    field.append(option);
  }
  field.addEventListener("change", () => mark([item.id], { mark: field.value || null }));
  return field;
}

function tagList(cell) {
  const item = cell.getData();
  const list = make("span", "tags");
  for (const tag of item.tags) {
    const chip = make("span", "chip", tag);
    const remove = make("button", "", "×");
    remove.type = "button";
    remove.setAttribute("aria-label", `Remove the tag ${tag}`);
    remove.addEventListener("click", () => mark([item.id], { remove: [tag] }));
    chip.append(remove);
    list.append(chip);
  }
  const field = make("input");
  field.placeholder = "+ tag";
  field.maxLength = 60;
  field.setAttribute("aria-label", `Add a tag to ${item.title}`);
  field.setAttribute("list", "known-tags");
  field.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "Enter" && field.value.trim()) mark([item.id], { add: [field.value.trim()] });
  });
  list.append(field);
  return list;
}

function tick(row, table) {
  const box = make("input");
  box.type = "checkbox";
  box.setAttribute("aria-label", row ? `Select ${row.getData().title}` : "Select all of this page");
  if (row) {
    box.checked = row.isSelected();
    box.addEventListener("change", () => row.toggleSelect());
    box.addEventListener("click", (event) => event.stopPropagation());
  } else {
    box.dataset.testid = "select-page";
    box.addEventListener("change", () => (box.checked ? table.selectRow() : table.deselectRow()));
  }
  return box;
}

/**
 * @param {HTMLElement} element
 * @param {{run, query: () => object, onOpen, onSelect: (ids: number[]) => void, onTotal: (n: number) => void}} wiring
 */
export function makeTable(element, { run, query, onOpen, onSelect, onTotal }) {
  const columns = [
    { ...titled(""), field: "_select", width: 44, headerSort: false, resizable: false, formatter: (cell) => tick(cell.getRow()), titleFormatter: (cell) => tick(null, cell.getTable()) },
    ...(run.thumbnails ? [{ ...titled("Picture"), field: "_picture", width: 84, headerSort: false, formatter: picture }] : []),
    { ...titled("Item"), field: "_title", headerSort: false, minWidth: 180, width: run.thumbnails ? 240 : 420, formatter: title(onOpen) },
    { ...titled("Mark"), field: "mark", width: 136, formatter: markField, headerSortTristate: true },
    { ...titled("Tags"), field: "_tags", minWidth: 190, headerSort: false, formatter: tagList },
    { ...titled("id"), field: "id", width: 84, hozAlign: "right", formatter: (cell) => make("span", "", String(cell.getValue())) },
    // columns go by their number: a name may hold dots and anything else
    ...run.columns.map(({ name, type }, at) => ({ ...titled(name), field: `c${at}`, minWidth: 110, maxInitialWidth: 260, formatter: asText, hozAlign: type === "number" ? "right" : "left" })),
  ];
  const fieldName = (field) => (/^c\d+$/.test(field) ? run.columns[Number(field.slice(1))].name : field);
  const flat = (item) => ({ ...item, ...Object.fromEntries(run.columns.map(({ name }, at) => [`c${at}`, item.columns[name]])) });

  const table = new Tabulator(element, {
    index: "id",
    columns,
    height: "100%",
    rowHeight: run.thumbnails ? 60 : 46,
    layout: "fitDataFill",
    nestedFieldSeparator: false,
    placeholder: () => make("span", "", "No item has passed the filter."),
    pagination: true,
    paginationMode: "remote",
    paginationSize: 50,
    paginationSizeSelector: [50, 100, 200, 500],
    paginationCounter: (size, first, _page, total) =>
      make("span", "", total ? `${grouped(first)} to ${grouped(Math.min(total, first + size - 1))} of ${grouped(total)}` : ""),
    sortMode: "remote",
    selectableRows: "highlight", // by the boxes alone: a click on a field of the row is meant for the field
    ajaxURL: "/api/items",
    dataLoader: false,
    ajaxRequestFunc: async (_url, _config, { page, size, sort }) => {
      const [by] = sort ?? [];
      const found = await get("/api/items", {
        ...query(), offset: (page - 1) * size, limit: size, order: by ? `${by.dir === "desc" ? "-" : ""}${fieldName(by.field)}` : "id",
      });
      keep(found.items);
      onTotal(found.total);
      return { data: found.items.map(flat), last_page: Math.max(1, Math.ceil(found.total / size)), last_row: found.total };
    },
  });
  table.on("dataLoadError", complain);
  table.on("rowSelectionChanged", (data) => {
    for (const row of table.getRows()) {
      const box = row.getElement().querySelector('input[type="checkbox"]');
      if (box) box.checked = row.isSelected();
    }
    const page = element.querySelector('[data-testid="select-page"]');
    if (page) page.checked = data.length > 0 && data.length === table.getRows().length;
    onSelect(data.map((item) => item.id));
  });
  return { table, flat };
}
