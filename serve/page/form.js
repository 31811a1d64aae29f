// The form: what is wanted, in the words of the jobs API. What was set survives a reload, apart for each model.

import { byId, make } from "./elements.js";
import { Memory } from "./memory.js";
import { ACTIONS, ACTION_OF_TASK, defaultsOf, hintOf, modelsFor, samplerLabel } from "./models.js";
import { clearMistake } from "./notices.js";

const memory = new Memory("localStorage", "sd2rt.form");
const OF_MODEL = ["width", "height", "steps", "guidance_scale", "sampler", "strength", "noise_level"];
const OF_ALL = ["prompt", "negative_prompt", "seed", "n", "paste", "invert", "mask_blur", "previews"];
const SLIDERS = ["strength", "noise_level", "steps", "guidance_scale"];
const PREVIEWS = 12; // of one run
const LARGEST_SEED = BigInt(Number.MAX_SAFE_INTEGER);

/** Show a field, or hide it and leave it out of what is checked. */
function show(id, isShown) {
  byId(id).hidden = !isShown;
  for (const input of byId(id).querySelectorAll("input")) input.disabled = !isShown;
}

const read = (field) => (field.type === "checkbox" ? field.checked : field.value);
const write = (field, value) => (field.type === "checkbox" ? (field.checked = value) : (field.value = value));

/** Fires "change" when the action or the model is another one. */
export class Form extends EventTarget {
  #models = [];
  #kept = { values: {}, chosen: {}, own: {} };

  constructor() {
    super();
    this.#restore();
    byId("order").addEventListener("input", (event) => this.#changed(event.target));
    byId("settings").addEventListener("toggle", () => this.#save());
    byId("turn").addEventListener("click", () => this.set({ width: byId("height").value, height: byId("width").value }));
    byId("seed-random").addEventListener("click", () => this.set({ seed: "" }));
    byId("seed-again").addEventListener("click", () => this.set({ seed: byId("seed-again").value }));
    byId("reset").addEventListener("click", () => this.set(defaultsOf(this.model, this.action)));
  }

  get action() {
    return document.querySelector("[name=action]:checked").value;
  }

  /** The chosen model as the server describes it. */
  get model() {
    return this.#models.find((model) => model.id === byId("model").value);
  }

  /** Offer the server's models and samplers; actions that no model does are not offered. */
  offer(models, samplers) {
    this.#models = models;
    for (const radio of document.querySelectorAll("[name=action]")) {
      radio.closest("label").hidden = modelsFor(radio.value, models).length === 0;
    }
    if (modelsFor(this.action, models).length === 0) document.querySelector("#actions label:not([hidden]) input").checked = true;
    byId("sampler").replaceChildren(...samplers.map((name) => make("option", { value: name }, samplerLabel(name))));
    this.#showAction();
  }

  /** Choose an action, and a model where one is named. */
  choose(action, model) {
    document.querySelector(`[name=action][value=${action}]`).checked = true;
    if (model) this.#kept.chosen[action] = model;
    this.#showAction();
  }

  /** Set fields by their names. */
  set(values) {
    clearMistake();
    for (const [name, value] of Object.entries(values)) {
      if (name === "sampler") this.#addSampler(value);
      write(byId(name), value);
      if (SLIDERS.includes(name)) byId(`${name}-slide`).value = value;
    }
    this.#save();
  }

  /** Set what a picture's record says, so that it can be painted again. */
  use(parameters) {
    this.choose(ACTION_OF_TASK[parameters.task], parameters.offered);
    const values = Object.fromEntries([...OF_MODEL, ...OF_ALL].filter((name) => parameters[name] != null).map((name) => [name, parameters[name]]));
    this.set({ ...values, sampler: `${parameters.sampler} ${parameters.sigmas}`.trim(), n: 1 });
  }

  /** Show the first field that cannot be right; true where all can. */
  check() {
    const seed = byId("seed").value.trim();
    const fits = /^\d*$/.test(seed) && (seed === "" || BigInt(seed) <= LARGEST_SEED);
    byId("seed").setCustomValidity(fits ? "" : `A whole number from 0 to ${LARGEST_SEED}, or nothing for a random one.`);
    if (byId("order").checkValidity()) return true;
    byId("settings").open = true;
    byId("order").reportValidity();
    return false;
  }

  /** Return the order as the jobs API takes it, with the pictures that it begins from. */
  order(pictures) {
    const number = (name) => Number(byId(name).value);
    const order = {
      model: this.model.id,
      prompt: byId("prompt").value,
      negative_prompt: byId("negative_prompt").value,
      steps: number("steps"),
      guidance_scale: number("guidance_scale"),
      sampler: byId("sampler").value,
      n: number("n"),
      previews: byId("previews").checked ? PREVIEWS : 0,
      ...pictures,
    };
    if (byId("seed").value.trim()) order.seed = number("seed");
    if (this.action === "text") [order.width, order.height] = [number("width"), number("height")];
    if (this.action === "repaint") {
      Object.assign(order, { paste: byId("paste").checked, invert: byId("invert").checked, mask_blur: number("mask_blur") });
    }
    if (this.action === "upscale") order.noise_level = number("noise_level");
    else if (order.image) order.strength = number("strength"); // depth alone is painted from noise
    return order;
  }

  #changed(field) {
    clearMistake();
    if (field.id.endsWith("-slide")) byId(field.id.slice(0, -6)).value = field.value;
    else if (SLIDERS.includes(field.id)) byId(`${field.id}-slide`).value = field.value;
    if (field.name === "action") return this.#showAction();
    if (field.id === "model") {
      this.#kept.chosen[this.action] = field.value;
      return this.#showModel();
    }
    return this.#save();
  }

  #showAction() {
    const { action } = this;
    const fitting = modelsFor(action, this.#models);
    byId("model").replaceChildren(...fitting.map(({ id }) => make("option", { value: id }, id)));
    const chosen = fitting.find(({ id }) => id === this.#kept.chosen[action]) ?? fitting[0];
    byId("model").value = chosen.id;
    show("size", action === "text");
    show("strength-field", action !== "text" && action !== "upscale");
    show("noise-field", action === "upscale");
    show("mask-field", action === "repaint");
    byId("prompt").placeholder = action === "upscale" ? "What the picture shows (may be left empty)" : "What the picture shows";
    this.#showModel();
  }

  #showModel() {
    const { action, model } = this;
    byId("action-hint").textContent = hintOf(action, model);
    for (const side of ["width", "height"]) byId(side).step = byId(side).min = model.size_multiple ?? 8;
    const defaults = defaultsOf(model, action);
    this.set({ ...defaults, ...this.#kept.own[`${action} ${model.id}`] });
    this.dispatchEvent(new Event("change"));
  }

  /** Records may name a sampler in a way of their own; it stays choosable. */
  #addSampler(name) {
    const select = byId("sampler");
    if (![...select.options].some((option) => option.value === name)) select.append(make("option", { value: name }, samplerLabel(name)));
  }

  #save() {
    byId("negative-hint").hidden = Number(byId("guidance_scale").value) > 1;
    if (!this.model) return;
    const values = (names) => Object.fromEntries(names.map((name) => [name, read(byId(name))]));
    this.#kept.own[`${this.action} ${this.model.id}`] = values(OF_MODEL);
    this.#kept.values = { ...values(OF_ALL), action: this.action, open: byId("settings").open };
    memory.write(JSON.stringify(this.#kept));
  }

  #restore() {
    byId("settings").open = matchMedia("(min-width: 56rem)").matches;
    try {
      this.#kept = { ...this.#kept, ...JSON.parse(memory.read()) };
    } catch {
      memory.forget();
    }
    const { action, open, ...values } = this.#kept.values;
    for (const [name, value] of Object.entries(values)) if (OF_ALL.includes(name)) write(byId(name), value);
    if (open !== undefined) byId("settings").open = open;
    if (action in ACTIONS) document.querySelector(`[name=action][value=${action}]`).checked = true;
  }
}
