/** The browsers in which the user is signed in: ends one, or all others. */

import { useRef, useState } from "react";
import { api, jsonOf } from "tornado-bff";

import { call, useJson, useStatus } from "../bff/api";
import { ago, duration } from "../times";

interface Session {
  id: string;
  device: string;
  current: boolean;
  /** Seconds since the epoch, like the other times. */
  created_at: number;
  last_used_at: number;
  expires_at: number;
}

export default function Sessions() {
  const [sessions, change] = useJson<Session[]>("/bff/sessions");
  const [status, run] = useStatus();
  const heading = useRef<HTMLHeadingElement>(null);
  if (!sessions) return null;

  const keep = (those: (session: Session) => boolean) => {
    change((all) => all.filter(those));
    heading.current?.focus();
  };
  const end = async ({ id, device }: Session) => {
    const answer = await api.fetch(`/bff/sessions/${id}`, { method: "DELETE" });
    if (answer.status !== 404) await jsonOf(answer); // 404: it has ended already
    keep((session) => session.id !== id);
    return `Signed out: ${device}.`;
  };
  const endOthers = async () => {
    if (!confirm("Sign out all other browsers? They lose access at once.")) return "";
    await call("/bff/sessions", { method: "DELETE" });
    keep((session) => session.current);
    return "You are signed out everywhere else.";
  };

  return (
    <>
      <h1 tabIndex={-1} ref={heading}>Where you are signed in</h1>
      <p className="lead">If you do not recognize a browser, sign it out. It loses access at once.</p>
      <ul className="rows" aria-label="Your sessions">
        {sessions.map((session) => (
          <Row key={session.id} session={session} end={() => run(() => end(session))} />
        ))}
      </ul>
      <p className="muted" role="status">{status}</p>
      {sessions.length > 1 && (
        <p><button type="button" className="danger" onClick={() => run(endOthers)}>Sign out everywhere else</button></p>
      )}
    </>
  );
}

function Row({ session, end }: { session: Session; end: () => void }) {
  const [now] = useState(() => Date.now() / 1000);
  const signedIn = ago(now - session.created_at);
  return (
    <li>
      <div>
        <h2>{session.device} {session.current && <span className="badge">This browser</span>}</h2>
        <p className="muted">
          Signed in {signedIn}, last used {ago(now - session.last_used_at)}. Ends
          in {duration(session.expires_at - now)} if it is not used.
        </p>
      </div>
      {!session.current && (
        <button type="button" className="quiet" aria-label={`Sign out ${session.device}, signed in ${signedIn}`} onClick={end}>
          Sign out
        </button>
      )}
    </li>
  );
}
