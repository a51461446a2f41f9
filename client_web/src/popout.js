// The clean feed: a second window with the picture alone, to be captured by OBS and the like.

import { AdviceError } from "./api.js";

/** Opens the window and keeps its picture the same as the page's. */
export class PopOut {
  /** @param {() => MediaStream | null} stream what the page shows @param {(error: unknown) => void} onProblem */
  constructor(stream, onProblem) {
    this.stream = stream;
    this.onProblem = onProblem;
    /** @type {any} */ this.window = null;
    Object.assign(globalThis, { feedOpened: () => this.update() });
  }

  open() {
    this.window = open("clean.html", "nerf-lipsync-clean", "popup,width=512,height=512");
    if (!this.window) this.onProblem(new AdviceError("The window was not opened.", "Allow pop-up windows for this page."));
    this.update();
  }

  /** The page's stream is another one now. */
  update() {
    if (this.window && !this.window.closed) this.window.showFeed?.(this.stream());
  }
}
