// Figures as SVG, drawn anew for the width there is. One stop of the Tab key each; arrows go from point to point.

const SHAPES = {
  o: (r) => `M${-r},0a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0Z`,
  s: (r) => `M${-r * 0.9},${-r * 0.9}h${r * 1.8}v${r * 1.8}h${-r * 1.8}Z`,
  "^": (r) => `M0,${-r * 1.2}L${r * 1.1},${r * 0.8}H${-r * 1.1}Z`,
  D: (r) => `M0,${-r * 1.25}L${r * 1.25},0L0,${r * 1.25}L${-r * 1.25},0Z`,
  v: (r) => `M0,${r * 1.2}L${r * 1.1},${-r * 0.8}H${-r * 1.1}Z`,
  P: (r) => `M${-r * 0.4},${-r * 1.1}h${r * 0.8}v${r * 0.7}h${r * 0.7}v${r * 0.8}h${-r * 0.7}v${r * 0.7}h${-r * 0.8}v${-r * 0.7}h${-r * 0.7}v${-r * 0.8}h${r * 0.7}Z`,
  X: (r) => `M0,${-r * 0.5}L${r * 0.6},${-r * 1.1}L${r * 1.1},${-r * 0.6}L${r * 0.5},0L${r * 1.1},${r * 0.6}L${r * 0.6},${r * 1.1}L0,${r * 0.5}L${-r * 0.6},${r * 1.1}L${-r * 1.1},${r * 0.6}L${-r * 0.5},0L${-r * 1.1},${-r * 0.6}L${-r * 0.6},${-r * 1.1}Z`,
  "*": (r) => "M" + Array.from({ length: 10 }, (_, i) => {
    const size = i % 2 ? r * 0.6 : r * 1.4, angle = (i * Math.PI) / 5;
    return `${(size * Math.sin(angle)).toFixed(2)},${(-size * Math.cos(angle)).toFixed(2)}`;
  }).join("L") + "Z",
};

function markerOf(line, radius) {
  return SHAPES[line.colour < 0 ? "o" : DATA.markers[line.colour % DATA.markers.length]](radius);
}

/** From data to pixels and the ticks between: linear by 1, 2 and 5, logarithmic by powers of ten, and what fits between. */
function scale(values, pixels, log, room) {
  let low = Math.min(...values), high = Math.max(...values);
  const to = log ? Math.log10 : (value) => value;
  let [start, end] = [to(low), to(high)];
  const whole = !log && values.every(Number.isInteger);
  const about = log ? 0.5 : whole ? 1 : Math.abs(start) * 0.1 || 1;
  if (start === end) [start, end] = [start - about, end + about];
  const margin = (end - start) * 0.05;
  [start, end] = [start - margin, end + margin];
  const at = (value) => pixels[0] + ((to(value) - start) / (end - start)) * (pixels[1] - pixels[0]);
  const count = Math.max(2, Math.floor(Math.abs(pixels[1] - pixels[0]) / room));
  return { at, ticks: log ? powers(start, end, count) : steps(start, end, count, whole) };
}

function steps(start, end, count, whole) {
  const rough = Math.max((end - start) / count, whole ? 1 : 0), power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((each) => each * power >= rough);
  const first = Math.ceil(start / step - 1e-9);
  const ticks = [];
  for (let i = first; i * step <= end + step * 1e-9; i++) ticks.push(Number((i * step).toPrecision(12)));
  return ticks;
}

function powers(start, end, count) {
  const decades = end - start;
  const parts = [[1, 2, 3, 5], [1, 2, 5], [1, 3]].find((each) => decades < 4 && decades * each.length <= count) ?? [1];
  const every = Math.max(1, Math.ceil(decades / count));
  const ticks = [];
  for (let power = Math.floor(start); power <= end; power++) {
    if (power % every === 0) ticks.push(...parts.map((part) => Number(`${part}e${power}`)));
  }
  const seen = ticks.filter((value) => Math.log10(value) >= start && Math.log10(value) <= end);
  return seen.length > 1 ? seen : steps(10 ** start, 10 ** end, count, false); // a stretch as short as from 60 to 90
}

/** A figure in its place on the page; `choice` says which of its lines are shown. */
class Chart {
  constructor(host, figure) {
    this.host = host;
    this.figure = figure;
    this.choice = figure.choices[0] ?? "";
    this.off = new Set();
    this.current = -1;
    this.plot = make("div", {
      class: "plot", tabindex: 0, role: "application", "aria-roledescription": "figure",
      "aria-label": `${figure.title}: ${figure.y} by ${figure.x}. Arrow keys go from point to point; Enter copies the signature.`,
      onkeydown: (event) => this.key(event),
      onpointermove: (event) => this.hover(event),
      onpointerleave: () => this.leave(),
      onclick: (event) => this.click(event),
      onfocus: () => this.plot.matches(":focus-visible") && this.points.length && this.select(Math.max(0, this.current)),
      onblur: () => this.leave(),
    });
    this.legend = make("div", { class: "legend" });
    this.table = make("details", { class: "data", ontoggle: () => this.fillTable() }, make("summary", { text: "Data of this figure" }));
    host.append(this.legend, this.plot, this.table);
    this.width = 0;
    new ResizeObserver(() => requestAnimationFrame(() => this.host.clientWidth !== this.width && this.draw())).observe(host);
    this.draw();
  }

  choose(choice) {
    this.choice = choice;
    this.off.clear();
    this.current = -1;
    this.draw();
  }

  lines() {
    return this.figure.lines.filter((line) => !line.choice || line.choice === this.choice);
  }

  colours() {
    const names = [...new Set(this.lines().filter((line) => line.style === "shade").map((line) => line.name))];
    names.sort((a, b) => parseInt(a) - parseInt(b));
    return (line) => {
      if (line.style !== "shade") return seriesColour(line.colour);
      const share = names.length > 1 ? names.indexOf(line.name) / (names.length - 1) : 1;
      return `color-mix(in oklab, var(--deep) ${Math.round(15 + 85 * share)}%, var(--pale))`;
    };
  }

  draw() {
    this.width = this.host.clientWidth;
    if (!this.width) return; // hidden: drawn when it is shown
    const colour = this.colours();
    this.drawLegend(colour);
    const lines = this.lines().filter((line) => !this.off.has(this.entry(line)));
    const height = Math.round(Math.min(380, Math.max(230, this.width * 0.6)));
    const svg = drawn("svg", { viewBox: `0 0 ${this.width} ${height}`, width: this.width, height, "aria-hidden": true });
    const level = this.figure.level;
    const ys = lines.flatMap((line) => [...line.y, ...(line.low ?? []), ...(line.high ?? [])]).concat(level ? level.y : []);
    const xs = lines.flatMap((line) => line.x);
    this.points = [];
    if (xs.length) {
      const [logX, logY] = ["x", "y"].map((axis) => this.figure.log.includes(axis));
      const y = scale(ys, [height - 46, 12], logY, 42);
      const labels = y.ticks.map((tick) => shown(tick));
      const left = 28 + Math.max(...labels.map((label) => label.length)) * 6.6;
      const x = scale(xs, [left, this.width - 12], logX, 56);
      this.frame = { left, right: this.width - 12, top: 12, bottom: height - 46 };
      this.axes(svg, x, y, labels, height);
      if (level) this.level(svg, y);
      for (const line of lines) this.line(svg, line, x, y, colour(line));
      if (level) this.points.push({ name: level.name, px: this.frame.right, py: y.at(level.y[0]), x: null, y: level.y[0], runs: level.runs });
    } else {
      const text = drawn("text", { x: this.width / 2, y: height / 2, "text-anchor": "middle", class: "none" });
      text.textContent = this.lines().length ? "All lines are switched off." : `No run has this (${this.choice}).`;
      svg.append(text);
    }
    this.ring = drawn("circle", { class: "ring", r: 9, visibility: "hidden" });
    svg.append(this.ring);
    this.plot.replaceChildren(svg);
  }

  drawLegend(colour) {
    const seen = new Map(this.lines().filter((line) => this.entry(line) === line.name).map((line) => [line.name, line]));
    const many = seen.size > 1;
    this.legend.replaceChildren(...[...seen.values()].map((line) => {
      const mark = drawn("svg", { viewBox: "-13 -7 26 14", width: 26, height: 14, "aria-hidden": true });
      if (line.style !== "points") {
        mark.append(drawn("line", { x1: -12, x2: 12, stroke: colour(line), "stroke-width": 2, "stroke-dasharray": /dashed|front/.test(line.style) ? "4 3" : null }));
      }
      if (!/front|shade/.test(line.style)) mark.append(drawn("path", { d: markerOf(line, 4.5), fill: line.style === "dashed" ? "var(--card)" : colour(line), stroke: colour(line), "stroke-width": 1.3 }));
      const label = make("span", { text: line.name });
      if (!many) return make("span", { class: "entry" }, mark, label);
      return make("button", {
        type: "button", class: "entry", "aria-pressed": String(!this.off.has(line.name)), title: "Show or hide",
        onclick: (event) => this.toggle(line.name, event),
      }, mark, label);
    }));
  }

  /** Under which name a line stands in the legend: what is predicted stands with what was measured. */
  entry(line) {
    const own = line.style === "dashed" && this.lines().find((other) => other.style === "line" && other.colour === line.colour);
    return own ? own.name : line.name;
  }

  toggle(name, event) {
    this.off.has(name) ? this.off.delete(name) : this.off.add(name);
    this.current = -1;
    this.draw();
    if (event.detail === 0) [...this.legend.children].find((entry) => entry.textContent === name)?.focus();
  }

  axes(svg, x, y, labels, height) {
    const { left, right, top, bottom } = this.frame;
    y.ticks.forEach((tick, i) => {
      svg.append(drawn("line", { class: "grid", x1: left, x2: right, y1: y.at(tick), y2: y.at(tick) }));
      svg.append(drawn("text", { class: "tick", x: left - 6, y: y.at(tick) + 4, "text-anchor": "end", text: labels[i] }));
    });
    for (const tick of x.ticks) {
      svg.append(drawn("line", { class: "grid", x1: x.at(tick), x2: x.at(tick), y1: top, y2: bottom }));
      svg.append(drawn("text", { class: "tick", x: x.at(tick), y: bottom + 17, "text-anchor": "middle", text: shown(tick) }));
    }
    svg.append(drawn("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }));
    svg.append(drawn("text", { class: "label", x: (left + right) / 2, y: height - 8, "text-anchor": "middle", text: this.figure.x }));
    svg.append(drawn("text", { class: "label", transform: `translate(12 ${(top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle", text: this.figure.y }));
  }

  level(svg, y) {
    const { left, right } = this.frame, level = this.figure.level, at = y.at(level.y[0]);
    svg.append(drawn("line", { class: "level", x1: left, x2: right, y1: at, y2: at }));
    svg.append(drawn("text", { class: "tick", x: right, y: at - 5, "text-anchor": "end", text: `${level.name} ${shown(level.y[0])}` }));
  }

  line(svg, line, x, y, colour) {
    const at = line.x.map((value, i) => [x.at(value), y.at(line.y[i])]);
    const own = drawn("g", { "data-line": line.name });
    const joined = /line|dashed|front|shade/.test(line.style);
    if (line.low && joined) {
      const up = line.high.map((value, i) => `${at[i][0]},${y.at(value)}`), down = line.low.map((value, i) => `${at[i][0]},${y.at(value)}`);
      own.append(drawn("path", { d: `M${up.join("L")}L${down.reverse().join("L")}Z`, fill: colour, opacity: 0.16 }));
    }
    if (line.low) line.low.forEach((low, i) => own.append(drawn("line", { class: "bar", x1: at[i][0], x2: at[i][0], y1: y.at(low), y2: y.at(line.high[i]), stroke: colour })));
    if (joined && at.length > 1) {
      own.append(drawn("path", { d: `M${at.map((each) => each.join(",")).join("L")}`, class: "path", stroke: colour, "stroke-dasharray": /dashed|front/.test(line.style) ? "5 4" : null, "stroke-width": line.style === "line" || line.style === "shade" ? 2 : 1.3 }));
    }
    const dense = at.length * this.lines().length > 400 && line.style === "line" && at.length > 1;
    at.forEach(([px, py], i) => {
      const runs = Array.isArray(line.runs[0]) ? line.runs[i] : line.runs;
      if (line.style === "front") return;
      if (!dense && (line.style !== "shade" || at.length === 1)) own.append(drawn("path", { class: "mark", d: markerOf(line, 4.5), transform: `translate(${px.toFixed(1)} ${py.toFixed(1)})`, fill: line.style === "dashed" ? "var(--card)" : colour, stroke: colour }));
      (line.each?.[i] ?? []).forEach((value, j) => {
        own.append(drawn("circle", { class: "dot", cx: px, cy: y.at(value), r: 2, fill: colour }));
        this.points.push({ name: line.name, px, py: y.at(value), x: line.x[i], y: value, runs: [runs[j]], single: true });
      });
      this.points.push({ name: line.name, px, py, x: line.x[i], y: line.y[i], low: line.low?.[i], high: line.high?.[i], runs });
    });
    svg.append(own);
  }

  select(index) {
    this.current = index;
    const point = this.points[index];
    if (!point) return this.leave();
    this.ring.setAttribute("cx", point.px);
    this.ring.setAttribute("cy", point.py);
    this.ring.setAttribute("visibility", "visible");
    const several = point.runs.length > 1 ? `mean of ${point.runs.length}, ` : "";
    const facts = [[this.figure.y, `${several}${shown(point.y)}`]];
    if (point.low !== undefined && point.low !== point.high) facts.push(["spread", `${shown(point.low)} to ${shown(point.high)}`]);
    if (point.x !== null) facts.push([this.figure.x, shown(point.x)]);
    card.show(point.runs, point.name, facts, () => {
      const box = this.plot.getBoundingClientRect();
      return { left: box.left + point.px - 6, right: box.left + point.px + 6, top: box.top + point.py };
    });
  }

  leave() {
    this.ring?.setAttribute("visibility", "hidden");
    card.hide();
  }

  nearest(event) {
    const box = this.plot.getBoundingClientRect();
    const [px, py] = [event.clientX - box.left, event.clientY - box.top];
    let best = -1, least = event.pointerType === "touch" ? 40 ** 2 : 26 ** 2;
    this.points.forEach((point, i) => {
      // Where a mean and one of its runs are equally near, the mean is meant.
      const distance = (point.px - px) ** 2 + (point.py - py) ** 2 + (point.single ? 16 : 0);
      if (distance < least) [best, least] = [i, distance];
    });
    return best;
  }

  hover(event) {
    const found = this.nearest(event);
    this.plot.classList.toggle("over", found >= 0);
    if (found >= 0) this.select(found);
    else this.leave();
  }

  click(event) {
    const found = this.nearest(event);
    if (found < 0) return;
    this.select(found);
    copy(this.points[found].runs);
  }

  /** Left and right: along a line; up and down: to the next line. Single seeds are passed over: the mean shows them. */
  key(event) {
    const stops = this.points.map((point, i) => i).filter((i) => !this.points[i].single);
    if (!stops.length) return;
    const here = this.points[this.current] ?? this.points[stops[0]];
    const line = stops.filter((i) => this.points[i].name === here.name);
    const names = [...new Set(stops.map((i) => this.points[i].name))];
    const move = (step) => line[Math.min(line.length - 1, Math.max(0, line.indexOf(this.current) + step))];
    const other = (step) => {
      const name = names[(names.indexOf(here.name) + step + names.length) % names.length];
      const near = stops.filter((i) => this.points[i].name === name);
      return near.reduce((a, b) => (Math.abs(this.points[a].px - here.px) <= Math.abs(this.points[b].px - here.px) ? a : b));
    };
    const moves = { ArrowRight: () => move(1), ArrowLeft: () => move(-1), ArrowDown: () => other(1), ArrowUp: () => other(-1), Home: () => line[0], End: () => line.at(-1) };
    if (moves[event.key]) {
      event.preventDefault();
      this.select(moves[event.key]());
    } else if ((event.key === "Enter" || event.key === " ") && this.points[this.current]) {
      event.preventDefault();
      copy(this.points[this.current].runs);
    }
  }

  fillTable() {
    this.table.querySelector(".scroll")?.remove();
    if (!this.table.open) return;
    const head = make("tr", {}, ...["line", this.figure.x, this.figure.y, "low", "high"].map((text) => make("th", { scope: "col", text })));
    const rows = this.lines().flatMap((line) => line.x.map((x, i) => {
      const cells = [line.name, shown(x), shown(line.y[i]), line.low ? shown(line.low[i]) : "", line.high ? shown(line.high[i]) : ""];
      return make("tr", {}, ...cells.map((text) => make("td", { text })));
    }));
    this.table.append(make("div", { class: "scroll", tabindex: 0 }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows))));
  }
}
