/** Shows its children to a signed-in user; others go to log in, and come back to the same route. */

import { useEffect, useState, type ReactNode } from "react";
import { login } from "tornado-bff";

import { useUser } from "./session";

const LAST = "lastLogin";

export function RequireLogin({ children }: { children: ReactNode }) {
  const user = useUser();
  if (user) return children;
  return user === null ? <SignIn /> : null;
}

function SignIn() {
  // A browser that refuses cookies comes back signed out: not again and again.
  const [isInVain] = useState(() => Date.now() - Number(sessionStorage.getItem(LAST)) < 30_000);
  useEffect(() => {
    if (isInVain) return;
    sessionStorage.setItem(LAST, String(Date.now()));
    login();
  }, [isInVain]);
  if (!isInVain) return null;
  return (
    <>
      <h1>Please sign in</h1>
      <p className="actions"><button type="button" className="button" onClick={() => login()}>Sign in</button></p>
    </>
  );
}
