/** The page of one's sessions: ends one, or all but this one. */

import { jsonOf, api } from "../bff/bff.js";
import { $, call, removeFocused, telling } from "./page.js";

const status = $("sessions-status");
const endOthers = $("end-others");
/** @type {HTMLElement[]} */
const others = [...$("sessions").children].filter((item) => item.querySelector("button"));

/** @param {HTMLElement} item */
async function end(item) {
  const response = await api.fetch(`/bff/sessions/${item.dataset.id}`, { method: "DELETE" });
  if (response.status !== 404) await jsonOf(response); // 404: it is over already
  forget(item);
  return `Ended: ${item.querySelector(".device")?.textContent}.`;
}

async function endAll() {
  await call("/bff/sessions", { method: "DELETE" });
  others.slice().forEach(forget);
  return "You are signed out everywhere else.";
}

/** @param {HTMLElement} item */
function forget(item) {
  others.splice(others.indexOf(item), 1);
  removeFocused(item, $("main"));
  endOthers.hidden = !others.length;
}

for (const item of others) {
  const button = /** @type {HTMLButtonElement} */ (item.querySelector("button"));
  button.hidden = false;
  button.addEventListener("click", () => telling(status, () => end(item)));
}
endOthers.hidden = !others.length;
endOthers.addEventListener("click", () => telling(status, endAll));
