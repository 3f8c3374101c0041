/** The to-do list: adds and deletes by calling the API at /api. */

import { $, call, removeFocused, report } from "./page.js";

/** @typedef {{id: string | number, title: string, done: boolean}} Todo */

const list = $("todos");
const status = $("todo-status");

/** @param {Todo} todo */
function row(todo) {
  const item = $("todo-template").content.firstElementChild.cloneNode(true);
  const [title, done, button] = item.children;
  title.textContent = todo.title;
  title.classList.toggle("done", todo.done);
  done.hidden = !todo.done;
  button.hidden = false;
  button.setAttribute("aria-label", `Delete “${todo.title}”`);
  button.addEventListener("click", () => report(status, () => remove(todo, item)));
  return item;
}

function showWhetherEmpty() {
  $("todos-empty").hidden = list.children.length > 0;
}

async function load() {
  /** @type {Todo[]} */
  const todos = await call("/api/todos");
  list.replaceChildren(...todos.map(row));
  showWhetherEmpty();
  return "";
}

/** @param {Todo} todo @param {HTMLElement} item */
async function remove(todo, item) {
  await call(`/api/todos/${encodeURIComponent(todo.id)}`, { method: "DELETE" });
  removeFocused(item, $("todo-title"));
  showWhetherEmpty();
  return `Deleted “${todo.title}”.`;
}

/** @param {HTMLFormElement} form */
async function add(form) {
  const title = String(new FormData(form).get("title")).trim();
  if (!title) return "Write what there is to do.";
  const headers = { "Content-Type": "application/json" };
  const todo = await call("/api/todos", { method: "POST", headers, body: JSON.stringify({ title }) });
  list.append(row(todo));
  showWhetherEmpty();
  form.reset();
  return `Added “${todo.title}”.`;
}

$("todo-form").hidden = false;
$("todo-form").addEventListener("submit", (/** @type {Event} */ event) => {
  event.preventDefault();
  report(status, () => add($("todo-form")));
});
report(status, load);
