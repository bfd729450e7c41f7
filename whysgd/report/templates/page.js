
"use strict";
// What the page can do beyond being read: sort and filter the table of all runs, and show what is behind a number.
// Text from the results enters as text nodes and attributes only, never as markup.

const data = JSON.parse(document.getElementById("data").textContent);

/** An element with children and those attributes that are not undefined. */
function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "g", "path", "line", "circle", "text", "title"].includes(tag);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== undefined) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const shown = (value) => (value === null || value === undefined ? "–" : String(value));
const time = (value) => shown(value).replace("T", " ").replace("+00:00", " UTC");
const percent = (value) => (value === null ? "–" : value.toFixed(2));

// Every number with a run behind it becomes a button. In the table of all runs the Tab key stops at names of runs only:
// they show all of their numbers.
for (const cell of document.querySelectorAll("[data-run]")) {
  if (!Object.hasOwn(data.runs, cell.dataset.run)) continue;
  const button = make("button", { type: "button", "aria-haspopup": "dialog" }, ...cell.childNodes);
  if (cell.tagName === "TD" && cell.closest("#measures")) button.tabIndex = -1;
  cell.append(button);
}

for (const element of document.querySelectorAll(".scripted")) element.hidden = false;

// A tap on a figure shows it in its full size, another one closes it.
const large = document.getElementById("figure");
for (const image of document.querySelectorAll("figure img")) {
  image.addEventListener("click", () => {
    large.replaceChildren(make("img", { src: image.src, alt: image.alt }));
    large.showModal();
  });
}
large.addEventListener("click", () => large.close());

// --- The table of all runs: sorting and filtering ---------------------------------------------------------------

/** What a cell is sorted by: its first number, or its text in a column without numbers; null comes last. */
function sortKey(cell, numeric) {
  const text = cell.textContent.trim();
  if (!numeric) return text === "–" || text === "" ? null : text;
  const number = parseFloat(text.replace("inf", "Infinity"));
  return Number.isNaN(number) ? null : number;
}

function sortRows(table, head) {
  const ascending = head.getAttribute("aria-sort") !== "ascending";
  for (const other of table.tHead.querySelectorAll("[aria-sort]")) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  const numeric = head.classList.contains("right");
  const rows = [...table.tBodies[0].rows].map((row) => [sortKey(row.cells[head.cellIndex], numeric), row]);
  rows.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    const order = numeric ? (a > b) - (a < b) : a.localeCompare(b, "en", { numeric: true });
    return ascending ? order : -order;
  });
  table.tBodies[0].append(...rows.map(([, row]) => row));
}

function filterRows(table, form) {
  const words = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
  const heads = [...table.tHead.rows].at(-1).cells;
  const columns = Object.fromEntries([...heads].map((head, place) => [head.textContent, place]));
  const wanted = [...form.querySelectorAll("select")].filter((select) => select.value);
  const named = ["run", "dataset", "model"].filter((name) => name in columns);
  let count = 0;
  for (const row of table.tBodies[0].rows) {
    const text = (name) => row.cells[columns[name]].textContent;
    const names = named.map(text).join(" ").toLowerCase();
    const fits = ({ name, value }) => (name === "run" ? text(name).split("/")[0] : text(name)) === value;
    row.hidden = !(words.every((word) => names.includes(word)) && wanted.every(fits));
    count += !row.hidden;
  }
  const all = table.tBodies[0].rows.length;
  form.querySelector("output").value = count === all ? `${all} runs` : `${count} of ${all} runs`;
}

const everyRun = document.querySelector("#measures .tall table");
if (everyRun) {
  for (const head of [...everyRun.tHead.rows].at(-1).cells) {
    head.append(make("button", { type: "button" }, ...head.childNodes));
    head.firstChild.addEventListener("click", () => sortRows(everyRun, head));
  }
  const form = document.querySelector("#measures form");
  for (const kind of ["input", "change"]) form.addEventListener(kind, () => filterRows(everyRun, form));
  form.addEventListener("submit", (event) => event.preventDefault());
  filterRows(everyRun, form); // what a browser kept of a form when the page is loaded again
}

// --- What is behind a number ------------------------------------------------------------------------------------

/** A table; `marked` is the column or row, by its head, that was asked for. */
function tableOf(heads, rows, marked, kind) {
  const look = (...names) => ({ class: names.includes(marked) ? "marked" : undefined });
  const head = heads.map((name) => make("th", { scope: "col", ...look(name) }, name));
  const lines = rows.map(([name, ...values]) => make("tr", {},
    make("th", { scope: "row", ...look(name, heads[0]) }, name),
    ...values.map((value, place) => make("td", look(name, heads[place + 1]), value))));
  const table = make("table", { class: kind }, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...lines));
  return make("div", { class: "scroll" }, table);
}

/** Keys with their values; where seeds differ in one, each value with its seeds. `atPaper`: what the scale changes. */
function factsTable(seeds, entryOf, atPaper = {}) {
  const changed = Object.keys(atPaper);
  const all = [...new Set([...changed, ...seeds.flatMap((seed) => Object.keys(entryOf(seed)))])];
  // A setting that has parts at the scale paper alone is told part by part.
  const keys = all.filter((key) => !changed.some((part) => part.startsWith(`${key}.`)));
  const rows = keys.map((key) => {
    const values = new Map();
    for (const seed of seeds) {
      const value = shown(entryOf(seed)[key]);
      values.set(value, [...(values.get(value) ?? []), seed.seed]);
    }
    const parts = [...values].map(([value, some]) => (values.size > 1 ? `${value} (seed ${some.join(", ")})` : value));
    return changed.length ? [key, parts.join("; "), atPaper[key] ?? ""] : [key, parts.join("; ")];
  });
  return tableOf(["key", "value", ...(changed.length ? ["at the scale paper, where it differs"] : [])], rows, null, "facts");
}

/** Round numbers, about four, that span the range. */
function ticks(low, high) {
  const rough = (high - low) / 4 || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, place) => (first + place) * step);
}

/** Test and training accuracy over steps, a line for each seed. */
function chart(seeds) {
  const lines = seeds.flatMap(({ seed, history: [steps, training, test] }) =>
    Object.entries({ training, test }).map(([kind, values]) => {
      const points = steps.map((step, place) => [step, values[place]]).filter(([, value]) => typeof value === "number");
      return { kind, points, title: `seed ${seed}, ${kind} accuracy` };
    }));
  const all = lines.flatMap(({ points }) => points);
  if (!all.length) return make("p", { class: "setting" }, "No accuracy was recorded during training.");
  const [width, height, left, bottom, margin] = [Math.min(704, innerWidth - 60), 280, 48, 40, 12];
  const last = Math.max(...all.map(([step]) => step));
  const values = all.map(([, value]) => value);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const [y0, y1] = [Math.max(0, low - 0.05 * (high - low) - 0.5), Math.min(100.5, high + 0.05 * (high - low) + 0.5)];
  const x = (step) => left + (step / (last || 1)) * (width - left - margin);
  const y = (value) => height - bottom - ((value - y0) / (y1 - y0)) * (height - bottom - margin);
  const drawn = lines.map(({ kind, points, title }) => {
    if (points.length === 1) {
      return make("circle", { class: `dot ${kind}`, cx: x(points[0][0]), cy: y(points[0][1]), r: 4 }, make("title", {}, title));
    }
    const path = points.map(([step, value], place) => `${place ? "L" : "M"}${x(step).toFixed(1)} ${y(value).toFixed(1)}`);
    return make("path", { class: kind, d: path.join("") }, make("title", {}, title));
  });
  const across = ticks(y0, y1).flatMap((value) => [
    make("line", { class: "grid", x1: left, x2: width - margin, y1: y(value), y2: y(value) }),
    make("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, String(Number(value.toPrecision(6)))),
  ]);
  const along = ticks(0, last).filter(Number.isInteger).map((step) =>
    make("text", { x: x(step), y: height - bottom + 18, "text-anchor": "middle" }, step.toLocaleString("en")));
  const axis = make("text", { x: (left + width) / 2, y: height - 4, "text-anchor": "middle" }, "steps");
  const label = `Accuracy over ${last.toLocaleString("en")} steps: test accuracy ends at ${seeds.map((seed) => percent(seed.last)).join(", ")} %`;
  const picture = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, ...across, ...along, axis, ...drawn);
  const caption = "Accuracy in percent over steps: test (full line) and training (dashed), a line for each seed.";
  return make("figure", {}, picture, make("figcaption", {}, caption));
}

function seedsTable(seeds, quantity) {
  const heads = {
    "seed": (seed) => make("a", { href: seed.file, "aria-label": `seed ${seed.seed}, file` }, seed.seed),
    "status": (seed) => seed.status,
    "steps": (seed) => seed.steps.toLocaleString("en"),
    "test accuracy, last step": (seed) => percent(seed.last),
    "test accuracy, selected step": (seed) => `${percent(seed.selected)} (step ${seed.selected_step.toLocaleString("en")})`,
    "training accuracy": (seed) => percent(seed.train),
    "ended": (seed) => time(seed.ended),
  };
  const marked = { test_accuracy: "test accuracy, last step", best_test_accuracy: "test accuracy, selected step" }[quantity];
  const rows = seeds.map((seed) => Object.values(heads).map((value) => value(seed)));
  const on = { validation: "the held-out images", test: "the test images" }[seeds[0].selected_on] ?? seeds[0].selected_on;
  const note = make("p", { class: "setting" }, `Accuracies in percent; the step was selected on ${on}. A seed leads to its file.`);
  return [tableOf(Object.keys(heads), rows, marked), note];
}

function measuresTable(every, quantity) {
  const seeds = every.filter((seed) => seed.measures.some(Boolean));
  const cell = ([value, error]) => (error ? `${shown(value)} ± ${error}` : shown(value));
  const numbers = Object.values(data.quantities).map((title, place) => [title, seeds.map((seed) => seed.measures[place])]);
  const rows = numbers.filter(([, all]) => all.some(Boolean)).map(([title, all]) => [title, ...all.map((one) => cell(one ?? [null]))]);
  if (!rows.length) return [];
  const heads = ["measure", ...seeds.map((seed) => `seed ${seed.seed}`)];
  const note = make("p", { class: "setting" }, "± is the standard error of measuring one network.");
  return [make("h3", {}, "Measures of the trained networks"), tableOf(heads, rows, data.quantities[quantity]), note];
}

const dialog = document.getElementById("run");

/** Show a run; `cell` is the one that was clicked, if any. */
function openRun(name, cell = null) {
  const seeds = data.runs[name];
  const quantity = cell?.dataset.quantity;
  const close = make("button", { type: "button" }, "Close");
  close.addEventListener("click", () => dialog.close());
  const factsOf = ({ facts, spec_digest, weights_sha256 }) => ({ ...data.facts[facts], spec_digest, weights_sha256 });
  dialog.replaceChildren(
    make("header", {}, make("h2", { id: "run-title" }, name), close),
    quantity ? make("p", {}, `${cell.closest(".scroll").ariaLabel}: ${cell.textContent}`) : "",
    chart(seeds),
    make("h3", {}, "Seeds"),
    ...seedsTable(seeds, quantity),
    ...measuresTable(seeds, quantity),
    make("h3", {}, "Settings"),
    factsTable(seeds, (seed) => data.settings[seed.settings], data.at_paper[name]),
    make("h3", {}, "Data, code, versions and device"),
    factsTable(seeds, factsOf),
  );
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  history.replaceState(null, "", `#run=${name}`);
}

function openFromAddress() {
  const [, name] = location.hash.match(/^#run=(.*)/) ?? [];
  if (name && Object.hasOwn(data.runs, name)) openRun(name); // names have no letters that an address writes otherwise
}

document.addEventListener("click", (event) => {
  const cell = event.target.closest("[data-run]");
  if (cell && event.target.closest("button")) openRun(cell.dataset.run, cell);
  if (event.target === dialog) dialog.close(); // beside it
});
// Without a name in the address a reload shows the page again.
dialog.addEventListener("close", () => history.replaceState(null, "", location.pathname + location.search));
addEventListener("hashchange", openFromAddress);
openFromAddress();
