"""A page in Chromium, for the tests: what it said, what it asked for, and what is hard to read in it."""

import json
import time

# Texts whose contrast with what is behind them is below 4.5 (WCAG 2, level AA).
CONTRAST = """
const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
function behind(element) {
  for (; element; element = element.parentElement) {
    const colour = channels(getComputedStyle(element).backgroundColor);
    if (colour[3] !== 0) return colour;
  }
}
return [...document.querySelectorAll("body *")].filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
  .filter((e) => e.checkVisibility() && !e.closest("svg, script, style")).map((e) => {
    const [a, b] = [light(channels(getComputedStyle(e).color)), light(behind(e))];
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.tagName, e.className, e.textContent.slice(0, 40)];
  }).filter(([ratio]) => ratio < 4.5);
"""


class Browser:
    """Opens pages as if nobody had been there, and knows what they said and asked for."""

    def __init__(self, driver):
        self.driver, self.js = driver, driver.execute_script
        self.command = driver.execute_cdp_cmd

    def open(self, file, address=""):
        self.driver.get("about:blank")
        for log in ("browser", "performance"):
            self.driver.get_log(log)
        self.driver.get(f"{file.as_uri()}{address}")

    def messages(self) -> list[dict]:
        return self.driver.get_log("browser")

    def requests(self) -> tuple[set[str], set[str]]:
        """Addresses that were asked for, those in the page itself left out, and those of them that a policy refused."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        by_kind = {
            kind: [e["params"] for e in events if e["method"] == f"Network.{kind}"]
            for kind in ("requestWillBeSent", "loadingFailed")
        }
        sent = {event["requestId"]: event["request"]["url"] for event in by_kind["requestWillBeSent"]}
        refused = {
            sent[event["requestId"]] for event in by_kind["loadingFailed"] if event.get("blockedReason") == "csp"
        }
        return {url for url in sent.values() if not url.startswith("data:")}, refused

    def press(self, *keys):
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def one(self, selector):
        return self.driver.find_element("css selector", selector)

    def click(self, element):
        self.js("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def wait(self, condition):
        end = time.monotonic() + 60
        while not self.js(f"return {condition}"):
            assert time.monotonic() < end, condition
            time.sleep(0.02)
