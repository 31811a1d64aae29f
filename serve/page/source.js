// What a job begins from: the picture, the mask brushed over it, the depth map. Drops and pastes on the page end here.

import { byId } from "./elements.js";
import { MaskEditor } from "./mask.js";
import { ACTIONS, needsDepth } from "./models.js";
import { clearMistake, showMistake } from "./notices.js";
import { PictureBox, toBase64, unreadable } from "./picture.js";

/** What is missing before an action can begin; `focus` brings the keyboard to where it is mended. */
export class Missing extends Error {
  constructor(message, focus) {
    super(message);
    this.focus = focus;
  }
}

/** Return a box's picture in base64. Throws Missing where its file was changed or moved since it was chosen. */
async function content(box) {
  try {
    return await toBase64(box.file);
  } catch {
    throw new Missing(`${box.file.name} cannot be read any longer. Choose it again.`, () => box.focus());
  }
}

/** `wanted` is called when a picture comes in while the action takes none. */
export class Source {
  #mask = new MaskEditor();
  #picture = new PictureBox(byId("picture-box"), "a picture", this.#mask.elements);
  #depth = new PictureBox(byId("depth-box"), "a depth map");
  #action = "text";
  #needsDepth = false;
  #wanted;

  constructor(wanted) {
    this.#wanted = wanted;
    this.#picture.addEventListener("change", ({ detail }) => {
      if (detail) this.#mask.fit(detail.width, detail.height);
      this.#showTools();
    });
    for (const box of [this.#picture, this.#depth]) box.addEventListener("change", clearMistake);
    addEventListener("paste", (event) => this.#receive(event, event.clipboardData));
    addEventListener("dragover", (event) => event.preventDefault());
    addEventListener("drop", (event) => this.#receive(event, event.dataTransfer));
  }

  /** Show what an action takes where this model does it. */
  show(action, model) {
    this.#action = action;
    this.#needsDepth = needsDepth(model);
    byId("source").hidden = action === "text";
    byId("stage").classList.toggle("two", action !== "text");
    byId("depth-box").hidden = action !== "depth";
    if (action !== "text") this.#picture.label = ACTIONS[action].picture;
    this.#showTools();
  }

  /** Begin from this file. */
  async take(file) {
    await this.#picture.take(file);
  }

  /** Return the pictures of an order, in base64. Throws Missing. */
  async order() {
    const order = {};
    if (this.#action === "text") return order;
    if (this.#needsDepth && !this.#depth.file) {
      throw new Missing("This model cannot estimate depth: choose a depth map, nearer is brighter.", () => this.#depth.focus());
    }
    const needsPicture = this.#action !== "depth" || !this.#depth.file;
    if (needsPicture && !this.#picture.file) throw new Missing("There is no picture yet to begin from.", () => this.#picture.focus());
    if (this.#action === "repaint" && this.#mask.isEmpty) {
      throw new Missing("Brush over the part of the picture that is to be painted anew.", () => this.#mask.focus());
    }
    if (this.#picture.file) order.image = await content(this.#picture);
    if (this.#action === "repaint") order.mask = await toBase64(await this.#mask.file());
    if (this.#action === "depth" && this.#depth.file) order.depth = await content(this.#depth);
    return order;
  }

  #showTools() {
    const brushes = this.#action === "repaint" && this.#picture.file !== null;
    byId("mask-tools").hidden = !brushes;
    byId("picture-box").classList.toggle("brushed", brushes);
  }

  #receive(event, transfer) {
    const files = [...(transfer?.files ?? [])];
    const file = files.find(({ type }) => type.startsWith("image/"));
    if (event.type === "drop") event.preventDefault();
    if (!file) {
      if (files.length) showMistake(unreadable(files[0]));
      return;
    }
    event.preventDefault();
    if (this.#action === "text") this.#wanted();
    (this.#depth.contains(event.target) ? this.#depth : this.#picture).take(file);
  }
}
