// The pictures painted so far, as small pictures in a list.

import { byId, button, make } from "./elements.js";
import { announce, showTrouble } from "./notices.js";
import { MOST, Store } from "./store.js";

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

  /** Read what earlier visits kept; where that cannot be done, say so. */
  async restore() {
    if (!(await this.#store.open())) byId("gallery-empty").textContent = "This window keeps no pictures: download those that you want to keep.";
    try {
      this.records = await this.#store.all();
    } catch (error) {
      byId("gallery-empty").textContent = `This browser cannot read the pictures that it keeps (${error.name}).`;
    }
    byId("thumbs").replaceChildren(...this.records.map((record) => this.#item(record)));
    this.#count();
  }

  /** Keep a picture, and return its record; the oldest ones make room for it. */
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
    await this.#makeRoom();
    return record;
  }

  async delete(record) {
    if (await this.#delete([record.id])) announce("Picture deleted");
  }

  /** Delete what is shown here: other windows of the page may have kept more since. */
  async #clear() {
    const ids = [...this.#items.keys()];
    if (!(await confirmed(`Delete ${ids.length === 1 ? "the picture" : `all ${ids.length} pictures`} from this browser?`))) return;
    if (!(await this.#delete(ids))) return;
    byId("prompt").focus();
    announce("All pictures deleted");
  }

  async #makeRoom() {
    try {
      this.#drop(await this.#store.makeRoom());
    } catch {
      // They stay a while longer: the next picture's room is theirs too.
    }
  }

  async #delete(ids) {
    try {
      await this.#store.delete(ids);
    } catch (error) {
      showTrouble(`This browser could not delete ${ids.length === 1 ? "the picture" : "the pictures"} (${error.name}).`);
      return false;
    }
    this.#drop(ids);
    return true;
  }

  /** Show them no longer. */
  #drop(ids) {
    for (const id of ids) {
      const item = this.#items.get(id);
      if (!item) continue; // another window's
      URL.revokeObjectURL(item.querySelector("img").src);
      item.remove();
      this.#items.delete(id);
    }
    this.records = this.records.filter(({ id }) => this.#items.has(id));
    this.#count();
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
    byId("gallery-count").textContent = length < MOST ? String(length || "") : `${length}: the oldest make room for new ones`;
    byId("gallery-empty").hidden = length > 0;
    byId("clear-gallery").hidden = length === 0;
  }
}
