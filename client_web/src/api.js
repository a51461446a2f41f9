// The server's HTTP interface: the token, requests, and its refusals in plain words. Paths are relative to the page.

const TOKEN_KEY = "nerf-lipsync-token";

/** A failure with advice for the person in front of the page. */
export class AdviceError extends Error {
  /** @param {string} title @param {string} advice @param {string} [code] stable: the server's own, or the page's */
  constructor(title, advice, code = "") {
    super(title);
    this.advice = advice;
    this.code = code;
  }
}

/** All places are taken. */
export class BusyError extends AdviceError {
  /** @param {number} position from 1 @param {string} ticket keeps the place @param {number} waitS */
  constructor(position, ticket, waitS) {
    super("All places are taken.", `You are number ${position} in the queue. The next try is in ${waitS} s.`, "busy");
    this.position = position;
    this.ticket = ticket;
    this.waitS = waitS;
  }
}

/** @typedef {{room: string, invitation: string}} Invite `invitation` is empty where no token is needed */

/**
 * Take what the address carries after #: `token`, or `room` and `invitation`. A token moves to sessionStorage and leaves
 * the address, so that it is not copied with it.
 * @returns {Invite | null}
 */
export function takeFragment() {
  const values = new URLSearchParams(location.hash.slice(1));
  const token = values.get("token");
  if (token) {
    setToken(token);
    values.delete("token");
    history.replaceState(null, "", location.pathname + location.search + (values.size ? `#${values}` : ""));
  }
  const room = values.get("room");
  invitation = (room && values.get("invitation")) || "";
  return room ? { room, invitation } : null;
}

let invitation = "";

/** @param {string} token empty: forget it */
export function setToken(token) {
  if (token) sessionStorage.setItem(TOKEN_KEY, token);
  else sessionStorage.removeItem(TOKEN_KEY);
}

/** @returns {Record<string, string>} */
function authorization() {
  const secret = invitation || sessionStorage.getItem(TOKEN_KEY);
  return secret ? { Authorization: `Bearer ${secret}` } : {};
}

/**
 * One request.
 * @param {string} method @param {string} path such as "v1/avatars" @param {object} [body] sent as JSON
 * @param {{keepalive?: boolean}} [options] keepalive: sent even while the page goes away
 * @returns {Promise<Response>}
 * @throws {AdviceError} there is no answer, or a refusal
 */
export async function request(method, path, body, options = {}) {
  /** @type {Record<string, string>} */ const headers = authorization();
  if (body) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers, body: body && JSON.stringify(body), ...options });
  } catch {
    throw new AdviceError("The server does not answer.",
      "See whether `nerf-lipsync serve` is still running and this device is online.", "no-answer");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

/** @param {string} path @returns {Promise<any>} */
export async function getJson(path) {
  return (await request("GET", path)).json();
}

/** @param {string} path @param {object} [body] @returns {Promise<any>} */
export async function postJson(path, body) {
  return (await request("POST", path, body)).json();
}

/** @param {Response} response */
async function refusal(response) {
  const problem = await response.json().catch(() => ({}));
  const waitS = Number(response.headers.get("Retry-After") ?? 5);
  const detail = problem.detail ?? `HTTP status ${response.status}`;
  switch (problem.code) {
    case "busy":
      if (problem.queue_ticket) return new BusyError(problem.queue_position, problem.queue_ticket, waitS);
      return new AdviceError("All places are taken.", `Try again in ${waitS} seconds.`, "busy");
    case "not-ready":
      return new AdviceError("The avatar is still being loaded.", `Try again in ${waitS} seconds.`, "not-ready");
    case "token-needed":
      return sessionStorage.getItem(TOKEN_KEY) || invitation
        ? new AdviceError("The server does not accept this token or invitation.",
          "Check it with the person who runs the server, and enter it again.", "token-needed")
        : new AdviceError("This server asks for a token.", "Enter it in the field “Token”.", "token-needed");
    case "too-many":
      return new AdviceError("Too many calls in a short time.", `Try again in ${waitS} seconds.`, "too-many");
    case "other-room":
      return new AdviceError("Your invitation is for one room only.", "Open the invite link again.", "other-room");
    case "conflict":
      return new AdviceError("This cannot be done now.", `${detail}.`, "conflict");
    default:
      return new AdviceError("The server refused.", `${detail}.`, problem.code ?? "");
  }
}
