/** What is left of the app when its session has ended, in this window or anywhere else. */

import type { EndReason } from "tornado-bff";
import { login } from "tornado-bff";

const WHY: Record<string, string> = {
  signed_out: "You signed out in another window of this browser.",
  signed_out_elsewhere: "You signed this browser out from another one.",
  signed_in_again: "Another user signed in in this browser.",
  too_many_sessions: "You signed in elsewhere, and the number of places at a time is limited.",
  provider: "Your sign-in service has ended your session.",
  not_allowed: "Your account may not use this application any more.",
  operator: "An administrator has ended your session.",
  expired: "You were away for a while, or signed in for as long as is allowed.",
};

export function SignedOut({ reason }: { reason: EndReason }) {
  return (
    <>
      <h1>You are signed out</h1>
      <p className="lead">{WHY[reason] ?? "Your session is over."}</p>
      <p className="actions">
        <button type="button" className="button" onClick={() => login()}>Sign in again</button>
        <a className="button quiet" href="/">Go to the home page</a>
      </p>
    </>
  );
}
