/** The moving parts of the account page: the session's clock, the API's answer, the to-do list. */

import { on, user } from "../bff/bff.js";
import { $, call, removeFocused, telling } from "./page.js";

const ASK_SECONDS = 60;

/**
 * A copy of the one element inside a template.
 *
 * @param {string} id
 * @returns {HTMLElement}
 */
const copyOf = (id) => $(id).content.firstElementChild.cloneNode(true);

// The session ------------------------------------------------------------------------------------

/** The same words as `duration` in templates/account.html. @param {number} seconds */
function duration(seconds) {
  const minutes = Math.floor((seconds % 3600) / 60);
  if (seconds >= 3600) return `${Math.floor(seconds / 3600)} h` + (minutes ? ` ${minutes} min` : "");
  if (seconds >= 60) return `${minutes} min`;
  return `${seconds} s`;
}

function watchSession() {
  const time = $("session-time");
  const stay = $("session-stay");
  let endsAt = 0;
  let askAt = 0;

  /** @param {number} seconds */
  function lasts(seconds) {
    endsAt = Date.now() + seconds * 1000;
    askAt = Math.min(Date.now() + ASK_SECONDS * 1000, endsAt + 1000);
  }

  /** @param {{slide: boolean}} options */
  async function ask(options) {
    askAt = Date.now() + ASK_SECONDS * 1000;
    const claims = await user(options);
    if (!claims) return; // static/bff/session.js hears of that, and leaves
    lasts(claims["bff:session_expires_in"]);
  }

  function tick() {
    const text = duration(Math.max(0, Math.round((endsAt - Date.now()) / 1000)));
    if (time.textContent !== text) time.textContent = text;
    // Not to be reached is not the end of the session: count on and ask again.
    if (Date.now() >= askAt) ask({ slide: false }).catch(() => {});
  }

  async function prolong() {
    const before = endsAt;
    await ask({ slide: true });
    const isLonger = endsAt > before + 1000;
    stay.hidden = isLonger;
    if (isLonger) $("main").focus();
    return isLonger ? "You stay signed in." : "This session cannot last longer. Please sign in again when it is over.";
  }

  lasts(Number(time.dataset.seconds));
  setInterval(tick, 1000);
  stay.addEventListener("click", () => telling($("session-status"), prolong));
  on("ending", ({ detail }) => {
    lasts(detail.expires_in);
    stay.hidden = false;
    $("session-status").textContent = "Your session is about to end.";
  });
}

// The API's answer -------------------------------------------------------------------------------

/** @param {Record<string, unknown>} answer */
function showAnswer(answer) {
  const said = Object.entries(answer).filter(([, value]) => value !== "");
  const facts = said.map(([name, value]) => {
    const fact = copyOf("fact-template");
    fact.children[0].textContent = name;
    fact.children[1].textContent = typeof value === "string" ? value : JSON.stringify(value);
    return fact;
  });
  $("api-answer").replaceChildren(...facts);
}

function offerAnotherCall() {
  const button = $("api-again");
  button.hidden = false;
  button.addEventListener("click", () =>
    telling($("api-status"), async () => {
      showAnswer(await call("/api/echo"));
      return `Answered at ${new Date().toLocaleTimeString()}.`;
    }),
  );
}

// The to-do list ---------------------------------------------------------------------------------

/** @typedef {{id: string | number, title: string, done: boolean}} Todo */

/** @param {Todo} todo */
function todoItem(todo) {
  const item = copyOf("todo-template");
  const [title, done, button] = /** @type {any} */ (item.children);
  title.textContent = todo.title;
  done.hidden = !todo.done;
  button.hidden = false;
  button.setAttribute("aria-label", `Delete “${todo.title}”`);
  button.addEventListener("click", () => telling($("todo-status"), () => remove(todo, item)));
  return item;
}

/** @param {Todo} todo @param {HTMLElement} item */
async function remove(todo, item) {
  await call(`/api/todos/${encodeURIComponent(todo.id)}`, { method: "DELETE" });
  removeFocused(item, $("todo-title"));
  return `Deleted “${todo.title}”.`;
}

async function load() {
  /** @type {Todo[]} */
  const todos = await call("/api/todos");
  $("todos").replaceChildren(...todos.map(todoItem));
  return todos.length ? "" : "Nothing to do.";
}

/** @param {HTMLFormElement} form */
async function add(form) {
  const title = String(new FormData(form).get("title")).trim();
  if (!title) return "Write what there is to do.";
  const todo = await call("/api/todos", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ title }),
  });
  $("todos").append(todoItem(todo));
  form.reset();
  return `Added “${todo.title}”.`;
}

function offerTodos() {
  const form = $("todo-form");
  form.hidden = false;
  form.addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    telling($("todo-status"), () => add(form));
  });
  telling($("todo-status"), load);
}

watchSession();
offerAnotherCall();
offerTodos();
