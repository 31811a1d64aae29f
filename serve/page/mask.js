// The brush over a picture: mouse, touch, pen and keys make strokes.

import { byId, make } from "./elements.js";
import { announce, clearMistake, showMistake } from "./notices.js";
import { unreadable } from "./picture.js";
import { Strokes } from "./strokes.js";

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const SIZE_STEP = 3; // percent

/** A picture, a canvas on it for the mask, and the ring that shows where the brush is. */
export class MaskEditor {
  #canvas = make("canvas", { className: "mask", tabIndex: 0, role: "application", "aria-label": "Mask", "aria-describedby": "mask-help" });
  #ring = make("div", { className: "ring", hidden: true, "aria-hidden": "true" });
  #strokes = new Strokes(this.#canvas);
  #at = [0, 0]; // of the brush, in pixels of the mask
  #pointer = null;

  /** What is put over the picture. */
  elements = [this.#canvas, this.#ring];

  constructor() {
    const on = (name, handle) => this.#canvas.addEventListener(name, handle);
    on("pointerdown", (event) => this.#press(event));
    on("pointermove", (event) => this.#move(event));
    on("pointerup", () => this.#release());
    on("pointercancel", () => this.#release());
    on("pointerleave", () => this.#pointer === null && (this.#ring.hidden = true));
    on("keydown", (event) => this.#key(event));
    on("focus", () => this.#canvas.matches(":focus-visible") && this.#showRing());
    on("blur", () => (this.#ring.hidden = true));
    byId("undo").addEventListener("click", () => this.#change(() => this.#strokes.undo()));
    byId("redo").addEventListener("click", () => this.#change(() => this.#strokes.redo()));
    byId("clear-mask").addEventListener("click", () => this.#change(() => this.#strokes.clear()));
    byId("load-mask").addEventListener("click", () => byId("mask-file").click());
    byId("mask-file").addEventListener("change", (event) => this.#load(event.target));
  }

  /** Begin anew, for a picture of this size. */
  fit(width, height) {
    this.#change(() => this.#strokes.fit(width, height));
    this.#at = [this.#canvas.width / 2, this.#canvas.height / 2];
  }

  get isEmpty() {
    return this.#strokes.coverage() === 0;
  }

  focus() {
    this.#canvas.focus();
  }

  /** Return the mask as a PNG file, white where to paint. */
  file() {
    return this.#strokes.file();
  }

  get #size() {
    return Math.max(1, (Number(byId("brush-size").value) / 100) * Math.min(this.#canvas.width, this.#canvas.height));
  }

  get #erases() {
    return document.querySelector("[name=tool]:checked").value === "eraser";
  }

  #press(event) {
    if (event.button !== 0 || this.#pointer !== null) return;
    event.preventDefault();
    this.#canvas.focus({ preventScroll: true });
    this.#pointer = event.pointerId;
    this.#canvas.setPointerCapture(event.pointerId);
    this.#at = this.#point(event);
    this.#strokes.begin(this.#at, this.#size, this.#erases);
    this.#showRing();
  }

  #move(event) {
    this.#at = this.#point(event);
    this.#showRing();
    if (event.pointerId !== this.#pointer) return;
    const between = event.getCoalescedEvents?.() ?? [];
    for (const part of between.length ? between : [event]) this.#strokes.extend(this.#point(part));
  }

  #release() {
    if (this.#pointer === null) return;
    this.#pointer = null;
    this.#change(() => {});
  }

  #point(event) {
    const box = this.#canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * this.#canvas.width, ((event.clientY - box.top) / box.height) * this.#canvas.height];
  }

  #key(event) {
    const control = event.ctrlKey || event.metaKey;
    const actions = {
      " ": () => this.#change(() => this.#strokes.begin(this.#at, this.#size, this.#erases), true),
      "[": () => this.#resize(-SIZE_STEP),
      "]": () => this.#resize(SIZE_STEP),
      e: () => this.#switchTool(),
    };
    if (control) {
      if (event.key.toLowerCase() !== "z") return;
      this.#change(() => (event.shiftKey ? this.#strokes.redo() : this.#strokes.undo()), true);
    } else if (event.key in ARROWS) this.#step(ARROWS[event.key], event.shiftKey);
    else if (event.key.toLowerCase() in actions) actions[event.key.toLowerCase()]();
    else return;
    event.preventDefault();
  }

  #step([right, down], draws) {
    const { width, height } = this.#canvas;
    const from = this.#at;
    const clamp = (value, most) => Math.min(Math.max(value, 0), most);
    this.#at = [clamp(from[0] + (right * this.#size) / 2, width), clamp(from[1] + (down * this.#size) / 2, height)];
    this.#showRing();
    if (draws) {
      this.#change(() => {
        this.#strokes.begin(from, this.#size, this.#erases);
        this.#strokes.extend(this.#at);
      }, true);
    } else announce(`${Math.round((100 * this.#at[0]) / width)} percent from the left, ${Math.round((100 * this.#at[1]) / height)} from the top`);
  }

  #resize(percent) {
    byId("brush-size").value = Number(byId("brush-size").value) + percent;
    this.#showRing();
    announce(`Brush size ${byId("brush-size").value} percent`);
  }

  #switchTool() {
    const [brush, eraser] = document.querySelectorAll("[name=tool]");
    (this.#erases ? brush : eraser).checked = true;
    announce(this.#erases ? "Eraser" : "Brush");
  }

  async #load(input) {
    const [file] = input.files;
    input.value = "";
    if (!file) return;
    try {
      const bitmap = await createImageBitmap(file);
      this.#change(() => this.#strokes.load(bitmap), true);
      bitmap.close();
    } catch {
      showMistake(unreadable(file));
    }
  }

  /** Do what changes the mask, and say what it covers then. */
  #change(act, aloud = false) {
    act();
    clearMistake();
    const percent = Math.round(100 * this.#strokes.coverage());
    const text = this.isEmpty ? "Nothing is brushed yet." : `${percent < 1 ? "Less than 1" : percent} % of the picture is brushed.`;
    byId("coverage").textContent = text;
    byId("undo").disabled = !this.#strokes.canUndo;
    byId("redo").disabled = !this.#strokes.canRedo;
    if (aloud) announce(text);
  }

  #showRing() {
    const box = this.#canvas.getBoundingClientRect();
    const scale = box.width / this.#canvas.width;
    const { style } = this.#ring;
    style.width = style.height = `${this.#size * scale}px`;
    style.left = `${this.#canvas.offsetLeft + this.#at[0] * scale}px`;
    style.top = `${this.#canvas.offsetTop + this.#at[1] * scale}px`;
    this.#ring.hidden = false;
  }
}
