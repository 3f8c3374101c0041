/** What the scripts of several pages need. */

import { api, jsonOf } from "../bff/bff.js";

/**
 * The element with this id; the template has every one of them.
 *
 * @param {string} id
 * @returns {any}
 */
export const $ = (id) => document.getElementById(id);

/**
 * Calls an API and returns what it answers, null when that is nothing.
 *
 * @param {string} path
 * @param {RequestInit} [init]
 */
export async function call(path, init) {
  return jsonOf(await api.fetch(path, init));
}

/**
 * Does `work` and says in `status` how it ended, for eyes and screen readers alike.
 *
 * @param {HTMLElement} status
 * @param {() => Promise<string>} work  returns what to say
 */
export async function telling(status, work) {
  try {
    status.textContent = await work();
  } catch (error) {
    // fetch() rejects with a TypeError, in words that differ from browser to browser.
    const unreachable = error instanceof TypeError;
    status.textContent = unreachable ? "The server cannot be reached." : /** @type {Error} */ (error).message;
  }
}

/**
 * Removes an element and leaves the focus, which was in it, where the next thing to do is.
 *
 * @param {HTMLElement} element
 * @param {HTMLElement} otherwise  gets the focus when there is no such button left beside it
 */
export function removeFocused(element, otherwise) {
  const neighbour = element.nextElementSibling ?? element.previousElementSibling;
  (neighbour?.querySelector("button") ?? otherwise).focus();
  element.remove();
}
