"""A real browser for tests: Debian's Chromium, driven by Playwright; and what a good page must keep to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from support.browser import OPERATOR
from support.programs import require

PHONE = {"width": 360, "height": 740}
DESK = {"width": 1280, "height": 800}


@contextmanager
def chromium() -> Iterator[Any]:
    """Run Chromium; skips the test where it is missing. No other event loop may run in the thread meanwhile."""
    program = require("chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # --no-sandbox: tests often run as root, in containers without user namespaces
        arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--force-color-profile=srgb"]
        browser = playwright.chromium.launch(executable_path=str(program), args=arguments)
        try:
            yield browser
        finally:
            browser.close()


def sign_in(page: Any, address: str) -> None:
    """Sign in as the operator."""
    page.goto(f"{address}/login")
    page.fill("#secret", OPERATOR)
    page.click("text=Sign in >> nth=-1")
    page.wait_for_url(f"{address}/")


UNNAMED = """
() => [...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, textarea, summary')]
  .filter((one) => one.checkVisibility())
  .filter((one) => {
    const labels = one.labels ? [...one.labels].map((label) => label.textContent).join('') : '';
    const name = one.getAttribute('aria-label') || one.title || labels || one.textContent;
    return !name.trim();
  })
  .map((one) => one.outerHTML.slice(0, 200))
"""
"""Controls without a name."""

OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
"""Pixels by which the page is wider than the window."""

SMUGGLED = """
() => window.pwned || [...document.querySelectorAll('*')].filter((one) =>
    (one.localName === 'script' && !one.src) || ['iframe', 'object', 'embed', 'base', 'b-x'].includes(one.localName)
    || [...one.attributes].some((a) => /^on/i.test(a.name) || /^\\s*javascript:/i.test(a.value)))
  .map((one) => one.outerHTML.slice(0, 200)).join('\\n')
"""
"""What a page runs, or has in it, that can only come from a message."""

PALE = """
() => {
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = 1;
  const pen = canvas.getContext('2d', { willReadFrequently: true });
  const over = (below, colour) => {
    pen.fillStyle = `rgb(${below.join(' ')})`; pen.fillRect(0, 0, 1, 1);
    pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (one) => {
    const chain = [];
    for (let at = one; at; at = at.parentElement) chain.unshift(getComputedStyle(at).backgroundColor);
    return chain.reduce(over, [255, 255, 255]);
  };
  const found = [];
  for (const one of document.querySelectorAll('main *, header *')) {
    const own = [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !one.checkVisibility() || one.closest('.hidden, .skip, option, [disabled]')) continue;
    const style = getComputedStyle(one), below = ground(one), text = over(below, style.color);
    const [a, b] = [light(below), light(text)].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) found.push(`${ratio.toFixed(2)} ${one.outerHTML.slice(0, 120)}`);
  }
  return found;
}
"""
"""Texts whose contrast is below that of WCAG AA."""
