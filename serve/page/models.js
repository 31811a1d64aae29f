// What can be done with the models that the server offers. Knows no element of the page.

/** Which tasks of models an action takes, the best first, and what it says of itself. */
export const ACTIONS = {
  text: { tasks: ["text-to-image"], hint: "Paint what you describe." },
  image: { tasks: ["text-to-image"], hint: "Paint a picture over, after a description.", picture: "a picture" },
  repaint: {
    tasks: ["inpainting", "text-to-image"],
    hint: "Brush over a part of a picture, and describe the whole of it as it should be.",
    picture: "a picture",
  },
  depth: {
    tasks: ["depth-to-image"],
    hint: "Keep the shapes and distances of a picture, or of a depth map (nearer is brighter), and paint the rest anew.",
    mapHint: "Keep the shapes and distances of a depth map (nearer is brighter). It may begin from a picture too.",
    picture: "a picture",
  },
  upscale: { tasks: ["upscaling"], hint: "Make a small picture four times as wide and high.", picture: "a small picture" },
};

/** What the task of a picture's record was to the page. */
export const ACTION_OF_TASK = {
  "text-to-image": "text",
  "image-to-image": "image",
  inpainting: "repaint",
  "depth-to-image": "depth",
  upscaling: "upscale",
};

/** Return the models that can do an action, the best first, each as the server describes it. */
export function modelsFor(action, models) {
  return ACTIONS[action].tasks.flatMap((task) => models.filter((model) => model.task === task));
}

/** Tell whether a model takes a depth map alone, as it cannot estimate depth from a picture. */
export const needsDepth = (model) => model.task === "depth-to-image" && !model.estimates_depth;

/** Return what an action says of itself where a model does it. */
export const hintOf = (action, model) => (needsDepth(model) && ACTIONS[action].mapHint) || ACTIONS[action].hint;

/** Return what a model paints with when nothing is said, as the page's form names it. Its own strength is meant for its own task. */
export function defaultsOf(model, action) {
  const isOwnTask = action !== "repaint" || model.task === "inpainting";
  return {
    width: model.width,
    height: model.height,
    steps: model.steps,
    guidance_scale: model.guidance_scale,
    sampler: model.sampler,
    strength: (isOwnTask ? model.strength : null) ?? (action === "repaint" ? 1 : 0.8),
    noise_level: model.noise_level ?? 20,
  };
}

const SCENES = [
  "a large red sphere on the left and a small blue cube on the right, gray floor",
  "a small yellow cone and a large green cube, pink floor",
  "a large cyan cylinder on the left and a small orange sphere on the right",
];
const PHOTOGRAPHS = [
  "a lighthouse on a cliff at dawn, soft fog, oil painting",
  "a bowl of oranges on a wooden table, morning light, photograph",
  "a small cabin in a snowy forest, warm windows, watercolour",
];

/** Return prompts to try: the embedded demonstration models know coloured solids alone. */
export const examplesFor = (model) => (model.id.startsWith("toyworld") ? SCENES : PHOTOGRAPHS);

const WORDS = { a: "a", euler: "Euler", heun: "Heun", unipc: "UniPC", karras: "Karras", exponential: "Exponential" };

/** Return a sampler's name as people know it: "DPM++ 2M Karras" of "dpm++ 2m karras". */
export const samplerLabel = (name) => name.split(" ").map((word) => WORDS[word] ?? word.toUpperCase()).join(" ");
