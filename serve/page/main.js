// The page as a whole: what happens when something is pressed. Talks to no server by itself.

import { Refused, Unreachable, getJson } from "./api.js";
import { askForToken } from "./door.js";
import { byId, button } from "./elements.js";
import { Form } from "./form.js";
import { Gallery } from "./gallery.js";
import { forget, unfinished } from "./job.js";
import { ACTION_OF_TASK } from "./models.js";
import { announce, clearTrouble, showMistake, showTrouble } from "./notices.js";
import { Painting, reasonOf } from "./painting.js";
import { showBeginning, showExamples, showPictures } from "./result.js";
import { Missing, Source } from "./source.js";
import { Viewer, download } from "./viewer.js";

const STARTING_MS = 1000; // between questions to a server that has no models yet
const form = new Form();
const source = new Source(() => form.choose("image"));
const gallery = new Gallery((record) => viewer.show(record));
const viewer = new Viewer(gallery, actions);
let painting = null;
let isBusy = false; // with what `alone` does
let latest = { records: [], notes: [] }; // what is shown in the middle

/** Do one thing at a time: what is asked for while another goes on, a second press of the keys, is not done. */
async function alone(act) {
  if (isBusy) return;
  isBusy = true;
  try {
    await act();
  } finally {
    isBusy = false;
  }
}

/** Do what asks the server; where it wants a token, ask for one and do it again. */
async function withToken(act) {
  for (;;) {
    try {
      return await act();
    } catch (error) {
      if (!(error instanceof Refused && error.status === 401)) throw error;
      await askForToken();
    }
  }
}

/** Return the buttons of a finished picture; `close` is called first. */
function actions(record, close = () => {}) {
  const does = (text, act) => button(text, () => (close(), act()));
  const begin = async (action) => {
    form.choose(action);
    await source.take(record.file);
    byId("source").scrollIntoView({ block: "nearest" });
    byId("prompt").focus({ preventScroll: true });
  };
  const use = () => {
    form.use(record.parameters);
    byId("settings").open = true;
    byId("prompt").focus();
    announce("Settings taken over");
  };
  const offered = (action) => !document.querySelector(`[name=action][value=${action}]`).closest("label").hidden;
  return [
    button("Download", () => download(record)),
    ...(offered(ACTION_OF_TASK[record.parameters.task]) ? [does("Use these settings", use)] : []),
    ...(offered("image") ? [does("Use as picture", () => begin("image"))] : []),
    ...(offered("repaint") ? [does("Repaint a part", () => begin("repaint"))] : []),
    ...(offered("upscale") && record.parameters.task !== "upscaling" ? [does("Upscale", () => begin("upscale"))] : []),
  ];
}

/** Show that a job is under way, or that none is. */
function setBusy(busy) {
  const had = document.activeElement;
  byId("paint").hidden = busy;
  byId("cancel").hidden = !busy;
  if (had === byId("paint")) byId("cancel").focus();
  if (had === byId("cancel")) byId("paint").focus();
}

/** Run a painting to its end; `begin` is called with it and returns what it comes to. What was sent is not sent again. */
async function run(begin) {
  clearTrouble();
  painting = new Painting();
  setBusy(true);
  showBeginning();
  try {
    const done = await withToken(() => (painting.id ? painting.resume(painting.id) : begin(painting)));
    if (done) await keep(done);
    else announce("Cancelled");
    forget();
  } catch (error) {
    if (!(error instanceof Unreachable)) forget(); // else a reload looks for it again
    showTrouble(reasonOf(error));
  }
  painting = null;
  setBusy(false);
  showLatest();
}

async function keep({ job, files }) {
  const records = [];
  for (const [index, file] of files.entries()) {
    const parameters = { ...job.images[index].parameters, offered: job.model };
    records.push(await gallery.add({ created: job.ended * 1000, seconds: job.ended - job.started, parameters, file }));
  }
  latest = { records, notes: job.notes };
  byId("seed-again").value = job.seeds[0];
  byId("seed-again").disabled = false;
  announce(`Done. ${records.length === 1 ? "One picture" : `${records.length} pictures`}`);
}

/** Show what was painted last, prompts to try before anything was: after a painting that came to nothing, too. */
function showLatest() {
  if (latest.records.length) return showPictures(latest.records, latest.notes, (record) => viewer.show(record), actions);
  return showExamples(form.model, (prompt) => {
    form.set({ prompt });
    byId("prompt").focus();
  });
}

async function start() {
  if (!form.model) return offerModels(); // the server could not be reached before
  clearTrouble();
  if (!form.check()) return;
  if (!byId("prompt").value.trim() && form.action !== "upscale") {
    showMistake("Say what to paint first.");
    byId("prompt").focus();
    return;
  }
  try {
    const order = form.order(await source.order());
    if (matchMedia("(max-width: 56rem)").matches) byId("result").scrollIntoView();
    await run((begun) => begun.paint(order));
  } catch (error) {
    if (!(error instanceof Missing)) throw error;
    showMistake(error.message);
    error.focus();
  }
}

addEventListener("keydown", (event) => {
  if (event.isComposing || event.defaultPrevented || document.querySelector("dialog[open]")) return;
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    alone(start);
  } else if (event.key === "Escape" && event.target.tagName !== "SELECT") { // there it closes the list
    painting?.cancel();
  }
});
byId("order").addEventListener("submit", (event) => (event.preventDefault(), alone(start)));
byId("cancel").addEventListener("click", () => painting?.cancel());
form.addEventListener("change", () => {
  source.show(form.action, form.model);
  if (!latest.records.length && !painting) showLatest();
});

/** Return what the server offers, as soon as it offers anything. */
async function readModels() {
  const read = async () => (await withToken(() => getJson("v1/models"))).data;
  let models = await read();
  if (models.length === 0) showTrouble("The server is still starting. This page waits for it.");
  while (models.length === 0) {
    await new Promise((resolve) => setTimeout(resolve, STARTING_MS));
    models = await read();
  }
  clearTrouble();
  return models;
}

async function offerModels() {
  clearTrouble();
  try {
    const models = await readModels();
    form.offer(models, models[0].samplers);
  } catch (error) {
    showTrouble(reasonOf(error));
    return;
  }
  const job = unfinished();
  if (job) await run((begun) => begun.resume(job));
}

await gallery.restore();
await alone(offerModels);
