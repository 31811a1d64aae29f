// The token that a server asks for: a field that appears when it answers 401.

import { setToken, hasToken } from "./api.js";
import { byId } from "./elements.js";

/** Show the field and wait for a token, which is kept until the window is closed. */
export function askForToken() {
  const door = byId("door");
  byId("door-text").textContent = hasToken()
    ? "The server did not take this token. Try another one."
    : "This server asks for a token. Whoever runs it has one for you.";
  door.hidden = false;
  byId("token").value = "";
  byId("token").focus();
  return new Promise((resolve) => {
    door.onsubmit = (event) => {
      event.preventDefault();
      setToken(byId("token").value.trim());
      door.hidden = true;
      byId("prompt").focus();
      resolve();
    };
  });
}
