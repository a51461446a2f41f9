"""Short words for what tests do with the page."""

from __future__ import annotations

import json
from typing import Any

from tests.browser.chromium import Chromium

_KEYS = {"Tab": 9, "Home": 36, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, " ": 32}


def click(browser: Chromium, name: str) -> None:
    """Click the element of this id."""
    browser.evaluate(f"document.getElementById({json.dumps(name)}).click()")


def text(browser: Chromium, name: str) -> str:
    """What the element of this id says."""
    return str(browser.evaluate(f"document.getElementById({json.dumps(name)}).textContent.trim()"))


def state(browser: Chromium) -> str:
    """The page's state: idle, live, error and so on."""
    return str(browser.evaluate("document.body.dataset.state"))


def until_state(browser: Chromium, name: str, timeout_s: float = 20.0) -> float:
    """Wait for a state; the seconds it took."""
    return browser.wait_for(f"document.body.dataset.state === {json.dumps(name)}", timeout_s=timeout_s)


def start(browser: Chromium, url: str) -> None:
    """Open the page, press Start and wait for the picture."""
    browser.open(url)
    click(browser, "start")
    until_state(browser, "live")
    browser.wait_for("document.getElementById('avatar').videoWidth > 16")


def stop(browser: Chromium) -> None:
    """End the call."""
    click(browser, "stop")
    until_state(browser, "idle")


def choose(browser: Chromium, name: str, value: str) -> None:
    """Change a select or input."""
    event = "new Event('{}', {{bubbles: true}})"
    fire = "".join(f"e.dispatchEvent({event.format(kind)});" for kind in ("input", "change"))
    browser.evaluate(f"(e => {{ e.value = {json.dumps(value)}; {fire} }})(document.getElementById({json.dumps(name)}))")


def key(browser: Chromium, name: str, *kinds: str) -> None:
    """Press (and unless only one of `keyDown`, `keyUp` is given, let go) a key."""
    code = "Space" if name == " " else name
    for kind in kinds or ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key=name, code=code, windowsVirtualKeyCode=_KEYS[name])


def mouse(browser: Chromium, kind: str, x: float, y: float) -> None:
    """A mouse event at a place in the window; the left button."""
    browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)


def until_control(browser: Chromium, name: str, value: Any) -> None:
    """Wait until the server has a control's value."""
    wanted = json.dumps(json.dumps(value, separators=(",", ":")))
    look = f"""(async () => {{
      let controls;
      for (let i = 0; i < 100; i++) {{
        ({{ controls }} = await (await fetch(`v1/sessions/${{avatarCall.session.id}}`)).json());
        if (JSON.stringify(controls[{json.dumps(name)}]) === {wanted}) return "";
        await new Promise(resolve => setTimeout(resolve, 50));
      }}
      return JSON.stringify(controls);
    }})()"""
    seen = browser.evaluate(look)
    assert seen == "", f"{name} should be {value!r}; the server has {seen}"


def complaints(browser: Chromium) -> list[str]:
    """What the browser logged, without answers that refuse: uncaught errors, breaches of the page's policy."""
    return [entry for entry in browser.console if '"source": "network"' not in entry]


def video_mean(browser: Chromium) -> float:
    """Mean brightness of the middle of the shown picture, 0..255."""
    script = """(() => {
      const video = document.getElementById('avatar'), n = 16;
      const canvas = new OffscreenCanvas(n, n).getContext('2d');
      canvas.drawImage(video, video.videoWidth * 0.4, video.videoHeight * 0.3, video.videoWidth * 0.2,
        video.videoHeight * 0.2, 0, 0, n, n);
      const { data } = canvas.getImageData(0, 0, n, n);
      let sum = 0;
      for (let i = 0; i < data.length; i += 4) sum += data[i + 1];
      return sum / (n * n);
    })()"""
    return float(browser.evaluate(script))
