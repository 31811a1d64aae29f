// One painting on the page, from the order to the pictures or to what went wrong.

import { Refused, Unreachable } from "./api.js";
import { byId } from "./elements.js";
import { cancel, follow, paint, position } from "./job.js";
import { Progress, announce } from "./notices.js";
import { showPreview } from "./result.js";

const POLL_MS = 700; // between questions for the place in the queue

/** Shows how a job goes. One of them is under way at a time. */
export class Painting {
  #progress = new Progress();
  #waiting = new AbortController();
  #total = 0; // of steps, once they are known
  #queue = null; // what asks for the place in it, until painting begins

  /** The job, null until the server has taken it. */
  id = null;

  /** Paint an order. Returns {job, files}, or null where it was cancelled. Throws Refused, Unreachable, and Error for what failed. */
  paint(order) {
    this.#progress.say("Sending");
    return this.#watch(paint(order, this.#waiting.signal));
  }

  /** Go on with a job that was sent earlier. Returns and throws as `paint` does. */
  resume(id) {
    this.id = id;
    this.#progress.say("Looking for your job");
    if (this.#waiting.signal.aborted) cancel(id); // given up while the server wanted a token
    return this.#watch(follow(id, this.#waiting.signal));
  }

  /** Give it up; `paint` returns when it has ended. */
  async cancel() {
    this.#waiting.abort();
    this.#queue = null;
    this.#progress.say("Cancelling");
    if (this.id) await cancel(this.id);
  }

  async #watch(states) {
    try {
      for await (const state of states) {
        if (state.kind === "done") return state;
        if (state.kind === "cancelled") return null;
        if (state.kind === "failed") throw new Error(state.message);
        this.#show(state);
      }
      throw new Unreachable();
    } catch (error) {
      if (error.name === "AbortError") return null;
      throw error;
    } finally {
      this.#queue = null;
      this.#progress.end();
    }
  }

  #show(state) {
    const shows = {
      full: () => this.#progress.say(`The server is busy. Trying again in ${Math.ceil(state.seconds)} s`),
      sent: () => this.#sent(state.id),
      connected: () => this.#wait(),
      started: () => this.#start(state.total),
      step: () => this.#progress.step(state.step, state.total),
      preview: () => this.#preview(state),
      lost: () => this.#progress.say("The connection is lost. Looking for your job"),
    };
    this.#queue = null;
    if (state.kind === "started") announce("Painting");
    shows[state.kind]();
  }

  #start(total) {
    this.#total = total;
    this.#progress.say("Painting");
  }

  /** Steps that follow each other quickly are not all told; previews are, and they know their step. */
  #preview({ step, pictures }) {
    showPreview(pictures);
    if (this.#total) this.#progress.step(step, this.#total);
  }

  #sent(id) {
    this.id = id;
    if (this.#waiting.signal.aborted) cancel(id); // given up while it was being sent
  }

  /** Show the place in the queue until painting begins: the server tells at once when it has. */
  async #wait() {
    if (this.#waiting.signal.aborted) return;
    this.#progress.say("Waiting for the server");
    const queue = (this.#queue = {});
    for (;;) {
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      if (this.#queue !== queue) return;
      const place = await position(this.id).catch(() => 0);
      if (this.#queue === queue && place) this.#progress.say(place === 1 ? "Next in the queue" : `In the queue: number ${place}`);
    }
  }
}

/** Return what to tell of an error. */
export function reasonOf(error) {
  if (error instanceof Unreachable) return "The server cannot be reached. Is it running? Your settings and pictures are kept.";
  if (!(error instanceof Refused)) return error.message;
  if (error.status === 429) return `The server stays busy: ${error.message}`;
  if (error.status === 404 && byId("model").value) return `The server does not know this any longer: ${error.message}`;
  return error.message;
}
