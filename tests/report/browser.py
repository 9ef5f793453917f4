"""A page in Debian's chromium, without a screen, driven over its DevTools protocol. Tests skip where there is none."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (apt-get install chromium)")
SECONDS = 60


class Page:
    """One page that is open, and what its browser had to say about it."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._sent = 0
        self.complaints: list[str] = []  # of the console, of scripts that broke, of the policy
        self.asked: list[str] = []  # addresses that the page wanted

    async def call(self, method: str, **parameters: Any) -> Any:
        """Send a command and return its result, noting the events that come before."""
        self._sent += 1
        await self._socket.send_json({"id": self._sent, "method": method, "params": parameters})
        while True:
            answer = await self._socket.receive_json(timeout=SECONDS)
            if answer.get("id") == self._sent:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer["method"], answer["params"])

    def _note(self, event: str, of: dict[str, Any]) -> None:
        if event in {"Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled"}:
            self.complaints.append(json.dumps(of))
        if event == "Network.requestWillBeSent":
            self.asked.append(of["request"]["url"])

    async def run(self, script: str) -> Any:
        """Return what a JavaScript expression comes to."""
        found = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def size(self, width: int, height: int = 900) -> None:
        """Show the page on a screen of this size; a narrow one is a phone's."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    async def dark(self, on: bool = True) -> None:
        """Ask for dark colours, as a system does."""
        features = [{"name": "prefers-color-scheme", "value": "dark" if on else "light"}]
        await self.call("Emulation.setEmulatedMedia", media="", features=features)

    async def press(self, key: str, code: int, text: str = "") -> None:
        """Press a key and let it go."""
        known = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        await self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **known)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **known)

    async def picture(self, path: Path) -> None:
        """Keep the whole page as a PNG."""
        found = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))

    async def printed(self, path: Path) -> None:
        """Keep the page as it is printed, a PDF."""
        path.write_bytes(base64.b64decode((await self.call("Page.printToPDF"))["data"]))


def look(path: Path, then: Callable[[Page], Any], *, scripts: bool = True) -> Page:
    """Open a file, do ``then`` with its page, and return the page with all that was noted."""
    return asyncio.run(_look(path, then, scripts=scripts))


async def _look(path: Path, then: Callable[[Page], Any], *, scripts: bool) -> Page:
    import aiohttp

    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        words = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
        words += ["--disable-dev-shm-usage", f"--user-data-dir={profile}", "about:blank"]
        browser = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            port = await _port(Path(profile) / "DevToolsActivePort", browser)
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    tab = next(t for t in await answer.json() if t["type"] == "page")
                async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                    page = Page(socket)
                    for part in ("Page", "Runtime", "Log", "Network"):
                        await page.call(f"{part}.enable")
                    await page.call("Emulation.setScriptExecutionDisabled", value=not scripts)
                    await page.call("Page.navigate", url=path.resolve().as_uri())
                    while await page.run("document.readyState + location.protocol") != "completefile:":
                        await asyncio.sleep(0.05)
                    await then(page)
                    return page
        finally:
            browser.terminate()
            browser.wait(SECONDS)


async def _port(file: Path, browser: subprocess.Popen[bytes]) -> int:
    for _ in range(20 * SECONDS):
        if file.exists() and (text := file.read_text()).count("\n"):
            return int(text.splitlines()[0])
        assert browser.poll() is None, "chromium ended before it answered"
        await asyncio.sleep(0.05)
    raise TimeoutError("chromium did not answer")
