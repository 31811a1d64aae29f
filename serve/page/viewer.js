// One picture of the gallery, large, with everything that decided it.

import { byId, button, make } from "./elements.js";
import { ACTION_OF_TASK, samplerLabel } from "./models.js";

const TASKS = { text: "From text", image: "From a picture", repaint: "Repainted", depth: "From depth", upscale: "Upscaled" };

/** Return what decided a picture as pairs of a name and a text. */
export function facts({ parameters, created, seconds }) {
  const p = parameters;
  const pairs = [
    ["Prompt", p.prompt],
    ["Negative prompt", p.negative_prompt],
    ["Seed", p.seed],
    ["Model", p.offered ?? p.model],
    ["Task", TASKS[ACTION_OF_TASK[p.task]]],
    ["Size", `${p.width} × ${p.height}`],
    ["Steps", p.steps],
    ["Sampler", samplerLabel(`${p.sampler} ${p.sigmas}`.trim())],
    ["Guidance", p.guidance_scale],
    ["Strength", p.strength],
    ["Noise level", p.noise_level],
    ["Painted", `${new Date(created).toLocaleString()}, in ${seconds.toFixed(1)} s on ${p.target}`],
  ];
  return pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
}

/** Save a record's file through the browser. */
export function download({ file, parameters, created }) {
  const when = new Date(created).toISOString().slice(0, 19).replaceAll(/[-:]/g, "").replace("T", "-");
  const link = make("a", { href: URL.createObjectURL(file), download: `sd2rt-${when}-${parameters.seed}.png` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** A dialog that shows one record of `gallery`; `actions` makes the buttons of a record, which close it when they are pressed. */
export class Viewer {
  #dialog = byId("viewer");
  #gallery;
  #actions;
  #record = null;
  #url = null;

  constructor(gallery, actions) {
    this.#gallery = gallery;
    this.#actions = actions;
    this.#dialog.addEventListener("keydown", (event) => this.#key(event));
    this.#dialog.addEventListener("click", (event) => event.target === this.#dialog && this.#dialog.close());
    this.#dialog.addEventListener("close", () => URL.revokeObjectURL(this.#url));
  }

  show(record) {
    this.#record = record;
    URL.revokeObjectURL(this.#url);
    this.#url = URL.createObjectURL(record.file);
    const title = make("h2", { id: "viewer-title" }, record.parameters.prompt || "Upscaled picture");
    const image = make("img", { src: this.#url, alt: record.parameters.prompt || "Upscaled picture" });
    image.addEventListener("load", () => image.classList.toggle("tiny", image.naturalWidth < 256));
    const list = make("dl", {}, ...facts(record).flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, String(value))]));
    const buttons = make("div", { className: "tools" }, ...this.#actions(record, () => this.#dialog.close()));
    buttons.append(button("Delete", () => this.#delete(), "danger"));
    const close = button("Close", () => this.#dialog.close());
    const head = make("div", { className: "viewer-head" }, title, this.#turn("Newer", -1), this.#turn("Older", 1), close);
    this.#dialog.replaceChildren(head, make("div", { className: "viewer-body" }, make("div", { className: "frame" }, image), make("div", {}, list, buttons)));
    if (!this.#dialog.open) this.#dialog.showModal();
    close.focus();
  }

  #neighbour(distance) {
    const at = this.#gallery.records.findIndex(({ id }) => id === this.#record.id);
    return this.#gallery.records[at + distance];
  }

  #turn(text, distance) {
    const turn = button(text, () => this.show(this.#neighbour(distance)));
    turn.disabled = !this.#neighbour(distance);
    return turn;
  }

  #key({ key }) {
    const distance = { ArrowLeft: -1, ArrowRight: 1 }[key];
    if (distance && this.#neighbour(distance)) this.show(this.#neighbour(distance));
  }

  async #delete() {
    const next = this.#neighbour(1) ?? this.#neighbour(-1);
    await this.#gallery.delete(this.#record);
    if (next) this.show(next);
    else this.#dialog.close();
  }
}
