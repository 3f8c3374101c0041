/** The app without a server. A journey through all of it, in a real browser, is in tests/test_journey.py. */

import { fireEvent, render, screen } from "@testing-library/react";
import { expect, test } from "vitest";

import { ALICE, json, newPage } from "./bff/testing";

async function open(path: string, claims: object | null = ALICE) {
  const page = newPage(path, claims);
  page.answers["/data/todos"] = () => json({ open: 2, done: 1 });
  page.answers["GET /api/todos"] = () => json([]);
  page.answers["POST /api/todos"] = () => json({ id: 7, title: "Water the plants", done: false }, 201);
  page.answers["DELETE /api/todos/7"] = () => new Response(null, { status: 204 });
  const { App } = await import("./App");
  render(<App />);
  return page;
}

test("the home page invites a signed-out user", async () => {
  await open("/", null);

  expect(await screen.findAllByRole("button", { name: "Sign in" })).toHaveLength(2);
});

test("the home page greets a signed-in user", async () => {
  await open("/");

  await screen.findByRole("heading", { name: "Hello, Alice Adams" });
  await screen.findByText("To-dos: 2 open, 1 done.");
});

test("the end of the session empties the app, which offers to come back to the same route", async () => {
  const page = await open("/account");
  await screen.findByRole("heading", { name: "Your account" });

  await page.says("ended", { reason: "operator" });

  await screen.findByText("An administrator has ended your session.");
  expect(document.body.textContent).not.toContain("Alice");
  fireEvent.click(screen.getByRole("button", { name: "Sign in again" }));
  expect(page.navigations).toEqual(["/bff/login?returnUrl=%2Faccount"]);
});

test("the app warns before the end, and a click prolongs the session", async () => {
  const page = await open("/account");

  await page.says("ending", { expires_in: 60 });
  fireEvent.click(await screen.findByRole("button", { name: "Stay signed in" }));

  await screen.findByText("You stay signed in.");
});

test("a to-do is added and deleted", async () => {
  await open("/todos");
  await screen.findByText("Nothing to do. Enjoy your day!");

  fireEvent.change(screen.getByLabelText("New to-do"), { target: { value: "Water the plants" } });
  fireEvent.click(screen.getByRole("button", { name: "Add" }));
  fireEvent.click(await screen.findByRole("button", { name: "Delete “Water the plants”" }));

  await screen.findByText("Deleted “Water the plants”.");
  expect(screen.queryAllByRole("listitem")).toHaveLength(0);
});
