/** The page of your sessions: ends one, or all others. */

import { api, jsonOf } from "../bff/bff.js";
import { $, call, removeFocused, report } from "./page.js";

const status = $("sessions-status");
const endOthers = $("end-others");
/** @type {HTMLElement[]} */
const others = [...$("sessions").children].filter((item) => item.querySelector("button"));

/** @param {HTMLElement} item */
async function end(item) {
  const response = await api.fetch(`/bff/sessions/${item.dataset.id}`, { method: "DELETE" });
  if (response.status !== 404) await jsonOf(response); // 404: it has ended already
  forget(item);
  return `Signed out: ${item.querySelector(".device")?.textContent}.`;
}

async function endAll() {
  if (!confirm("Sign out all other browsers? They lose access at once.")) return "";
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
  button.addEventListener("click", () => report(status, () => end(item)));
}
endOthers.hidden = !others.length;
endOthers.addEventListener("click", () => report(status, endAll));
