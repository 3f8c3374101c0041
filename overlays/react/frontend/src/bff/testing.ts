/** A page without a server, for tests with Vitest: what each path answers, the session's events, where the page goes. */

import { cleanup, configure } from "@testing-library/react";
import { vi } from "vitest";

const PATIENCE = 20_000; // milliseconds, on a machine that has much else to do
configure({ asyncUtilTimeout: PATIENCE });

export const ALICE = { sub: "alice", name: "Alice Adams", "bff:logout_url": "/bff/logout?sid=1", "bff:session_expires_in": 3600 };

/** What is answered, by path or by method and path: `page.answers["POST /orders"] = () => json({ id: 1 }, 201)`. */
type Answers = Record<string, () => Response>;

export interface TestPage {
  answers: Answers;
  /** Where the page has been sent to. */
  navigations: string[];
  /** Sends an event of the session to the page, once it listens. */
  says: (event: string, data: object) => Promise<void>;
}

export const json = (body: unknown, status = 200) => new Response(JSON.stringify(body), { status });

export function problem(status: number, code: string, more = {}) {
  const texts = { title: `Title of ${code}`, detail: `Detail of ${code}`, request_id: "r1" };
  return () => json({ status, code, ...texts, ...more }, status);
}

/** Answers `/bff/user`: signed in with these claims, or signed out. */
export function signedIn(claims: object | null): () => Response {
  if (!claims) return problem(401, "no_session", { login_url: "/bff/login" });
  return () => json(Object.entries(claims).map(([type, value]) => ({ type, value: value as unknown })));
}

/** Begins a page at `path`: import what is tested after it, since modules keep the session's state. */
export function newPage(path: string, claims: object | null = ALICE): TestPage {
  cleanup();
  vi.resetModules();
  sessionStorage.clear();
  history.replaceState(null, "", path);
  vi.stubGlobal("origin", location.origin);
  vi.stubGlobal("BroadcastChannel", class { postMessage = () => undefined; }); // there is no other window
  vi.spyOn(console, "error").mockImplementation(() => undefined); // React repeats what a boundary has caught

  let stream: ReadableStreamDefaultController<Uint8Array> | undefined;
  const listen = (controller: ReadableStreamDefaultController<Uint8Array>) => { stream = controller; };
  const answers: Answers = { "/bff/user": signedIn(claims) };
  answers["/bff/events"] = () => new Response(new ReadableStream({ start: listen }));
  vi.stubGlobal("fetch", (url: string, init?: RequestInit) => {
    const path = url.split("?")[0] ?? "";
    const answer = answers[`${init?.method ?? "GET"} ${path}`] ?? answers[path];
    return answer ? Promise.resolve(answer()) : Promise.reject(new TypeError(`nothing answers ${url}`));
  });
  const navigations: string[] = [];
  vi.spyOn(location, "assign").mockImplementation((url) => navigations.push(String(url)));

  const says = async (event: string, data: object) => {
    await vi.waitUntil(() => stream, { timeout: PATIENCE });
    stream?.enqueue(new TextEncoder().encode(`event: session_${event}\ndata: ${JSON.stringify(data)}\n\n`));
  };
  return { answers, navigations, says };
}
