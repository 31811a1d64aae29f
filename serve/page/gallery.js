// The pictures painted so far, as small pictures in a list.

import { byId, button, make } from "./elements.js";
import { announce, showTrouble } from "./notices.js";
import { Store } from "./store.js";

/** Ask before something is deleted. */
function confirmed(text) {
  const question = byId("question");
  byId("question-text").textContent = text;
  question.returnValue = "no";
  question.showModal();
  return new Promise((resolve) => question.addEventListener("close", () => resolve(question.returnValue === "yes"), { once: true }));
}

/** Keeps records, and shows them, the newest first. `open` is called with the record that is pressed. */
export class Gallery {
  #store = new Store();
  #open;
  #items = new Map(); // record's id -> its list item

  /** Records, the newest first. */
  records = [];

  constructor(open) {
    this.#open = open;
    byId("clear-gallery").addEventListener("click", () => this.#clear());
  }

  /** Read what earlier visits kept. */
  async restore() {
    if (!(await this.#store.open())) byId("gallery-empty").textContent = "This window keeps no pictures: download those that you want to keep.";
    this.records = await this.#store.all();
    byId("thumbs").replaceChildren(...this.records.map((record) => this.#item(record)));
    this.#count();
  }

  /** Keep a picture, and return its record. */
  async add(record) {
    try {
      record.id = await this.#store.add(record);
    } catch (error) {
      record.id = -Date.now() - this.records.length; // shown until the page is left
      showTrouble(`This browser could not keep the picture (${error.name}). Download it, or delete some.`);
    }
    this.records.unshift(record);
    byId("thumbs").prepend(this.#item(record));
    this.#count();
    return record;
  }

  async delete(record) {
    await this.#store.delete(record.id);
    this.records = this.records.filter(({ id }) => id !== record.id);
    const item = this.#items.get(record.id);
    URL.revokeObjectURL(item.querySelector("img").src);
    item.remove();
    this.#items.delete(record.id);
    this.#count();
    announce("Picture deleted");
  }

  async #clear() {
    const { length } = this.records;
    if (!(await confirmed(`Delete ${length === 1 ? "the picture" : `all ${length} pictures`} from this browser?`))) return;
    await this.#store.clear();
    this.records = [];
    this.#items.clear();
    byId("thumbs").replaceChildren();
    this.#count();
    byId("prompt").focus();
    announce("All pictures deleted");
  }

  #item(record) {
    const { prompt, seed, width } = record.parameters;
    const image = make("img", { src: URL.createObjectURL(record.file), alt: "", loading: "lazy" });
    image.classList.toggle("tiny", width < 128);
    const opener = button("", () => this.#open(record), "thumb");
    opener.setAttribute("aria-label", `${prompt || "Upscaled picture"}, seed ${seed}`);
    opener.title = prompt;
    opener.append(image);
    const item = make("li", {}, opener);
    this.#items.set(record.id, item);
    return item;
  }

  #count() {
    const { length } = this.records;
    byId("gallery-count").textContent = length ? String(length) : "";
    byId("gallery-empty").hidden = length > 0;
    byId("clear-gallery").hidden = length === 0;
  }
}
