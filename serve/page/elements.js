// Elements of the page: found by id, or made.

export const byId = (id) => document.getElementById(id);

/** Make an element; `properties` are set on it, those that are not properties (aria-*, for, ...) as attributes. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Make a button that calls `action` when it is pressed. */
export function button(text, action, className = "plain") {
  const made = make("button", { type: "button", className }, text);
  made.addEventListener("click", action);
  return made;
}
