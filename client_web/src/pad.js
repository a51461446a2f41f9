// A field of two axes for mouse, touch and arrow keys: where the head turns, where the eyes look.

const STEP = 0.1;

/** Shows and tells a point; x and y are -1..1, right and up, as seen on the screen. */
export class Pad {
  /**
   * @param {HTMLElement} field holds an <i> as the knob
   * @param {{words: (x: number, y: number) => string, move: (point: {x: number, y: number} | null) => void}} handlers
   *   `move` gets null when the point is let go
   */
  constructor(field, handlers) {
    this.field = field;
    this.handlers = handlers;
    this.x = 0;
    this.y = 0;
    this.held = false;
    field.setAttribute("aria-valuemin", "-100");
    field.setAttribute("aria-valuemax", "100");
    field.addEventListener("pointerdown", (event) => {
      field.setPointerCapture(event.pointerId);
      this.held = true;
      this.#point(event);
    });
    field.addEventListener("pointermove", (event) => { if (this.held) this.#point(event); });
    for (const name of /** @type {const} */ (["pointerup", "pointercancel"])) {
      field.addEventListener(name, () => { this.held = false; });
    }
    field.addEventListener("dblclick", () => this.release());
    field.addEventListener("keydown", (event) => this.#key(event));
    this.#show(true);
  }

  /** Back to the middle, and nothing asked for. */
  release() {
    this.x = this.y = 0;
    this.#show(true);
    this.handlers.move(null);
  }

  /** @param {number} x @param {number} y */
  set(x, y) {
    this.x = Math.max(-1, Math.min(1, x));
    this.y = Math.max(-1, Math.min(1, y));
    this.#show(false);
    this.handlers.move({ x: this.x, y: this.y });
  }

  /** @param {PointerEvent} event */
  #point(event) {
    const box = this.field.getBoundingClientRect();
    this.set((2 * (event.clientX - box.left)) / box.width - 1, 1 - (2 * (event.clientY - box.top)) / box.height);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const [dx = 0, dy = 0] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key] ?? [];
    if (event.key === "Home") this.release();
    else if (dx || dy) this.set(this.x + STEP * dx, this.y + STEP * dy);
    else return;
    event.preventDefault();
  }

  /** @param {boolean} free */
  #show(free) {
    const knob = /** @type {HTMLElement} */ (this.field.firstElementChild);
    knob.style.left = `${50 + 43 * this.x}%`;
    knob.style.top = `${50 - 43 * this.y}%`;
    this.field.dataset.free = String(free);
    this.field.setAttribute("aria-valuenow", String(Math.round(100 * this.x)));
    this.field.setAttribute("aria-valuetext", free ? "let go" : this.handlers.words(this.x, this.y));
  }
}

/**
 * At most one call in `everyMs`, the last one always.
 * @template {unknown[]} A @param {(...values: A) => void} act @param {number} everyMs
 */
export function throttle(act, everyMs) {
  let last = -Infinity;
  let timer = 0;
  /** @param {A} values */
  return (...values) => {
    clearTimeout(timer);
    const wait = last + everyMs - performance.now();
    const run = () => { last = performance.now(); act(...values); };
    if (wait <= 0) run();
    else timer = setTimeout(run, wait);
  };
}
