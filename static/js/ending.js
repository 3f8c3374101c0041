/** For every page of a signed-in user: warns before the session ends, and offers to stay signed in. */

import { on, user } from "../bff/bff.js";
import { $, report } from "./page.js";

const notice = $("session-ending");
const [text, button] = notice.children;
let endsAt = 0;

async function stay() {
  const claims = await user(); // a request like any other: it prolongs the session, up to a limit
  const isLonger = Date.now() + (claims?.["bff:session_expires_in"] ?? 0) * 1000 > endsAt + 1000;
  button.hidden = true;
  $("main").focus();
  return isLonger ? "You stay signed in." : "This session cannot last longer. Please sign in again when it is over.";
}

on("ending", ({ detail }) => {
  endsAt = Date.now() + detail.expires_in * 1000;
  text.textContent = "Your session is about to end.";
  notice.hidden = button.hidden = false;
});
button.addEventListener("click", () => report(text, stay));
