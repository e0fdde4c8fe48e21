/** The pickers of voice and model. */

const ALL = "";

export class Voices {
  constructor({ voice, model, changed }) {
    Object.assign(this, { voice, model, voices: [] });
    model.addEventListener("change", () => {
      this.fill();
      changed();
    });
    voice.addEventListener("change", changed);
  }

  /** @param {object[]} voices as the server lists them @param {string} [choose] the voice to choose, if it is there */
  show(voices, choose = this.voice.value) {
    this.voices = voices;
    const models = [...new Set(voices.map((voice) => voice.model))];
    const before = this.model.value;
    const all = models.length > 1 ? [option(ALL, "Every model")] : [];
    this.model.replaceChildren(...all, ...models.map((name) => option(name, name)));
    if (models.includes(before)) this.model.value = before;
    this.fill(choose);
  }

  fill(choose = this.voice.value) {
    const offered = this.voices.filter((voice) => !this.model.value || voice.model === this.model.value);
    this.voice.replaceChildren(...offered.map((voice) => option(voice.name, describe(voice))));
    const wanted = offered.find(({ name }) => name === choose) ?? offered.find((voice) => voice.default) ?? offered[0];
    if (wanted) this.voice.value = wanted.name;
  }

  /** The chosen voice, undefined where there is none. */
  get chosen() {
    return this.voices.find(({ name }) => name === this.voice.value);
  }
}

function describe({ name, description }) {
  if (!description) return name;
  return description.toLowerCase().includes(name.toLowerCase()) ? description : `${name}: ${description}`;
}

function option(value, text) {
  const element = document.createElement("option");
  element.value = value;
  element.textContent = text;
  return element;
}
