/** What the engine has for React: copied into a generated project, and run there, by test_react.py. */

import { fireEvent, render, screen, waitFor } from "@testing-library/react";
import { expect, test } from "vitest";

import { ALICE, json, newPage, problem, signedIn } from "./testing";

async function show(page: ReturnType<typeof newPage>) {
  const { ErrorBoundary } = await import("./ErrorBoundary");
  const { RequireLogin } = await import("./RequireLogin");
  const { useJson } = await import("./api");
  const { useSessionEvents, useUser } = await import("./session");
  const heard: unknown[] = [];
  const handlers = { ending: heard.push.bind(heard), changed: heard.push.bind(heard) };

  function Order() {
    const user = useUser<{ department: string }>();
    const [order] = useJson<{ title: string }>("/orders/1");
    return <p>{user?.department}: {order?.title}</p>;
  }
  function Events() {
    useSessionEvents(handlers);
    return null;
  }
  render(<ErrorBoundary><Events /><RequireLogin><Order /></RequireLogin></ErrorBoundary>);
  return { ...page, heard };
}

function pageWith(answer: () => Response, claims: object | null = { ...ALICE, department: "Tea" }) {
  const page = newPage("/orders?page=2#last", claims);
  page.answers["/orders/1"] = answer;
  return page;
}

test("a component reads typed claims and what an API answers", async () => {
  await show(pageWith(() => json({ title: "Darjeeling" })));

  await screen.findByText("Tea: Darjeeling");
});

test("what needs a user goes to log in, and comes back to its route", async () => {
  const page = await show(pageWith(() => json({}), null));

  await waitFor(() => expect(page.navigations).toEqual(["/bff/login?returnUrl=%2Forders%3Fpage%3D2%23last"]));
});

test("a login that did not help is not repeated by itself", async () => {
  const page = pageWith(() => json({}), null);
  sessionStorage.setItem("lastLogin", String(Date.now()));
  await show(page);

  fireEvent.click(await screen.findByRole("button", { name: "Sign in" }));

  expect(page.navigations).toHaveLength(1);
});

test("handlers hear the events of the session, and the claims are read again when they have changed", async () => {
  const page = await show(pageWith(() => json({ title: "Darjeeling" })));
  await page.says("ending", { expires_in: 60 });
  await waitFor(() => expect(page.heard).toEqual([{ expires_in: 60 }]));

  page.answers["/bff/user"] = signedIn({ ...ALICE, department: "Coffee" });
  await page.says("changed", {});

  await screen.findByText("Coffee: Darjeeling");
  expect(page.heard).toEqual([{ expires_in: 60 }, {}]);
});

test.each([
  ["store_unavailable", 503, "Title of store_unavailable", "Try again"],
  ["api_unreachable", 502, "Title of api_unreachable", "Try again"],
  ["no_session", 401, "Please sign in again", "Sign in"],
  ["insufficient_user_authentication", 401, "Please confirm that it is you", "Sign in"],
  ["forbidden", 403, "You may not do that", undefined],
  ["not_found", 404, "There is nothing here", undefined],
])("%s shows what the user can do", async (code, status, heading, button) => {
  await show(pageWith(problem(status, code)));

  await screen.findByRole("heading", { name: heading });
  expect(document.body.textContent).toContain("r1");
  expect(screen.queryAllByRole("button").map((found) => found.textContent)).toEqual(button ? [button] : []);
});

test("what needs a stronger login goes there, with what it requires", async () => {
  const login_url = "/bff/login?acr_values=mfa&max_age=60";
  const page = await show(pageWith(problem(401, "insufficient_user_authentication", { login_url })));

  await waitFor(() => expect(page.navigations).toHaveLength(1));
  expect(page.navigations[0]).toContain("/bff/login?acr_values=mfa&max_age=60&returnUrl=%2Forders");
});

test("a session store that is out of order is said to be so", async () => {
  const page = pageWith(() => json({}));
  page.answers["/bff/user"] = problem(503, "store_unavailable");
  await show(page);

  await screen.findByText("Detail of store_unavailable");
});

test("a server that cannot be reached is said to be so", async () => {
  await show(pageWith(() => { throw new TypeError("Failed to fetch"); }));

  await screen.findByText("The server cannot be reached.");
  await screen.findByRole("button", { name: "Try again" });
});
