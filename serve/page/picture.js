// One picture that a job begins from: chosen, dropped or pasted, shown, and made ready to be sent.

import { make } from "./elements.js";
import { showMistake } from "./notices.js";

const SENT_AS_THEY_ARE = ["image/png", "image/jpeg", "image/webp"];
const MOST_BYTES = 6_000_000; // a request holds three such pictures in base64
const MOST_PIXELS = 16_000_000;
const SCALED_PIXELS = 2_400_000; // servers scale to this or less anyway

/** Return a file that the server takes: the file itself, or the picture in it as a PNG, scaled down where it is too large. */
async function prepare(file, bitmap) {
  const pixels = bitmap.width * bitmap.height;
  if (SENT_AS_THEY_ARE.includes(file.type) && file.size <= MOST_BYTES && pixels <= MOST_PIXELS) return file;
  const scale = Math.min(1, Math.sqrt(SCALED_PIXELS / pixels));
  const canvas = new OffscreenCanvas(Math.max(1, Math.round(bitmap.width * scale)), Math.max(1, Math.round(bitmap.height * scale)));
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas.convertToBlob({ type: "image/png" });
}

/** Return a file as base64. */
export function toBase64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

/** Return what to tell of a file that is no picture. */
export const unreadable = ({ name }) => `${name || "This"} is no picture that this browser can read. Choose a PNG, JPEG or WebP file.`;

/** A place for one picture. Fires "change" with the picture there, or gone. */
export class PictureBox extends EventTarget {
  #image = make("img", { alt: "" });
  #holder = make("div", { className: "holder" });
  #about = make("p", { className: "hint" });
  #input = make("input", { type: "file", accept: "image/*", className: "unseen" });
  #label = make("span");
  #empty = make("p", { className: "hint" }, "Choose one, drop it here, or paste it.");
  #remove = make("button", { type: "button", className: "plain" }, "Remove");
  #box;

  /** The file to send, null where there is none. */
  file = null;

  constructor(place, label, overlays = []) {
    super();
    this.#holder.append(this.#image, ...overlays);
    const buttons = make("div", { className: "tools" }, make("label", { className: "plain" }, this.#input, this.#label), this.#remove);
    this.#box = make("div", { className: "picture-box" }, this.#holder, this.#empty, this.#about, buttons);
    place.append(this.#box);
    this.label = label;
    this.#input.addEventListener("change", () => this.take(this.#input.files[0]));
    this.#remove.addEventListener("click", () => this.clear());
    for (const name of ["dragover", "dragleave", "drop"]) {
      this.#box.addEventListener(name, () => this.#box.classList.toggle("over", name === "dragover"));
    }
    this.clear();
  }

  set label(label) {
    this.#label.textContent = `Choose ${label}`;
    this.#image.alt = "What it begins from";
  }

  contains(element) {
    return this.#box.contains(element);
  }

  focus() {
    this.#input.focus();
  }

  /** Take a picture file, whatever format the browser reads. */
  async take(file) {
    if (!file) return;
    let bitmap;
    try {
      bitmap = await createImageBitmap(file);
    } catch {
      showMistake(unreadable(file));
      this.#input.value = "";
      return;
    }
    this.file = await prepare(file, bitmap);
    URL.revokeObjectURL(this.#image.src);
    this.#image.src = URL.createObjectURL(this.file);
    this.#image.classList.toggle("tiny", bitmap.width <= 128);
    this.#holder.style.setProperty("--ratio", bitmap.width / bitmap.height);
    this.#about.textContent = `${bitmap.width} × ${bitmap.height} pixels`;
    this.#show(bitmap);
  }

  clear() {
    this.file = null;
    URL.revokeObjectURL(this.#image.src);
    this.#image.removeAttribute("src");
    this.#about.textContent = "";
    this.#show(null);
  }

  #show(bitmap) {
    this.#input.value = "";
    this.#holder.hidden = this.#remove.hidden = this.#about.hidden = bitmap === null;
    this.#empty.hidden = bitmap !== null;
    this.dispatchEvent(new CustomEvent("change", { detail: bitmap }));
    bitmap?.close();
  }
}
