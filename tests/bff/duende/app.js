// All that a front end for Duende.BFF asks of its server, as the documentation of that has it: nothing here is
// written for another one. It calls no function of ours.

const headers = { "X-CSRF": "1" };
const show = (id, text) => (document.getElementById(id).textContent = text);
let claims = null;

async function loadUser() {
  const answer = await fetch(new Request("/bff/user?slide=false", { headers }));
  if (answer.status === 401) {
    claims = null;
    show("user", "nobody");
    return;
  }
  claims = await answer.json();
  show("user", claims?.find((claim) => claim.type === "name")?.value ?? "nobody");
  const rows = claims.map(({ type, value }) => {
    const row = document.createElement("tr");
    for (const text of [type, value]) row.insertCell().textContent = text.toString().concat(); // a string, or a number
    return row;
  });
  document.getElementById("claims").replaceChildren(...rows);
}

const claim = (type) => claims.find((each) => each.type === type)?.value;

/** What a page shows with `claim.value.toLowerCase()`, and React with `{claim.value}`: a string. */
function areStrings() {
  return claims.filter(({ type }) => type !== "bff:session_expires_in").every(({ value }) => value.toLowerCase);
}

function silentLogin(path) {
  return new Promise((resolve) => {
    window.addEventListener("message", ({ origin, data }) => {
      if (origin !== location.origin || data?.source !== "bff-silent-login") return;
      show("silent", `signed in: ${data.isLoggedIn}`);
      resolve(data.isLoggedIn);
    }, { once: true });
    document.getElementById("bff-silent-login").src = path;
  });
}

async function call(path, init = {}) {
  const answer = await fetch(path, { ...init, headers: { ...headers, "Content-Type": "application/json" } });
  show("answer", String(answer.status));
  return answer.ok ? answer.text() : answer.status;
}

/** The loop of a page that waits for the end of the session. */
async function watch() {
  const answer = await fetch("/bff/user?slide=false", { headers });
  if (answer.status === 401) show("user", "signed out elsewhere");
  else setTimeout(watch, 200);
}

addEventListener("DOMContentLoaded", () => {
  const on = (id, click) => document.getElementById(id).addEventListener("click", click);
  on("login", () => (window.location = "/bff/login"));
  on("again", () => (window.location = `/bff/login?prompt=login&returnUrl=${location.pathname}`));
  on("logout", () => (window.location = `${claim("bff:logout_url")}&returnUrl=/bye`));
  on("call", () => call("/api/todos", { method: "POST", body: JSON.stringify({ title: "Tea" }) }));
  loadUser();
});
