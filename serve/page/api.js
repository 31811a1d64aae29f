// Talk to the server: JSON, files and streams of events, with the token if there is one. Knows nothing of the page.

import { Memory } from "./memory.js";

const token = new Memory("sessionStorage", "sd2rt.token");
const SILENCE_MS = 40_000; // of a stream, after which it is taken for broken: the server says something every 15 s

/** The server answered, and refused. `retryAfterS` is how long it asks to wait, null where it does not. */
export class Refused extends Error {
  constructor(message, status, retryAfterS = null) {
    super(message);
    this.status = status;
    this.retryAfterS = retryAfterS;
  }
}

/** The server did not answer at all, or stopped in the middle. */
export class Unreachable extends Error {
  constructor() {
    super("The server cannot be reached.");
  }
}

export const setToken = (text) => token.write(text);
export const hasToken = () => token.read() !== null;

/** Return the answer's JSON. Throws Refused and Unreachable. */
export async function getJson(path) {
  return read(await send(path), (answer) => answer.json());
}

/** Post a JSON body and return the answer's JSON. Throws as getJson does. */
export async function postJson(path, body) {
  const headers = { "Content-Type": "application/json" };
  return read(await send(path, { method: "POST", headers, body: JSON.stringify(body) }), (answer) => answer.json());
}

/** Return a file as a Blob. Throws as getJson does. */
export async function getFile(path) {
  return read(await send(path), (answer) => answer.blob());
}

/** Send DELETE; nothing comes back. Throws as getJson does. */
export async function remove(path) {
  await send(path, { method: "DELETE" });
}

/** Yield {name: "opened"} when a stream begins, then {name, data} for each of its events, until it ends. Throws as getJson does, Unreachable where it breaks off or falls silent. */
export async function* events(path) {
  const broken = new AbortController();
  const lose = () => broken.abort();
  addEventListener("offline", lose);
  let timer = setTimeout(lose, SILENCE_MS);
  try {
    const answer = await send(path, { headers: { Accept: "text/event-stream" }, signal: broken.signal });
    yield { name: "opened" };
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let text = ""; ; ) {
      const { value, done } = await read(reader, () => reader.read());
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(lose, SILENCE_MS);
      const blocks = (text + value.replaceAll("\r", "")).split("\n\n");
      text = blocks.pop();
      yield* blocks.map(parse).filter((event) => event !== null);
    }
  } finally {
    removeEventListener("offline", lose);
    clearTimeout(timer);
    lose();
  }
}

/** Read one event's lines; null for comments, which keep the connection alive. */
function parse(block) {
  const fields = { event: "message", data: "" };
  for (const line of block.split("\n")) {
    const [, name, value] = /^(\w+): ?(.*)$/.exec(line) ?? [];
    if (name === "event") fields.event = value;
    if (name === "data") fields.data += value;
  }
  return fields.data ? { name: fields.event, data: JSON.parse(fields.data) } : null;
}

async function send(path, options = {}) {
  const headers = { ...options.headers };
  if (token.read()) headers.Authorization = `Bearer ${token.read()}`;
  const answer = await read(null, () => fetch(new URL(path, document.baseURI), { ...options, headers, cache: "no-store" }));
  if (answer.ok) return answer;
  const wait = Number.parseFloat(answer.headers.get("Retry-After"));
  throw new Refused(await reason(answer), answer.status, Number.isFinite(wait) ? wait : null);
}

/** Read an answer or from one; a broken connection, which fetch calls a TypeError, becomes Unreachable, as one that `events` gave up. */
async function read(from, how) {
  try {
    return await how(from);
  } catch (error) {
    if (error instanceof TypeError || error.name === "AbortError") throw new Unreachable();
    throw error;
  }
}

async function reason(answer) {
  try {
    const body = await answer.json();
    return body.error?.message ?? body.detail ?? answer.statusText;
  } catch {
    return `The server answered ${answer.status} ${answer.statusText}`.trim();
  }
}
