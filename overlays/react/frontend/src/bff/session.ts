/** The user and the session, as hooks. */

import { useEffect, useSyncExternalStore } from "react";
import { on, type SessionEvents, type StandardClaims, type User } from "tornado-bff";
import { session } from "tornado-bff/spa";

/** `user` is null for a signed-out browser, undefined until that is known; `reason`: why the session has ended. */
export function useSession() {
  return useSyncExternalStore(session.subscribe, session.get);
}

/** The claims of the user. Yours are typed: `useUser<StandardClaims & { roles?: string | string[] }>()`. */
export function useUser<Claims extends object = StandardClaims>() {
  const { user, error } = useSession();
  if (error) throw error as Error;
  return user as User<Claims> | null | undefined;
}

type Handlers = { [Type in keyof SessionEvents]?: (detail: SessionEvents[Type]) => void };

/** Calls a handler for each event of the session, while a user is signed in. */
export function useSessionEvents({ ending, ended, changed }: Handlers) {
  const isSignedIn = Boolean(useSession().user);
  useEffect(() => {
    if (!isSignedIn) return;
    const stops = [
      ending && on("ending", ({ detail }) => ending(detail)),
      ended && on("ended", ({ detail }) => ended(detail)),
      changed && on("changed", ({ detail }) => changed(detail)),
    ];
    return () => { stops.forEach((stop) => stop?.()); };
  }, [isSignedIn, ending, ended, changed]);
}
