/** Calls of APIs, for components. */

import { useEffect, useState } from "react";
import { api, jsonOf } from "tornado-bff";

/** The JSON that an API answers; throws a ProblemError. */
export async function call<Body>(path: string, init?: RequestInit): Promise<Body> {
  return jsonOf(await api.fetch<Body>(path, init));
}

/** What is at `path`, undefined until it is there, and what changes it here. Errors go to the nearest ErrorBoundary. */
export function useJson<Body>(path: string) {
  const [state, setState] = useState<{ body?: Body; error?: unknown }>({});
  useEffect(() => {
    let isCurrent = true;
    call<Body>(path).then(
      (body) => { if (isCurrent) setState({ body }); },
      (error: unknown) => { if (isCurrent) setState({ error }); },
    );
    return () => { isCurrent = false; };
  }, [path]);
  if (state.error) throw state.error as Error;
  const change = (how: (body: Body) => Body) => setState(({ body }) => ({ body: body && how(body) }));
  return [state.body, change] as const;
}

/** A text for people, and what runs an action and sets it: to what the action returns, or to its error. */
export function useStatus() {
  const [status, setStatus] = useState("");
  const run = (action: () => Promise<string>) => {
    action().then(setStatus, (error: unknown) => setStatus(messageOf(error)));
  };
  return [status, run] as const;
}

export function messageOf(error: unknown): string {
  // fetch() rejects with a TypeError, whose message differs from browser to browser.
  if (error instanceof TypeError) return "The server cannot be reached.";
  return error instanceof Error ? error.message : String(error);
}
