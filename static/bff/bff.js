/** No token passes here. */

/** The JSON of an answer, or null; throws one that is not ok. @param {Response} answer */
export async function jsonOf(answer) {
  const said = await answer.json().catch(() => null);
  if (answer.ok) return said;
  throw Object.assign(new Error(said?.detail ?? `Status ${answer.status}`), said);
}

/** The claims, or null. `slide: false` does not prolong the session. */
export async function user({ slide = true } = {}) {
  const answer = await send(`/bff/user?typed=true&slide=${slide}`);
  const entries = answer.status !== 401 && await jsonOf(answer);
  if (!entries) return null;
  const claims = Object.create(null);
  for (const { type, value } of entries) {
    claims[type] = type in claims ? [claims[type], value].flat() : value;
  }
  return claims;
}

async function request(path, init, retries = 2) {
  const answer = await send(path, init);
  if (answer.ok) return answer;
  const { code, login_url } = await jsonOf(answer.clone()).catch((said) => said);
  const wait = parseInt(answer.headers.get("Retry-After"));
  const safe = answer.status < 500 || (init?.method ?? "GET") === "GET";
  if (/provider_un|too_many_r/.test(code) && safe && retries && wait <= 10) {
    await sleep(wait);
    return request(path, init, retries - 1);
  }
  const key = `bff:${code}`;
  const inVain = Date.now() - sessionStorage[key] < 3e4;
  if (answer.status !== 401 || inVain || !login_url?.startsWith("/bff/login")) return answer;
  sessionStorage[key] = Date.now();
  login(undefined, Object.fromEntries(new URLSearchParams(login_url.split("?")[1])));
  return new Promise(() => {});
}

/** `fetch()` for this site; goes to log in, and back, if need be. */
export const api = { fetch: request };

/** Params: prompt, login_hint, acr_values, max_age. */
export function login(returnUrl = location.href.slice(origin.length), params = {}) {
  location.assign(`/bff/login?${new URLSearchParams({ ...params, returnUrl })}`);
}

/** Signs out, at the provider too. */
export async function logout(returnUrl = "/") {
  leaving = true;
  const answer = await send(`/bff/logout?${new URLSearchParams({ returnUrl })}`, { method: "POST" });
  leaving = answer.ok;
  location.assign((await jsonOf(answer)).url);
}

const session = new EventTarget();
let leaving = false, listens;

/**
 * Hears of the session: "ending", "changed", "ended". Returns what stops it.
 * @param {string} type @param {(event: any) => void} handler
 */
export function on(type, handler) {
  session.addEventListener(type, handler);
  listens ??= listen();
  return () => session.removeEventListener(type, handler);
}

async function listen(pause = 2) {
  for (; document.hidden; pause = 3) await sleep(1); // few streams
  try {
    const { ok, status, body } = await send("/bff/events");
    // A stream before this one may have missed a change.
    let text = `session_${status === 401 ? "ended" : ok && pause > 2 ? "changed" : ""}\ndata: {}\n\n`;
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    addEventListener("visibilitychange", () => reader.cancel().catch(() => {}), { once: true });
    if (document.hidden) reader.cancel();
    for (let part; !(part = await reader.read()).done; ok && (pause = 2)) {
      text = (text + part.value).replace(/.+(?=session_ended)/s, "");
      for (let event; (event = /session_(\w+)\ndata: (.+)\n\n/.exec(text)); ) {
        text = text.slice(event.index + event[0].length);
        if (leaving) continue;
        session.dispatchEvent(new CustomEvent(event[1], { detail: JSON.parse(event[2]) }));
        if (event[1] === "ended") return;
      }
    }
  } catch {}
  await sleep(pause * Math.random());
  listen(Math.min(pause * 2, 60));
}

async function send(path, init) {
  const headers = new Headers(init?.headers);
  headers.set("X-CSRF", "1"); // no form can
  return fetch(path, { ...init, headers, mode: "same-origin" });
}

const sleep = (seconds = 0) => new Promise((go) => setTimeout(go, seconds * 1000));
