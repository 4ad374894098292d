// Puts everything in its place: a part (one task's data and one model) at a time, sections with what they let one choose.

const parts = [...document.querySelectorAll("[data-part]")];
const begun = new Set();

function begin(part) {
  const number = Number(part.dataset.part), data = DATA.parts[number];
  if (begun.has(number)) return;
  begun.add(number);
  for (const section of part.querySelectorAll("section")) {
    const charts = [...section.querySelectorAll("[data-figure]")].map((host) => new Chart(host, data.figures[host.dataset.figure]));
    const field = section.querySelector("select[data-choice]");
    const choose = () => charts.forEach((chart) => chart.choose(field.value));
    if (field) {
      field.addEventListener("change", choose);
      choose(); // a browser may remember another choice than the first
    }
    const map = section.querySelector("[data-heads]");
    if (map) new Heads(map, data.heads);
  }
  for (const table of part.querySelectorAll("table")) cells(table);
}

/** A table is one stop of the Tab key: arrows go from cell to cell among those that show records. */
function cells(table) {
  const runs = (cell) => cell.dataset.runs.split(" ").map(Number);
  const rows = [...table.rows].map((row) => [...row.cells].filter((cell) => cell.dataset.runs)).filter((row) => row.length);
  const all = rows.flat();
  if (!all.length) return;
  all.forEach((cell, i) => (cell.tabIndex = i ? -1 : 0));
  const show = (cell) => card.show(runs(cell), cell.dataset.name ?? "", [], () => cell.getBoundingClientRect());
  const find = (event) => event.target.closest("[data-runs]");
  const go = (cell) => {
    all.forEach((each) => (each.tabIndex = each === cell ? 0 : -1));
    cell.focus();
  };
  table.addEventListener("pointerover", (event) => (find(event) ? show(find(event)) : card.hide()));
  table.addEventListener("pointerleave", () => card.hide());
  table.addEventListener("focusin", (event) => find(event)?.matches(":focus-visible") && show(find(event)));
  table.addEventListener("focusout", () => card.hide());
  table.addEventListener("click", (event) => find(event) && copy(runs(find(event))));
  table.addEventListener("keydown", (event) => {
    const cell = find(event);
    if (!cell) return;
    const y = rows.findIndex((row) => row.includes(cell)), x = rows[y].indexOf(cell);
    const at = (row, column) => rows[row] && rows[row][Math.max(0, Math.min(rows[row].length - 1, column))];
    const next = { ArrowRight: () => rows[y][x + 1], ArrowLeft: () => rows[y][x - 1], ArrowDown: () => at(y + 1, x), ArrowUp: () => at(y - 1, x) }[event.key];
    if (next) {
      event.preventDefault();
      const to = next();
      if (to) go(to);
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      copy(runs(cell));
    }
  });
}

function show(number) {
  parts.forEach((part, i) => (part.hidden = i !== number));
  if (parts[number]) begin(parts[number]);
}

const chooser = document.getElementById("part");
chooser?.addEventListener("change", () => show(Number(chooser.value)));
show(chooser ? Number(chooser.value) : 0);

for (const table of document.querySelectorAll("#failed table, .tiles")) if (table.rows) cells(table);

/** The list of all records is long: it is made when it is opened. */
document.getElementById("all")?.addEventListener("toggle", (event) => {
  if (!event.target.open || event.target.querySelector("table")) return;
  const names = ["run", "method", "heads", "quality", "seed", "signature"];
  const rows = RECORDS.map((record, i) => {
    const texts = [record.name, record.method, record.total ? `${record.kept} of ${record.total}` : record.kept, record.error ? "failed" : shown(record.quality), record.seed];
    const signature = make("td", { "data-runs": i, "data-name": record.name }, make("code", { text: record.signature }));
    return make("tr", {}, ...texts.map((text) => make("td", { text })), signature);
  });
  const head = make("thead", {}, make("tr", {}, ...names.map((text) => make("th", { scope: "col", text }))));
  const table = make("table", {}, head, make("tbody", {}, ...rows));
  event.target.append(make("div", { class: "scroll tall", tabindex: 0 }, table));
  cells(table);
});
