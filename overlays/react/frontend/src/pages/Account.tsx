import { Link } from "wouter";

import { useSession } from "../bff/session";
import { duration } from "../times";

export default function Account() {
  const { user } = useSession();
  if (!user) return null;
  const claims = Object.entries(user).filter(([name]) => !name.startsWith("bff:"));
  return (
    <>
      <h1>Your account</h1>
      <dl className="facts">
        <div><dt>Name</dt><dd>{user.name ?? user.sub}</dd></div>
        {user.email && <div><dt>Email</dt><dd>{user.email}</dd></div>}
        <div><dt>Session</dt><dd>Ends in {duration(user["bff:session_expires_in"])} if you do not use it</dd></div>
      </dl>
      <p><Link className="button quiet" href="/sessions">Where you are signed in</Link></p>

      <details>
        <summary>Everything that your sign-in service says about you</summary>
        <dl className="facts">
          {claims.map(([name, value]) => (
            <div key={name}><dt>{name}</dt><dd><code>{typeof value === "string" ? value : JSON.stringify(value)}</code></dd></div>
          ))}
        </dl>
      </details>
    </>
  );
}
