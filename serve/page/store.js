// The pictures painted in this browser, kept in its IndexedDB. A record: {id, created, seconds, action, parameters, file (a Blob)}.

const STORE = "pictures";

/** How many are kept; the oldest go first. */
export const MOST = 500;

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
    const records = this.#database ? await promised(this.#read().getAll()) : [...this.#passing.values()];
    return records.reverse();
  }

  /** Keep a record and return its id. */
  async add(record) {
    if (this.#database) return this.#write((records) => records.add(record));
    const id = Math.max(0, ...this.#passing.keys()) + 1;
    this.#passing.set(id, { ...record, id });
    return id;
  }

  /** Delete the oldest records beyond `MOST`, and return their ids. */
  async makeRoom() {
    const ids = this.#database ? await promised(this.#read().getAllKeys()) : [];
    const oldest = ids.slice(0, -MOST);
    if (oldest.length) await this.delete(oldest);
    return oldest;
  }

  async delete(ids) {
    for (const id of ids) this.#passing.delete(id);
    if (this.#database) await this.#write((records) => ids.map((id) => records.delete(id)).at(-1));
  }

  #read() {
    return this.#database.transaction(STORE, "readonly").objectStore(STORE);
  }

  /** Return what the last request of `act` came to, when all of them are kept: a full disk shows only at the transaction's end. */
  #write(act) {
    return new Promise((resolve, reject) => {
      const transaction = this.#database.transaction(STORE, "readwrite");
      const request = act(transaction.objectStore(STORE));
      transaction.oncomplete = () => resolve(request.result);
      transaction.onabort = () => reject(transaction.error);
    });
  }
}
