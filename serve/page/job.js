// The life of one job: sent, queued, painted, ended, and found again when the connection breaks. Knows nothing of the page.

import { Refused, Unreachable, events, getFile, getJson, postJson, remove } from "./api.js";
import { Memory } from "./memory.js";

const underWay = new Memory("sessionStorage", "sd2rt.job"); // so that a reload finds it
const SENDINGS = 20; // while the queue is full
const LOOKUPS = 9; // while the server cannot be reached: about a minute
const LATER = [429, 503]; // statuses that ask to ask again

/** The job that `paint` sent last, null once it was forgotten: all that came of it is kept. */
export const unfinished = () => underWay.read();
export const forget = () => underWay.forget();
const path = (id) => `v1/jobs/${encodeURIComponent(id)}`;

/**
 * Send an order and yield what becomes of it: {kind: "full", seconds} while the queue is full, {kind: "sent", id}, then as `follow`.
 * Throws Refused, Unreachable, and AbortError where `signal` ends the waiting.
 */
export async function* paint(order, signal) {
  const id = yield* send(order, signal);
  underWay.write(id);
  yield { kind: "sent", id };
  yield* follow(id, signal);
}

/** Send an order until the server takes it, and return the job's id. */
async function* send(order, signal) {
  for (let sending = 1; ; sending += 1) {
    try {
      signal.throwIfAborted();
      return (await postJson("v1/jobs", order)).id; // not given up halfway: the server may have taken it
    } catch (error) {
      if (!(error instanceof Refused && error.status === 429) || sending === SENDINGS) throw error;
      const seconds = Math.max(1, error.retryAfterS ?? 1);
      yield { kind: "full", seconds, message: error.message };
      await sleep(seconds * 1000, signal);
    }
  }
}

/**
 * Yield {kind: "connected"} when the server knows the job, {kind: "started", total}, {kind: "step", step, total},
 * {kind: "preview", step, pictures}, {kind: "lost"} while the server cannot be reached or is too busy to tell, and last {kind: "done", job, files}, {kind: "failed", message} or {kind: "cancelled"}. Throws Unreachable when it stays away,
 * Refused with status 404 when it knows the job no longer, AbortError where `signal` ends the looking for it.
 */
export async function* follow(id, signal) {
  for (let lookup = 0; ; ) {
    try {
      for await (const event of events(`${path(id)}/events`)) {
        lookup = 0;
        const state = await stateOf(event);
        if (state) yield state;
        if (["done", "failed", "cancelled"].includes(state?.kind)) return;
      }
    } catch (error) {
      if (!(error instanceof Unreachable || LATER.includes(error.status))) throw error;
    }
    lookup += 1;
    if (lookup > LOOKUPS) throw new Unreachable();
    yield { kind: "lost" };
    await sleep(Math.min(250 * 2 ** lookup, 10_000), signal);
  }
}

/** Ask the server to give a job up; its last event tells when it has. Where it cannot be asked, or knows the job no longer, all is done. */
export async function cancel(id) {
  try {
    await remove(path(id));
  } catch (error) {
    if (!(error instanceof Refused || error instanceof Unreachable)) throw error;
  }
}

/** Return how many are before a job and itself: 1 is next, 0 is no longer waiting. */
export async function position(id) {
  return (await getJson(path(id))).position;
}

/** Make a state of an event; null for those that the page has no use for. Fetches the pictures when they are done. */
async function stateOf({ name, data }) {
  if (name === "opened") return { kind: "connected" };
  if (name === "started") return { kind: "started", total: data.total_steps };
  if (name === "step") return { kind: "step", step: data.step, total: data.total_steps };
  if (name === "preview") return { kind: "preview", step: data.step, pictures: data.images.map((image) => `data:image/png;base64,${image}`) };
  if (name === "done") return { kind: "done", job: data, files: await files(data) };
  if (name === "failed") return { kind: "failed", message: data.message };
  return name === "cancelled" ? { kind: "cancelled" } : null;
}

const files = (job) => Promise.all(job.images.map(({ index }) => getFile(`${path(job.id)}/images/${index}`)));

/** Wait; throws AbortError when `signal` ends it. */
function sleep(ms, signal) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });
}
