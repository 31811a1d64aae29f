// A mask as the strokes that made it, so that each can be taken back. Knows no pointer and no key.

const LEAST_SIDE = 512; // of the longer side, in pixels of the mask: strokes on a tiny picture stay round
const MOST_SIDE = 1024;
const COLOUR = "#d6249f";
const SAMPLE = 64; // pixels a side that the coverage is counted on

/** Draws on a canvas; what is drawn is painted anew. A stroke: {points: [[x, y], ...], size, erase}, {clear: true} or {image}. */
export class Strokes {
  #canvas;
  #context;
  #done = [];
  #undone = [];
  #current = null; // the stroke that is being made

  constructor(canvas) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d");
  }

  get canUndo() {
    return this.#done.length > 0;
  }

  get canRedo() {
    return this.#undone.length > 0;
  }

  /** Begin anew, for a picture of this size. */
  fit(width, height) {
    const longer = Math.max(width, height);
    const scale = Math.min(Math.max(longer, LEAST_SIDE), MOST_SIDE) / longer;
    this.#canvas.width = Math.max(1, Math.round(width * scale));
    this.#canvas.height = Math.max(1, Math.round(height * scale));
    [this.#done, this.#undone, this.#current] = [[], [], null];
  }

  /** Begin a stroke at a point; `extend` goes on with it, until something else changes the mask. */
  begin(point, size, erase) {
    const stroke = { points: [point], size, erase };
    this.#add(stroke);
    this.#current = stroke;
  }

  extend(point) {
    const stroke = this.#current;
    if (!stroke) return;
    stroke.points.push(point);
    this.#line(stroke, stroke.points.slice(-2));
  }

  clear() {
    this.#add({ clear: true });
  }

  /** Take an uploaded mask, white where to paint, in place of what is there. */
  load(bitmap) {
    const { width, height } = this.#canvas;
    const copy = new OffscreenCanvas(width, height);
    const context = copy.getContext("2d");
    context.drawImage(bitmap, 0, 0, width, height);
    const pixels = context.getImageData(0, 0, width, height);
    const [red, green, blue] = [1, 3, 5].map((at) => Number.parseInt(COLOUR.slice(at, at + 2), 16));
    for (let i = 0; i < pixels.data.length; i += 4) {
      const gray = (pixels.data[i] + pixels.data[i + 1] + pixels.data[i + 2]) / 3;
      pixels.data.set([red, green, blue, gray * (pixels.data[i + 3] / 255) >= 128 ? 255 : 0], i);
    }
    context.putImageData(pixels, 0, 0);
    this.#add({ image: copy });
  }

  undo() {
    if (this.canUndo) this.#undone.push(this.#done.pop());
    this.#redraw();
  }

  redo() {
    if (this.canRedo) this.#done.push(this.#undone.pop());
    this.#redraw();
  }

  /** Return the part of the picture that is covered, 0 to 1. */
  coverage() {
    const context = new OffscreenCanvas(SAMPLE, SAMPLE).getContext("2d");
    context.drawImage(this.#canvas, 0, 0, SAMPLE, SAMPLE);
    const { data } = context.getImageData(0, 0, SAMPLE, SAMPLE);
    let sum = 0;
    for (let i = 3; i < data.length; i += 4) sum += data[i];
    return sum / 255 / SAMPLE ** 2;
  }

  /** Return the mask as a PNG file, white where it is covered and black elsewhere. */
  async file() {
    const { width, height } = this.#canvas;
    const copy = new OffscreenCanvas(width, height);
    const context = copy.getContext("2d");
    context.drawImage(this.#canvas, 0, 0);
    for (const [operation, colour] of [["source-in", "#fff"], ["destination-over", "#000"]]) {
      context.globalCompositeOperation = operation;
      context.fillStyle = colour;
      context.fillRect(0, 0, width, height);
    }
    return copy.convertToBlob({ type: "image/png" });
  }

  #add(stroke) {
    this.#done.push(stroke);
    [this.#undone, this.#current] = [[], null];
    this.#draw(stroke);
  }

  #redraw() {
    this.#current = null;
    this.#context.clearRect(0, 0, this.#canvas.width, this.#canvas.height);
    for (const stroke of this.#done) this.#draw(stroke);
  }

  #draw(stroke) {
    if (stroke.points) return this.#line(stroke, stroke.points);
    this.#context.clearRect(0, 0, this.#canvas.width, this.#canvas.height);
    if (stroke.image) this.#context.drawImage(stroke.image, 0, 0);
  }

  #line({ size, erase }, points) {
    const context = this.#context;
    context.globalCompositeOperation = erase ? "destination-out" : "source-over";
    context.strokeStyle = COLOUR;
    context.lineWidth = size;
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    context.moveTo(...points[0]);
    for (const point of points) context.lineTo(...point); // the first one too: a line to itself is a dot
    context.stroke();
    context.globalCompositeOperation = "source-over";
  }
}
