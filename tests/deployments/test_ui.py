"""Prefect's UI in a real browser: one logs in with the auth string, and no page asks a host outside."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from deployments.runs import create_run
from tests.deployments.installation import Installation, wait_for

pytestmark = [pytest.mark.prefect, pytest.mark.timeout(300)]

PAGES = ["dashboard", "runs", "flows", "deployments", "work-pools", "blocks", "variables", "automations"]
PAGES += ["events", "concurrency-limits", "settings"]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    here = Installation(tmp_path)
    yield here
    here.upkeep("down")


def test_no_page_asks_a_host_outside(installation: Installation) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("NO CHROMIUM ON THIS MACHINE: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    installation.serve({"name": "all", "entrypoint": "upkeep_test_flows.tiny"})
    run = create_run(installation.api, installation.deployment("all")["id"])
    wait_for(lambda: installation.runs("all")[0]["state_type"] == "COMPLETED", "a run")
    address = installation.api.url.removesuffix("/api")
    asked: set[str | None] = set()
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page()
        page.on("request", lambda request: asked.add(urlsplit(request.url).hostname))
        page.on("websocket", lambda socket: asked.add(urlsplit(socket.url).hostname))
        page.goto(address)
        page.fill("input[type=password]", installation.api.auth_string or "")
        page.keyboard.press("Enter")
        page.wait_for_url("**/dashboard")
        for name in (*PAGES, f"runs/flow-run/{run}"):
            page.goto(f"{address}/{name}")
            page.wait_for_timeout(800)
            assert "/login" not in page.url, f"{name} asks to log in again"
        browser.close()
    assert asked - {None} == {"127.0.0.1"}
