// The pictures painted in this browser, kept in its IndexedDB. A record: {id, created, seconds, action, parameters, file (a Blob)}.

const STORE = "pictures";
const MOST = 500; // the oldest go first

function promised(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** Pictures by their ids, which grow. Where the browser keeps no database (some private windows), they last until the page is left. */
export class Store {
  #database = null;
  #passing = new Map();

  /** Open the database; false where there is none. */
  async open() {
    try {
      const request = indexedDB.open("sd2rt", 1);
      request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id", autoIncrement: true });
      this.#database = await promised(request);
    } catch {
      return false;
    }
    return true;
  }

  /** Return all records, the newest first. */
  async all() {
    const records = this.#database ? await promised(this.#records("readonly").getAll()) : [...this.#passing.values()];
    return records.reverse();
  }

  /** Keep a record and return its id; room is made by the oldest ones. */
  async add(record) {
    if (!this.#database) {
      const id = (Math.max(0, ...this.#passing.keys())) + 1;
      this.#passing.set(id, { ...record, id });
      return id;
    }
    const id = await promised(this.#records("readwrite").add(record));
    const keys = await promised(this.#records("readonly").getAllKeys());
    await Promise.all(keys.slice(0, -MOST).map((key) => this.delete(key)));
    return id;
  }

  async delete(id) {
    this.#passing.delete(id);
    if (this.#database) await promised(this.#records("readwrite").delete(id));
  }

  async clear() {
    this.#passing.clear();
    if (this.#database) await promised(this.#records("readwrite").clear());
  }

  #records(mode) {
    return this.#database.transaction(STORE, mode).objectStore(STORE);
  }
}
