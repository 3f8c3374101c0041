/** The frame of every page, and the routes. */

import { lazy, Suspense, useEffect, useRef } from "react";
import { login, logout } from "tornado-bff";
import { Link, Route, Switch, useLocation } from "wouter";

import { useStatus } from "./bff/api";
import { ErrorBoundary } from "./bff/ErrorBoundary";
import { Home } from "./pages/Home";
import { SignedOut } from "./pages/SignedOut";
import { RequireLogin } from "./bff/RequireLogin";
import { useSession } from "./bff/session";
import { SessionEnding } from "./SessionEnding";

const Account = lazy(() => import("./pages/Account"));
const Sessions = lazy(() => import("./pages/Sessions"));
const Todos = lazy(() => import("./pages/Todos"));

const APP_NAME = document.title;
const TITLES: Record<string, string> = {
  "/todos": "To-dos",
  "/account": "Your account",
  "/sessions": "Where you are signed in",
};

export function App() {
  const { user, reason } = useSession();
  const [path] = useLocation();
  const main = useRef<HTMLElement>(null);
  const shown = useRef(path);
  useEffect(() => {
    document.title = TITLES[path] ? `${TITLES[path]} · ${APP_NAME}` : APP_NAME;
    if (shown.current !== path) main.current?.focus(); // as a page that loads does, for keyboards and screen readers
    shown.current = path;
  }, [path]);
  return (
    <>
      <a className="skip" href="#main">Skip to content</a>
      <header className="bar">
        <Link className="brand" href="/">
          <img src="/logo.svg" alt="" width="32" height="32" />
          <span>{APP_NAME}</span>
        </Link>
        <nav aria-label="Main">
          <NavLink href="/">Home</NavLink>
          {user && <NavLink href="/todos">To-dos</NavLink>}
          {user && <NavLink href="/account">Account</NavLink>}
        </nav>
        <Who />
      </header>
      <SessionEnding />
      <main id="main" tabIndex={-1} ref={main}>
        <ErrorBoundary key={path}>
          <Suspense>{reason === undefined ? <Routes /> : <SignedOut reason={reason} />}</Suspense>
        </ErrorBoundary>
      </main>
      <footer className="bar">{APP_NAME}</footer>
    </>
  );
}

function Routes() {
  return (
    <Switch>
      <Route path="/"><Home /></Route>
      <Route path="/todos"><RequireLogin><Todos /></RequireLogin></Route>
      <Route path="/account"><RequireLogin><Account /></RequireLogin></Route>
      <Route path="/sessions"><RequireLogin><Sessions /></RequireLogin></Route>
      <Route>
        <h1>There is nothing here</h1>
        <p className="actions"><Link className="button" href="/">Go to the home page</Link></p>
      </Route>
    </Switch>
  );
}

function NavLink({ href, children }: { href: string; children: string }) {
  const [path] = useLocation();
  return <Link href={href} aria-current={path === href ? "page" : undefined}>{children}</Link>;
}

function Who() {
  const { user } = useSession();
  const [status, run] = useStatus();
  if (user === undefined) return null;
  if (!user) return <div className="who"><button type="button" className="button quiet" onClick={() => login()}>Sign in</button></div>;
  const leave = () => logout().then(() => "");
  return (
    <div className="who">
      <span className="name">{user.name ?? user.sub}</span>
      <button type="button" className="button quiet" onClick={() => run(leave)}>Sign out</button>
      {status && <span role="alert">{status}</span>}
    </div>
  );
}
