/** For every page: one that shows a signed-in user does not outlive the session, in any window. */

import { on, user } from "./bff.js";

const ON_ITS_WAY_SECONDS = 20;

/** Where a page goes when its session has ended. That page sends a browser that is signed in to `returnUrl`. */
const signedOutUrl = document.querySelector("script[data-signed-out]")?.getAttribute("data-signed-out") ?? "/";

/** Different for every session; empty on a page without one. */
const logoutUrl = document.getElementById("sign-out")?.getAttribute("href") ?? "";
const windows = new BroadcastChannel("session");
let onItsWay = false;

/**
 * Empties the page, and shows one that says why.
 *
 * @param {string} [reason]  of the event "ended"
 */
function leave(reason = "") {
  document.body.hidden = true;
  const returnUrl = location.href.slice(origin.length); // with the fragment
  const go = () => location.replace(`${signedOutUrl}?${new URLSearchParams({ reason, returnUrl })}`);
  // The sign-out that was clicked here is still on its way to the provider: let it pass.
  setTimeout(go, onItsWay ? ON_ITS_WAY_SECONDS * 1000 : 0);
}

async function look() {
  // An unreachable server is not the end of the session.
  const claims = await user({ slide: false }).catch(() => undefined);
  if (claims === undefined) return;
  if (claims?.["bff:logout_url"] !== logoutUrl) leave();
  // A signed-out page may have begun to listen after this window was loaded.
  else windows.postMessage(logoutUrl);
}

function watch() {
  on("ended", ({ detail }) => leave(detail.reason));
  addEventListener("beforeunload", () => {
    onItsWay = true;
    setTimeout(() => (onItsWay = false), ON_ITS_WAY_SECONDS * 1000); // it was a download
  });

  // A hidden window has no event stream; other windows reach it here.
  windows.addEventListener("message", ({ data }) => data !== logoutUrl && look());

  // A page that the back button restores is loaded again.
  addEventListener("pagehide", () => (document.body.hidden = true));
  addEventListener("pageshow", ({ persisted }) => persisted && location.reload());
}

function waitForAnotherSignIn() {
  windows.addEventListener("message", ({ data }) => {
    // Once for a session: a page that stays as it is must not reload for ever.
    if (!data || sessionStorage.getItem("reloadedFor") === data) return;
    sessionStorage.setItem("reloadedFor", data);
    location.reload();
  });
}

if (logoutUrl) watch();
else if (location.pathname === signedOutUrl) waitForAnotherSignIn();
windows.postMessage(logoutUrl); // after the listeners: a window of another session answers
