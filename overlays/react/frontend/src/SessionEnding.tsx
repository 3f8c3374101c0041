/** Warns before the session ends, and offers to stay signed in. */

import { useCallback, useRef, useState } from "react";
import { session } from "tornado-bff/spa";

import { useStatus } from "./bff/api";
import { useSession, useSessionEvents } from "./bff/session";

export function SessionEnding() {
  const { user } = useSession();
  const endsAt = useRef(0);
  const [isNear, setIsNear] = useState(false);
  const [status, run] = useStatus();
  const ending = useCallback(({ expires_in }: { expires_in: number }) => {
    endsAt.current = Date.now() + expires_in * 1000;
    setIsNear(true);
  }, []);
  useSessionEvents({ ending });

  const stay = async () => {
    const claims = await session.refresh(); // a request like any other: it prolongs the session, up to a limit
    const isLonger = Date.now() + (claims?.["bff:session_expires_in"] ?? 0) * 1000 > endsAt.current + 1000;
    setIsNear(false);
    document.getElementById("main")?.focus();
    return isLonger ? "You stay signed in." : "This session cannot last longer. Please sign in again when it is over.";
  };

  if (!user || !(isNear || status)) return null;
  return (
    <div className="flash warning" role="alert">
      <p>{isNear ? "Your session is about to end." : status}</p>
      {isNear && <button type="button" className="quiet" onClick={() => run(stay)}>Stay signed in</button>}
    </div>
  );
}
