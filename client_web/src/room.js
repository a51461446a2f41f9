// The tab "Room of two": make a room, hand on its link, or come in by one.

import { postJson } from "./api.js";
import { element } from "./dom.js";

/** Knows which room the next call goes to. */
export class Room {
  /**
   * @param {import("./api.js").Invite | null} invite from the address
   * @param {(error: unknown) => void} onProblem
   */
  constructor(invite, onProblem) {
    this.room = invite?.room ?? null;
    this.inside = false;
    this.state = element("room-state");
    const makeRoom = /** @type {HTMLButtonElement} */ (element("make-room"));
    if (this.room) {
      this.state.textContent = "You are invited. Press Start to join.";
      makeRoom.parentElement?.remove();
    }
    makeRoom.addEventListener("click", () => void this.#make().catch(onProblem));
    element("copy-invite").addEventListener("click", () => void this.#copy());
  }

  /** @param {import("./events.js").ServerEvent} event */
  onEvent(event) {
    if (!this.room) return;
    if (event.type === "ready") {
      this.inside = true;
      this.state.textContent = "You are in the room. Until the other one comes you see yourself.";
    }
    if (event.type !== "notice") return;
    if (event.code === "peer-joined") this.state.textContent = "The other one is here.";
    if (event.code === "peer-left") this.state.textContent = "The other one has left; the link still works.";
  }

  /** The call is over. */
  end() {
    if (this.inside) this.state.textContent = "You have left the room; the link still works.";
    this.inside = false;
  }

  async #make() {
    const { room, invitation } = await postJson("v1/rooms");
    this.room = room;
    const values = new URLSearchParams({ room, ...(invitation && { invitation }) });
    const field = /** @type {HTMLInputElement} */ (element("invite"));
    field.value = `${location.origin}${location.pathname}#${values}`;
    element("invite-box").hidden = false;
    this.state.textContent = "Send the link to one person, then press Start.";
  }

  async #copy() {
    const field = /** @type {HTMLInputElement} */ (element("invite"));
    try {
      await navigator.clipboard.writeText(field.value);
      this.state.textContent = "The link is copied.";
    } catch {
      field.select();
      this.state.textContent = "Copy the marked link.";
    }
  }
}
