// Small helpers for the page's own elements.

/** @template {HTMLElement} T @param {string} id @returns {T} */
export const element = (id) => /** @type {T} */ (document.getElementById(id));

/**
 * A new element.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} name @param {Partial<HTMLElementTagNameMap[K]>} properties @param {(Node | string)[]} children
 */
export function make(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** @param {HTMLElement[]} items arrow keys, Home and End move between them, as in tabs and radio groups
 *  @param {(item: HTMLElement) => void} choose */
export function moveWithArrows(items, choose) {
  items.forEach((item, index) => item.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    let next = step === undefined ? null : (index + step + items.length) % items.length;
    if (event.key === "Home") next = 0;
    if (event.key === "End") next = items.length - 1;
    const target = next === null ? null : items[next];
    if (!target) return;
    event.preventDefault();
    target.focus();
    choose(target);
  }));
}
