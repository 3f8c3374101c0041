/** Functions that the scripts of several pages use. */

import { api, jsonOf } from "../bff/bff.js";

/** The element with an id. @param {string} id @returns {any} */
export const $ = (id) => document.getElementById(id);

/** Calls an API and returns its JSON, or null. @param {string} path @param {RequestInit} [init] */
export async function call(path, init) {
  return jsonOf(await api.fetch(path, init));
}

/**
 * Runs `action` and shows its result, or its error, in `status`.
 *
 * @param {HTMLElement} status
 * @param {() => Promise<string>} action  returns the text to show
 */
export async function report(status, action) {
  try {
    status.textContent = await action();
  } catch (error) {
    // fetch() rejects with a TypeError, whose message differs from browser to browser.
    const unreachable = error instanceof TypeError;
    status.textContent = unreachable ? "The server cannot be reached." : /** @type {Error} */ (error).message;
  }
}

/**
 * Removes a row and moves the focus to the button of the next one.
 *
 * @param {HTMLElement} element
 * @param {HTMLElement} fallback  gets the focus if no row with a button is left
 */
export function removeFocused(element, fallback) {
  const neighbour = element.nextElementSibling ?? element.previousElementSibling;
  (neighbour?.querySelector("button") ?? fallback).focus();
  element.remove();
}
