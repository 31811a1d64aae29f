// What the page says of how things go: progress, trouble, and aloud for those who do not see it.

import { byId } from "./elements.js";

const ALOUD_MS = 5000; // between announcements of progress

/** Say something to screen readers alone, when they have finished speaking. */
export function announce(text) {
  byId("announcer").textContent = text;
}

let isMistake = false; // what the trouble tells of

/** Show an error until `clearTrouble`; it is announced at once. */
export function showTrouble(text) {
  const trouble = byId("trouble");
  trouble.textContent = text;
  trouble.hidden = false;
  isMistake = false;
}

/** Show what is to be mended or still missing, until `clearMistake`. */
export function showMistake(text) {
  showTrouble(text);
  isMistake = true;
}

/** Something was changed: what was said of a mistake need not be true any longer. */
export function clearMistake() {
  if (isMistake) clearTrouble();
}

export function clearTrouble() {
  isMistake = false;
  byId("trouble").hidden = true;
  byId("trouble").textContent = "";
}

/** Return seconds as people say them. */
export function duration(seconds) {
  if (seconds < 1) return "less than a second";
  if (seconds < 1.5) return "1 second";
  if (seconds < 90) return `${Math.round(seconds)} seconds`;
  return `${Math.round(seconds / 60)} minutes`;
}

/** The bar, its text and the window's title while a job is under way. */
export class Progress {
  #spokenAt = 0;
  #startedAt = null;
  #firstStep = 0;

  /** Show a text without a number of steps: waiting, sending, decoding. */
  say(text) {
    byId("progress-row").hidden = false;
    byId("progress").removeAttribute("value");
    byId("progress-text").textContent = text;
    document.title = "… sd2rt";
    if (performance.now() - this.#spokenAt > ALOUD_MS) this.#speak(text);
  }

  /** Show step `step` of `total`, and how long the rest is going to take. */
  step(step, total) {
    if (this.#startedAt === null) [this.#startedAt, this.#firstStep] = [performance.now(), step];
    byId("progress-row").hidden = false;
    byId("progress").max = total;
    byId("progress").value = step;
    const text = `Step ${step} of ${total}${this.#rest(step, total)}`;
    byId("progress-text").textContent = text;
    document.title = `${Math.round((100 * step) / total)} % sd2rt`;
    if (performance.now() - this.#spokenAt > ALOUD_MS) this.#speak(text);
  }

  end() {
    byId("progress-row").hidden = true;
    document.title = "sd2rt";
  }

  #rest(step, total) {
    const done = step - this.#firstStep;
    if (done < 1 || step === total) return "";
    const seconds = ((performance.now() - this.#startedAt) / 1000 / done) * (total - step);
    return `, ${duration(seconds)} left`;
  }

  #speak(text) {
    this.#spokenAt = performance.now();
    announce(text);
  }
}
