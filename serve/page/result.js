// The picture in the middle: prompts to try, the preview while it is painted, the finished pictures and what can be done with them.

import { byId, button, make } from "./elements.js";
import { examplesFor } from "./models.js";

const SMALL = 256; // pixels of width: smaller pictures are enlarged without smoothing
const shown = [];

/** Make an image element of a URL. */
function image(url, alt) {
  const element = make("img", { src: url, alt });
  element.addEventListener("load", () => {
    element.classList.toggle("tiny", element.naturalWidth < SMALL);
    const sized = element.closest(".framed") ?? element;
    sized.style.setProperty("--ratio", element.naturalWidth / element.naturalHeight);
  });
  return element;
}

function show(elements) {
  for (const url of shown.splice(0)) URL.revokeObjectURL(url);
  byId("pictures").replaceChildren(...elements);
  byId("pictures").classList.toggle("several", elements.length > 1);
  byId("pictures").classList.remove("painting");
}

function frame(record, url, open) {
  const { prompt, seed } = record.parameters;
  const framed = button("", () => open(record), "framed");
  framed.setAttribute("aria-label", `Open the picture of seed ${seed}: ${prompt || "no prompt"}`);
  framed.append(image(url, prompt || "Upscaled picture"));
  return framed;
}

function showBelow({ caption = "", buttons = [], notes = [] }) {
  byId("caption").textContent = caption;
  byId("caption").hidden = !caption;
  byId("result-buttons").replaceChildren(...buttons);
  byId("result-buttons").hidden = buttons.length === 0;
  byId("notes").replaceChildren(...notes.map((note) => make("li", {}, note)));
  byId("notes").hidden = notes.length === 0;
}

/** Show prompts to begin with; `choose` is called with the one that is pressed. */
export function showExamples(model, choose) {
  const examples = examplesFor(model).map((prompt) => make("li", {}, button(prompt, () => choose(prompt), "example")));
  show([make("div", { className: "empty" }, make("p", {}, "Say what to paint. For example:"), make("ul", {}, ...examples))]);
  showBelow({});
}

/** Show that painting has begun: what is there becomes faint until the first preview. */
export function showBeginning() {
  byId("pictures").classList.add("painting");
  showBelow({});
}

/** Show unfinished pictures, one URL each. */
export function showPreview(urls) {
  const there = byId("pictures").querySelectorAll("img.unfinished");
  if (there.length === urls.length) {
    there.forEach((element, index) => (element.src = urls[index]));
    return;
  }
  const elements = urls.map((url) => image(url, "Unfinished picture"));
  for (const element of elements) element.classList.add("unfinished");
  show(elements);
  byId("pictures").classList.add("painting");
}

/** Show finished pictures. `open` is called with the record that is pressed, `actions` makes the buttons below a single one. */
export function showPictures(records, notes, open, actions) {
  const urls = records.map(({ file }) => URL.createObjectURL(file));
  show(records.map((record, index) => frame(record, urls[index], open)));
  shown.push(...urls);
  const seeds = records.map(({ parameters }) => parameters.seed).join(", ");
  const caption = `${records.length > 1 ? "Seeds" : "Seed"} ${seeds}, painted in ${records[0].seconds.toFixed(1)} s.`;
  showBelow({ caption, notes, buttons: records.length === 1 ? actions(records[0]) : [] });
}
