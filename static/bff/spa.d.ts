/** Types of spa.js. */

import type { EndReason, StandardClaims, User } from "./bff.js";

export interface SessionState<Claims extends object = StandardClaims> {
  /** null: signed out; undefined: not known yet. */
  user: User<Claims> | null | undefined;
  /** Why the session has ended while the app was open; "" if that is unknown. */
  reason?: EndReason;
  /** Why it cannot be known who is signed in. */
  error?: unknown;
}

/** A store, as React's useSyncExternalStore takes one. */
export const session: {
  get: () => SessionState;
  /** Calls the listener after each change; returns what ends that. */
  subscribe: (listener: () => void) => () => void;
  /** Reads the user's claims again, which prolongs the session unless `slide` is false. */
  refresh: (options?: { slide?: boolean }) => Promise<User | null>;
};
