/**
 * How a page talks to the server that it came from. No token ever passes here: the browser sends
 * its cookie, the server does the rest.
 *
 * @typedef {{type: string, title: string, status: number, code: string, detail: string,
 *   request_id: string, login_url?: string}} Problem  RFC 9457, as every `/bff` and API route answers
 */

/** Less time than this between two ways to the login page means that logging in did not help. */
const LOOP_SECONDS = 30;

/** A call that failed for the reason that `problem` gives. */
export class ProblemError extends Error {
  /** @param {Problem} problem */
  constructor(problem) {
    super(problem.detail || problem.title || `The server answered ${problem.status}.`);
    this.name = "ProblemError";
    this.problem = problem;
  }
}

/**
 * The claims of the user, or null when nobody is signed in. A claim that occurs more than once is
 * an array. With `slide: false` the question does not keep the session alive.
 *
 * @param {{slide?: boolean}} [options]
 * @returns {Promise<Record<string, any> | null>}
 */
export async function user({ slide = true } = {}) {
  const response = await ownFetch(slide ? "/bff/user" : "/bff/user?slide=false");
  if (response.status === 401) return null;
  if (!response.ok) throw new ProblemError(await problemOf(response));
  const claims = Object.create(null);
  for (const { type, value } of await response.json()) {
    claims[type] = type in claims ? [claims[type], value].flat() : value;
  }
  return claims;
}

/**
 * `fetch()` for the APIs of this site. When the user has to log in (again), the page goes there
 * and comes back to where it is; the promise then never settles. While the provider does not
 * answer, the session is fine and logging in would not help: that rejects with a ProblemError.
 *
 * @param {string} path
 * @param {RequestInit} [init]
 * @returns {Promise<Response>}
 */
export async function apiFetch(path, init) {
  const response = await ownFetch(path, init);
  if (response.status !== 401 || !isProblem(response)) return response;
  const problem = await problemOf(response.clone());
  if (!problem.code || !problem.login_url) return response;
  if (problem.code === "provider_unavailable" || !goToLogin(problem.login_url)) {
    throw new ProblemError(problem);
  }
  return new Promise(() => {});
}

/**
 * What went wrong, of a response that is not `ok`.
 *
 * @param {Response} response
 * @returns {Promise<Problem>}
 */
export async function problemOf(response) {
  const known = isProblem(response) ? await response.json().catch(() => ({})) : {};
  return { ...known, status: response.status };
}

/** @param {Response} response */
function isProblem(response) {
  return (response.headers.get("Content-Type") ?? "").startsWith("application/problem+json");
}

/**
 * @param {string} path
 * @param {RequestInit} [init]
 */
function ownFetch(path, init = {}) {
  const headers = new Headers(init.headers);
  headers.set("X-CSRF", "1"); // a form on another site cannot set a header
  // "same-origin" refuses any other origin before a byte is sent, in redirects too.
  return fetch(path, { ...init, headers, mode: "same-origin", credentials: "same-origin" });
}

/**
 * Says whether the page is on its way to the login page.
 *
 * @param {string} loginUrl
 */
function goToLogin(loginUrl) {
  const url = new URL(loginUrl, location.href);
  // A 401 may come from an API behind this server, which must not send the user anywhere it likes.
  if (url.origin !== location.origin) return false;

  const last = Number(sessionStorage.getItem("bff:login"));
  if (Date.now() - last < LOOP_SECONDS * 1000) return false;
  sessionStorage.setItem("bff:login", String(Date.now()));

  // The server knows which API was called, not which page the user is looking at.
  url.searchParams.set("returnUrl", location.pathname + location.search);
  location.assign(url);
  return true;
}
