"""A real Chromium for the page: what it logs is checked, so no test passes with a script error or a violation of the CSP."""

import base64
import fcntl
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from receiver import SLOWER, wait_for

NPM = Path(__file__).resolve().parents[1] / "npm"
DRIVER = "/usr/bin/chromedriver"


def why_not():
    """Why there is no browser here, or None."""
    try:
        import selenium  # noqa: F401, pylint: disable=unused-import
    except ImportError:
        return "python3-selenium is not installed"
    return None if shutil.which("chromium") and Path(DRIVER).exists() else "chromium or chromium-driver is not installed"


def axe():
    """The source of axe-core, of the version that tests/npm/package-lock.json names."""
    if not shutil.which("npm"):
        pytest.skip("npm is not installed")
    with open(NPM / "package.json") as lock:        # several processes of the tests
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (NPM / "node_modules/axe-core/axe.min.js").is_file():
            subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=NPM, check=True,
                           capture_output=True, timeout=300)
    return (NPM / "node_modules/axe-core/axe.min.js").read_text()


class Browser:
    """One window. authorization: the header that the web server asks for."""

    def __init__(self, page, user=None, width=1280, height=900, dark=False, zone=None, language="en-US"):
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
        self.page, self.user = page, user
        self.profile = tempfile.mkdtemp(prefix="psapi-chromium-")
        options = webdriver.ChromeOptions()
        for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", f"--user-data-dir={self.profile}",
                         f"--window-size={width},{height}", "--ignore-certificate-errors", f"--lang={language}",
                         "--disable-gpu", "--force-device-scale-factor=1", "--hide-scrollbars"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(DRIVER))
        self.driver.set_page_load_timeout(30 * SLOWER)
        self.command("Network.enable")
        self.command("Network.setExtraHTTPHeaders", headers=page.authorization(user) if user else {})
        self.resize(width, height)
        self.scheme(dark)
        if zone:
            self.command("Emulation.setTimezoneOverride", timezoneId=zone)

    def command(self, name, **parameters):
        return self.driver.execute_cdp_cmd(name, parameters)

    def resize(self, width, height=900):
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def scheme(self, dark):
        self.command("Emulation.setEmulatedMedia",
                     features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
                               {"name": "prefers-reduced-motion", "value": "reduce"}])

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self.check_log()
        finally:
            self.driver.quit()
            shutil.rmtree(self.profile, ignore_errors=True)

    def check_log(self, allowed=()):
        lines = [entry["message"] for entry in self.driver.get_log("browser")
                 if entry["level"] in ("SEVERE", "WARNING") and not any(word in entry["message"] for word in allowed)]
        assert lines == [], lines

    # ---- where it is ----

    def open(self, query="", view=None):
        self.driver.get(self.page.url + query)
        self.wait_for_view(view)

    def wait_for_view(self, view=None):
        """Until the view, any one if None, is shown."""
        wait_for(lambda: self.script("const shown = document.querySelector('main').dataset.shown;"
                                     "return arguments[0] ? shown === arguments[0] : Boolean(shown)", view),
                 f"the view {view} is shown")

    def script(self, text, *arguments):
        return self.driver.execute_script(text, *arguments)

    def text(self, selector="main"):
        return self.script("return document.querySelector(arguments[0])?.innerText ?? ''", selector)

    def find(self, selector):
        from selenium.webdriver.common.by import By
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def wait_for_text(self, words, selector="main"):
        wait_for(lambda: words in self.text(selector), f"{words!r} in {selector}")

    def click(self, selector):
        self.find(selector).click()

    def click_left(self, selector):
        """At its left edge."""
        from selenium.webdriver.common.action_chains import ActionChains
        element = self.find(selector)
        ActionChains(self.driver).move_to_element_with_offset(element, 12 - element.size["width"] // 2, 0).click().perform()

    def press(self, *keys):
        """To whatever has the focus."""
        from selenium.webdriver.common.action_chains import ActionChains
        chain = ActionChains(self.driver)
        for key in keys:
            chain.send_keys(key)
        chain.perform()

    def focused(self):
        return self.script("const e = document.activeElement;"
                           "return e.id || e.getAttribute('href') || e.textContent.trim().slice(0, 60) || e.tagName")

    # ---- how it looks ----

    def screenshot(self, path, whole=True):
        size = self.command("Page.getLayoutMetrics")["cssContentSize"]
        shot = self.command("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **({"clip": {
            "x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}} if whole else {}))
        Path(path).write_bytes(base64.b64decode(shot["data"]))

    def overflow(self):
        """Pixels by which the page is wider than its window."""
        return self.script("return document.documentElement.scrollWidth - innerWidth")

    def violations(self):
        """What axe finds, one line for each."""
        self.script(axe())
        result = self.driver.execute_async_script(
            "const done = arguments[0]; axe.run(document, {runOnly: ['wcag2a','wcag2aa','wcag21a','wcag21aa','best-practice']})"
            ".then(done, (e) => done({violations: [{id: String(e), nodes: []}]}))")
        return [f"{one['id']}: {node.get('html', '')[:150]} {node.get('failureSummary', '')[:200]}" for one in result["violations"]
                for node in one["nodes"] or [{}]]
