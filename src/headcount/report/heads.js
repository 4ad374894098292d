// The map of surviving heads: layer by head for one budget, which steps; and layer by budget, all of them at once.

class Heads {
  constructor(host, data) {
    this.data = data;
    const names = [...new Set(data.runs.map((run) => run.series))];
    this.series = this.select("Method", names, () => this.seeds());
    this.seed = this.select("Seed", [], () => this.load());
    this.slider = make("input", { type: "range", min: 0, step: 1, "aria-label": "Heads kept", oninput: () => this.step(Number(this.slider.value)) });
    this.fewer = make("button", { type: "button", text: "◀ fewer", "data-step": "fewer", onclick: () => this.step(this.at - 1) });
    this.more = make("button", { type: "button", text: "more ▶", "data-step": "more", onclick: () => this.step(this.at + 1) });
    this.said = make("output", { class: "said", "aria-live": "polite" });
    this.map = make("div", {
      class: "map", tabindex: 0, role: "application", "aria-roledescription": "map of heads",
      "aria-label": "Surviving heads. Left and right arrows step over budgets; Enter copies the signature.",
      onkeydown: (event) => this.key(event), onclick: () => this.run && copy([this.run.run]),
      onfocus: () => this.map.matches(":focus-visible") && this.show(this.map), onblur: () => card.hide(),
      onpointerover: (event) => this.hover(event), onpointerleave: () => card.hide(),
    });
    this.overview = make("div", { class: "overview" });
    const step = make("div", { class: "step" }, this.fewer, this.slider, this.more);
    host.append(make("div", { class: "controls" }, this.series.label, this.seed.label, step), this.said, make("div", { class: "both" }, this.map, this.overview));
    this.seeds();
  }

  select(name, options, change) {
    const field = make("select", { onchange: change }, ...options.map((text) => make("option", { text })));
    return { field, label: make("label", {}, make("span", { text: name }), field) };
  }

  seeds() {
    const mine = this.data.runs.filter((run) => run.series === this.series.field.value);
    this.seed.field.replaceChildren(...[...new Set(mine.map((run) => run.seed))].map((text) => make("option", { text })));
    this.load();
  }

  /** The budgets of the chosen method and seed, ascending; where two runs have one budget, the first. */
  load() {
    const budgets = new Map();
    for (const run of this.data.runs) {
      const mine = run.series === this.series.field.value && run.seed === this.seed.field.value;
      if (mine && !budgets.has(run.kept)) budgets.set(run.kept, run);
    }
    this.budgets = [...budgets.values()].sort((a, b) => a.kept - b.kept);
    this.slider.max = this.budgets.length - 1;
    this.kinds = [...new Set(this.data.layers.map((layer) => layer.kind))].map((kind) => {
      const layers = this.data.layers.map((layer, number) => ({ ...layer, number })).filter((layer) => layer.kind === kind);
      // One by one: a function takes only so many arguments, and a thousand runs have more heads than that.
      const last = this.data.runs.reduce((most, run) => layers.reduce((sofar, layer) => Math.max(sofar, ...run.subset[layer.number]), most), -1);
      return { kind, layers, most: Math.max(1, ...layers.map((layer) => layer.heads ?? last + 1)), last };
    });
    this.drawOverview();
    this.step(this.budgets.length - 1);
  }

  step(to) {
    if (to < 0 || to >= this.budgets.length) return;
    this.at = to;
    this.run = this.budgets[to];
    this.slider.value = to;
    const record = RECORDS[this.run.run];
    const total = this.data.layers.every((layer) => layer.heads) ? this.data.layers.reduce((sum, layer) => sum + layer.heads, 0) : null;
    const text = total ? `${this.run.kept} of ${total} heads` : `${this.run.kept} heads`;
    this.slider.setAttribute("aria-valuetext", text);
    this.said.replaceChildren(make("strong", { text }), make("span", { text: ` ${record.heads} · quality ${shown(record.quality)}` }));
    this.fewer.disabled = to === 0;
    this.more.disabled = to === this.budgets.length - 1;
    this.map.replaceChildren(...this.kinds.map((kind) => this.drawKind(kind)));
    for (const cell of this.overview.querySelectorAll("[data-at]")) cell.classList.toggle("here", Number(cell.dataset.at) === to);
  }

  drawKind({ kind, layers, most, last }) {
    const grid = make("div", { class: "grid" });
    grid.style.setProperty("--columns", most);
    for (const layer of layers) {
      const kept = new Set(this.run.subset[layer.number]);
      grid.append(make("span", { class: "layer", text: layer.layer }));
      for (let head = 0; head < most; head++) {
        const there = head < (layer.heads ?? last + 1);
        const state = !there ? "none" : kept.has(head) ? "kept" : layer.heads === null ? "unknown" : "gone";
        grid.append(make("span", { class: `head ${state}`, "data-layer": layer.number, "data-head": head }));
      }
    }
    const count = layers.reduce((sum, layer) => sum + this.run.subset[layer.number].length, 0);
    return make("div", { class: "kind" }, make("h4", { text: `${kind}: ${count}` }), grid);
  }

  drawOverview() {
    this.overview.replaceChildren(...this.kinds.map(({ kind, layers, most }) => {
      const head = this.budgets.map((run, at) => make("th", { scope: "col", "data-at": at }, make("button", { type: "button", text: run.kept, title: `Step to ${run.kept} heads`, onclick: () => this.step(at) })));
      const rows = layers.map((layer) => {
        const cells = this.budgets.map((run, at) => {
          const count = run.subset[layer.number].length;
          const cell = make("td", { text: count || "·", "data-at": at, class: count / most > 0.85 ? "deep dark" : count / most > 0.55 ? "dark" : null });
          cell.style.setProperty("--share", `${Math.round((100 * count) / most)}%`);
          return cell;
        });
        return make("tr", {}, make("th", { scope: "row", text: layer.layer, title: layer.name }), ...cells);
      });
      const caption = make("caption", { text: `${kind}: heads by layer and budget` });
      const table = make("table", { class: "heat" }, caption, make("thead", {}, make("tr", {}, make("th", { text: "layer" }), ...head)), make("tbody", {}, ...rows));
      return make("div", { class: "scroll", tabindex: 0 }, table);
    }));
  }

  key(event) {
    const moves = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 };
    const jumps = { Home: 0, End: this.budgets.length - 1 };
    if (event.key in moves) this.step(this.at + moves[event.key]);
    else if (event.key in jumps) this.step(jumps[event.key]);
    else if (event.key === "Enter" || event.key === " ") copy([this.run.run]);
    else return;
    event.preventDefault();
    if (event.key in moves || event.key in jumps) this.show(this.map);
  }

  show(near, facts = []) {
    card.show([this.run.run], this.run.series, facts, () => near.getBoundingClientRect());
  }

  hover(event) {
    const { layer, head } = event.target.dataset;
    if (layer === undefined || event.target.classList.contains("none")) return card.hide();
    const there = this.budgets.filter((run) => run.subset[layer].includes(Number(head))).map((run) => run.kept);
    const site = this.data.layers[layer];
    this.show(event.target, [
      ["head", `${head} of ${site.kind} layer ${site.layer}`],
      ["kept at", there.length ? there.join(", ") : "no budget"],
    ]);
  }
}
