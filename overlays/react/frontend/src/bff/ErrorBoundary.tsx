/** Shows an error in place of the component that threw it, and what the user can do: by the code of our problem documents. */

import { Component, type ReactNode } from "react";
import { login, type ProblemError } from "tornado-bff";

import { messageOf } from "./api";

export class ErrorBoundary extends Component<{ children: ReactNode }, { error?: unknown }> {
  override state: { error?: unknown } = {};

  static getDerivedStateFromError(error: unknown) {
    return { error };
  }

  override render() {
    return "error" in this.state ? <ErrorPage error={this.state.error as ProblemError} /> : this.props.children;
  }
}

function ErrorPage({ error }: { error: ProblemError }) {
  const { heading, action } = explain(error);
  return (
    <>
      <h1>{heading}</h1>
      <p className="lead" role="alert">{messageOf(error)}</p>
      <p className="actions">{action}<a className="button quiet" href="/">Go to the home page</a></p>
      {error.code && (
        <p className="muted">
          Error {error.status}, <code>{error.code}</code>. When you ask for help, quote the request id{" "}
          <code>{error.request_id}</code>.
        </p>
      )}
    </>
  );
}

const tryAgain = <button type="button" className="button" onClick={() => { location.reload(); }}>Try again</button>;

function explain(error: ProblemError) {
  switch (error.code) {
    // api.fetch() goes to log in by itself; these are left when that has just been in vain.
    case "no_session":
    case "session_ended":
    case "reauthentication_required":
      return { heading: "Please sign in again", action: <SignInAgain error={error} /> };
    case "insufficient_user_authentication":
      return { heading: "Please confirm that it is you", action: <SignInAgain error={error} /> };
    case "forbidden":
      return { heading: "You may not do that", action: null };
    case "not_found":
      return { heading: "There is nothing here", action: null };
    default:
      return { heading: error.title ?? "Something went wrong", action: tryAgain };
  }
}

/** With what the step-up requires: `acr_values`, `max_age`. */
function SignInAgain({ error }: { error: ProblemError }) {
  const params = Object.fromEntries(new URLSearchParams(error.login_url?.split("?")[1]));
  return <button type="button" className="button" onClick={() => login(undefined, params)}>Sign in</button>;
}
