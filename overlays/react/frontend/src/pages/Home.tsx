import { login } from "tornado-bff";
import { Link } from "wouter";

import { useJson } from "../bff/api";
import { ErrorBoundary } from "../bff/ErrorBoundary";
import { useUser } from "../bff/session";

export function Home() {
  const user = useUser();
  if (user === undefined) return null;
  return user ? <Welcome name={user.name ?? user.sub} /> : <Invitation />;
}

function Welcome({ name }: { name: string }) {
  return (
    <>
      <h1>Hello, {name}</h1>
      <p className="lead">You are signed in. The server has your tokens; this browser has a cookie that scripts cannot read.</p>
      <ErrorBoundary><OpenTodos /></ErrorBoundary>
      <p className="actions">
        <Link className="button" href="/todos">Open your to-dos</Link>
        <Link className="button quiet" href="/account">See your account</Link>
      </p>

      <h2>Make it yours</h2>
      <dl className="columns">
        <div>
          <dt>Add a page</dt>
          <dd>Write a component in <code>src/pages</code>, and a route in <code>src/App.tsx</code>.</dd>
        </div>
        <div>
          <dt>Call your API</dt>
          <dd>Name it in <code>app/settings.py</code>. What is below its path is forwarded with a fresh access token.</dd>
        </div>
        <div>
          <dt>Answer by yourself</dt>
          <dd>Write a handler like <code>app/handlers/todos.py</code>, which counts what an API has.</dd>
        </div>
      </dl>
    </>
  );
}

/** From this application's own handler, which calls the API. */
function OpenTodos() {
  const [todos] = useJson<{ open: number; done: number }>("/data/todos");
  return <p>{todos ? `To-dos: ${todos.open} open, ${todos.done} done.` : "\u00a0"}</p>;
}

function Invitation() {
  return (
    <div className="hero">
      <div>
        <h1>This browser will never hold&nbsp;a&nbsp;token.</h1>
        <p className="lead">
          The server signs people in at your OpenID provider, keeps their tokens and calls APIs on their behalf.
        </p>
        <p className="actions"><button type="button" className="button" onClick={() => login()}>Sign in</button></p>
      </div>
      <div className="ticket">
        <section aria-labelledby="browser-holds">
          <h2 id="browser-holds">Your browser holds</h2>
          <p>1 cookie</p>
        </section>
        <section aria-labelledby="server-holds">
          <h2 id="server-holds">The server holds</h2>
          <ul>
            <li>Access token</li>
            <li>Refresh token</li>
            <li>ID token</li>
          </ul>
        </section>
      </div>
    </div>
  );
}
