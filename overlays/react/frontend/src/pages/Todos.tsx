/** The to-dos of an API that app/settings.py forwards to: adds and deletes. */

import { useRef, type SubmitEvent } from "react";

import { call, useJson, useStatus } from "../bff/api";

interface Todo {
  id: number;
  title: string;
  done: boolean;
}

export default function Todos() {
  const [todos, change] = useJson<Todo[]>("/api/todos");
  const [status, run] = useStatus();
  const input = useRef<HTMLInputElement>(null);
  if (!todos) return null;

  const add = async (form: HTMLFormElement) => {
    const title = input.current?.value.trim();
    if (!title) return "Write what there is to do.";
    const headers = { "Content-Type": "application/json" };
    const todo = await call<Todo>("/api/todos", { method: "POST", headers, body: JSON.stringify({ title }) });
    change((all) => [...all, todo]);
    form.reset();
    return `Added “${title}”.`;
  };
  const remove = async ({ id, title }: Todo) => {
    await call(`/api/todos/${id}`, { method: "DELETE" });
    change((all) => all.filter((other) => other.id !== id));
    input.current?.focus();
    return `Deleted “${title}”.`;
  };
  const submit = (event: SubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = event.currentTarget;
    run(() => add(form));
  };

  return (
    <>
      <h1>To-dos</h1>
      <form onSubmit={submit}>
        <label htmlFor="todo-title">New to-do</label>
        <div className="field">
          <input id="todo-title" ref={input} required maxLength={200} autoComplete="off" />
          <button>Add</button>
        </div>
      </form>
      <p className="muted" role="status">{status}</p>
      <ul className="rows" aria-label="Your to-dos">
        {todos.map((todo) => (
          <li key={todo.id}>
            <span className={todo.done ? "done" : ""}>{todo.title}</span>
            {todo.done && <span className="badge">Done</span>}
            <button type="button" className="quiet" aria-label={`Delete “${todo.title}”`} onClick={() => run(() => remove(todo))}>
              Delete
            </button>
          </li>
        ))}
      </ul>
      {!todos.length && <p className="empty">Nothing to do. Enjoy your day!</p>}
    </>
  );
}
