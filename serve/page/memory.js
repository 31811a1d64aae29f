// What the browser remembers of the page under a name. Where its storage is blocked or full, it lasts until the page is left.

export class Memory {
  #area;
  #name;
  #passing = null; // what the browser would not take

  /** `area` is "localStorage", or "sessionStorage" for what ends with the window: reading this property alone throws where it is blocked. */
  constructor(area, name) {
    this.#area = area;
    this.#name = name;
  }

  /** Return the text, null where there is none. */
  read() {
    try {
      return this.#passing ?? window[this.#area].getItem(this.#name);
    } catch {
      return null;
    }
  }

  write(text) {
    try {
      window[this.#area].setItem(this.#name, text);
      this.#passing = null;
    } catch {
      this.#passing = text;
    }
  }

  forget() {
    this.#passing = null;
    try {
      window[this.#area].removeItem(this.#name);
    } catch {
      // Nothing is kept there.
    }
  }
}
