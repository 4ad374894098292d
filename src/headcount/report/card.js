// What every part shares: the data, elements, numbers as text, and the card that shows records and copies signatures.

const DATA = JSON.parse(document.getElementById("data").textContent);
const RECORDS = DATA.records;

/** An HTML element with attributes, properties ("text", "on…") and children; text is always text, never HTML. */
function make(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

function drawn(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** A number in few digits: 0.709, 88.8, 1,377, 1e-8. */
function shown(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e7)) return value.toExponential(2).replace(/\.?0+e\+?/, "e");
  return Number(value.toPrecision(Math.max(digits, size >= 1 ? Math.floor(Math.log10(size)) + 1 : 0))).toLocaleString("en");
}

function seriesColour(number) {
  return number < 0 ? "var(--ink)" : `var(--c${number % DATA.palette.length})`;
}

const card = {
  element: document.getElementById("card"),

  /** Show runs beside a rectangle of the window, which `near` gives; `facts` are [name, text] of the place itself. */
  show(runs, heading, facts, near) {
    const rows = facts.map(([name, text]) => make("div", { class: "fact" }, make("dt", { text: name }), make("dd", { text })));
    this.element.replaceChildren(make("p", { class: "heading", text: heading }), make("dl", {}, ...rows));
    if (runs.length === 1) this.element.append(...this.one(RECORDS[runs[0]]));
    else if (runs.length) this.element.append(this.several(runs));
    if (runs.length) {
      this.element.append(make("p", { class: "hint", text: `Click or Enter copies the signature${runs.length > 1 ? "s" : ""}.` }));
    }
    this.element.hidden = false;
    this.near = near;
    this.place();
  },

  one(record) {
    const facts = [
      ["run", record.name],
      ["method", record.method],
      ["seed", record.seed],
      ["kept", record.total ? `${record.kept} of ${record.total} heads` : `${record.kept} heads`],
      ...Object.entries(record.metrics).map(([name, value]) => [name, shown(value, 5)]),
      ["speed-up", record.speedup === null ? null : `${shown(record.speedup)} ×`],
      ["per layer", record.heads],
      ["error", record.error],
    ].filter(([, value]) => value !== null && value !== undefined && value !== "");
    const rows = facts.map(([name, value]) => make("div", { class: "fact" }, make("dt", { text: name }), make("dd", { text: value })));
    return [make("dl", {}, ...rows), make("code", { text: record.signature })];
  },

  several(runs) {
    const items = runs.slice(0, 8).map((run) => {
      const record = RECORDS[run];
      return make("li", { text: `${record.name || record.method}, seed ${record.seed}: ${shown(record.quality)} · ${record.heads}` });
    });
    if (runs.length > 8) items.push(make("li", { text: `and ${runs.length - 8} more` }));
    return make("ul", {}, ...items);
  },

  /** Beside the rectangle, where there is room; on a narrow screen the style puts it at the bottom. */
  place() {
    const near = this.near();
    const own = this.element.getBoundingClientRect();
    let left = near.right + 14;
    if (left + own.width > innerWidth - 8) left = near.left - own.width - 14;
    const top = Math.min(Math.max(8, near.top - own.height / 2), innerHeight - own.height - 8);
    this.element.style.setProperty("--left", `${Math.max(8, left)}px`);
    this.element.style.setProperty("--top", `${Math.max(8, top)}px`);
  },

  hide() {
    this.element.hidden = true;
  },
};

/** Copy the runs' signatures, and say so. */
async function copy(runs) {
  const text = runs.map((run) => RECORDS[run].signature || RECORDS[run].name).join("\n");
  let done = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    done = copyByHand(text); // no permission, or a page that is not served safely
  }
  const toast = document.getElementById("toast");
  const what = runs.length > 1 ? `${runs.length} signatures` : "Signature";
  toast.textContent = done ? `${what} copied.` : "The browser does not let this page copy.";
  toast.hidden = false;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => (toast.hidden = true), 1800);
}

function copyByHand(text) {
  const focused = document.activeElement;
  const field = make("textarea", { readonly: true, class: "aside" });
  field.value = text;
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  focused?.focus({ preventScroll: true });
  return done;
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") card.hide();
});

// A scroll takes what the pointer was on from under it; what has the keyboard's focus stays what it is.
addEventListener("scroll", () => {
  if (card.element.hidden) return;
  if (document.activeElement?.matches("main :focus-visible")) card.place();
  else card.hide();
}, { passive: true });
