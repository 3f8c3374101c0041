/** For a single-page app: who is signed in here, and that the end of the session, in whichever window, empties the app. */

import { on, user } from "./bff.js";

/** @type {import("./spa.d.ts").SessionState} */
let state = { user: undefined };
/** @type {Set<() => void>} */
const listeners = new Set();
let hasStarted = false;

const windows = new BroadcastChannel("session"); // session.js, on pages, uses it too
/** Differs from session to session. */
const key = () => state.user?.["bff:logout_url"] ?? "";

/** A store, as React's useSyncExternalStore takes one. */
export const session = {
  get: () => state,

  /** @param {() => void} listener  called after each change @returns what ends that */
  subscribe(listener) {
    listeners.add(listener);
    if (!hasStarted) start();
    hasStarted = true;
    return () => listeners.delete(listener);
  },

  /** Reads the user's claims again. @param {{slide?: boolean}} [options]  as of `user()` */
  async refresh(options) {
    const claims = await user(options);
    if (claims && state.user && claims.sub !== state.user.sub) {
      location.reload(); // nothing of the other user stays
      return null;
    }
    if (claims || state.user) become(claims ? { user: claims } : { user: null, reason: "" });
    return claims;
  },
};

/** @param {typeof state} next */
function become(next) {
  state = next;
  listeners.forEach((listener) => listener());
}

async function start() {
  try {
    become({ user: await user() });
  } catch (error) {
    become({ user: undefined, error });
  }
  if (state.user) watch();
}

function watch() {
  on("changed", look);
  on("ended", ({ detail }) => become({ user: null, reason: detail.reason ?? "" }));

  // A hidden window has no event stream; other windows reach it here.
  windows.onmessage = ({ data }) => {
    if (state.user) data !== key() && look();
    else if (data && sessionStorage.reloadedFor !== data) {
      sessionStorage.reloadedFor = data; // once for a session: an app that stays signed out must not reload for ever
      location.reload();
    }
  };
  windows.postMessage(key());

  // What the back button restores is loaded again.
  addEventListener("pagehide", () => (document.body.hidden = true));
  addEventListener("pageshow", ({ persisted }) => persisted && location.reload());
}

async function look() {
  // An unreachable server is not the end of the session.
  if (await session.refresh({ slide: false }).catch(() => null)) windows.postMessage(key());
}
