/** The sliders, made from what the server says one utterance may change (GET /api/settings). */

export const FIRST = ["exaggeration", "cfg_weight", "temperature"]; // the rest is under "More settings"
const TYPED = 10_000; // a range of more values than this is no slider: the seed
const ACRONYMS = { cfg: "CFG" };

export class Settings {
  constructor({ first, more, upstream, reset }) {
    Object.assign(this, { first, more, upstream, reset, knobs: [] });
    reset.addEventListener("click", () => this.toDefaults());
  }

  show(knobs) {
    this.knobs = knobs.map((knob) => new Knob(knob, () => this.changed()));
    const groupOf = ({ name, upstreamOnly }) => (upstreamOnly ? "upstream" : FIRST.includes(name) ? "first" : "more");
    for (const group of ["first", "more", "upstream"]) {
      this[group].replaceChildren(...this.knobs.filter((knob) => groupOf(knob) === group).map(({ row }) => row));
    }
    this.changed();
  }

  /** What differs from the server's own settings, by name. */
  get values() {
    return Object.fromEntries(this.knobs.filter((knob) => knob.isChanged).map((knob) => [knob.name, knob.value]));
  }

  toDefaults() {
    this.knobs.forEach((knob) => knob.set(knob.default));
    this.changed();
    this.first.querySelector("input")?.focus(); // the button that had the focus is gone
  }

  changed() {
    this.reset.hidden = !this.knobs.some((knob) => knob.isChanged);
  }
}

class Knob {
  constructor({ name, help, minimum, maximum, default: initial, unit, kind, upstream_only: upstreamOnly }, changed) {
    Object.assign(this, { name, minimum, maximum, kind, upstreamOnly, default: initial });
    this.row = document.createElement("div");
    this.row.className = "knob";
    const label = document.createElement("label");
    label.htmlFor = `knob-${name}`;
    label.textContent = inWords(name) + (unit ? ` (${unit})` : "");
    const meaning = document.createElement("p");
    meaning.className = "fine";
    meaning.id = `help-${name}`;
    meaning.textContent = help;
    this.inputs = this.makeInputs(label.textContent);
    this.inputs[0].id = label.htmlFor;
    for (const input of this.inputs) {
      input.setAttribute("aria-describedby", meaning.id);
      input.addEventListener("input", () => {
        this.set(this.read(input), input);
        changed();
      });
      input.addEventListener("change", () => this.set(this.value));
    }
    this.row.append(label, ...this.inputs, meaning);
    this.set(initial);
  }

  makeInputs(label) {
    if (this.kind === "bool") {
      this.row.classList.add("switch");
      return [input("checkbox")];
    }
    const range = this.maximum - this.minimum;
    if (!Number.isFinite(range)) return [input("text")];
    const step = this.kind === "int" ? 1 : range <= 0.5 ? 0.01 : 0.05;
    const limits = { min: this.minimum, max: this.maximum, step };
    const exact = input("number", { ...limits, step: this.kind === "int" ? 1 : "any" });
    if (range > TYPED) {
      this.row.classList.add("typed");
      return [exact];
    }
    exact.setAttribute("aria-label", `${label}, exact value`);
    return [input("range", limits), exact];
  }

  read(from) {
    if (this.kind === "bool") return from.checked;
    if (from.type === "text") return from.value;
    // An empty field is the default; one that is out of range is sent: the server says what is allowed.
    return from.value === "" ? this.default : Number(from.value);
  }

  set(value, except = null) {
    this.value = value;
    for (const one of this.inputs) {
      if (one === except) continue;
      if (this.kind === "bool") one.checked = value;
      else one.value = value;
    }
    this.row.classList.toggle("changed", this.isChanged);
  }

  get isChanged() {
    return this.value !== this.default;
  }
}

function input(type, attributes = {}) {
  return Object.assign(document.createElement("input"), { type, ...attributes });
}

/** "cfg_weight" → "CFG weight". */
function inWords(name) {
  const words = name.split("_").map((word) => ACRONYMS[word] ?? word);
  return words[0][0].toUpperCase() + words.join(" ").slice(1);
}
