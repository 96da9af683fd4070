"""A failed health run, mended and retried by a person in Prefect's UI, in a real browser."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from deployments.runs import create_run
from tests.deployments.installation import Installation, wait_for

pytestmark = [pytest.mark.prefect, pytest.mark.timeout(300)]

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
# A disk limit that any disk is beyond, until it is mended; how busy the test machine is does not count.
INVENTORY = """
[environments.local.hosts]
here = {{ address = "127.0.0.1", connection = "local" }}
[environments.local.thresholds]
disk_space_percent = {{ critical = {critical} }}
load_per_cpu = {{ warning = 1000 }}
cpu_percent = {{ warning = 100 }}
"""


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    """This machine, with a limit that it cannot keep."""
    file = tmp_path / "inventory.toml"
    file.write_text(INVENTORY.format(critical=0.0001))
    return file


@pytest.fixture
def installation(tmp_path: Path, inventory: Path) -> Iterator[Installation]:
    here = Installation(tmp_path, variables={"UPKEEP_INVENTORY": str(inventory)})
    yield here
    here.upkeep("down")


@contextmanager
def logged_in(installation: Installation, chromium: str) -> Iterator[Any]:
    """A page of the UI, after its login."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 1100})
        page.goto(installation.api.url.removesuffix("/api"))
        page.fill("input[type=password]", installation.api.auth_string or "")
        page.keyboard.press("Enter")
        page.wait_for_url("**/dashboard")
        yield page
        browser.close()


def keep(page: Any, name: str) -> None:
    """A screenshot for a person to look at, where UPKEEP_SCREENSHOTS names a directory."""
    if directory := os.environ.get("UPKEEP_SCREENSHOTS"):
        page.wait_for_timeout(1500)
        page.screenshot(path=f"{directory}/{name}.png", full_page=True)


def test_a_failed_run_that_is_retried_in_the_ui_runs_again_through_the_worker_and_completes(
    installation: Installation, inventory: Path
) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("NO CHROMIUM ON THIS MACHINE: apt-get install chromium")
    installation.serve({"name": "all", "entrypoint": "flows.health.health"})
    run = create_run(installation.api, installation.deployment("all")["id"])

    def ended(count: int) -> dict[str, Any]:
        (found,) = installation.runs("all", id={"any_": [run]})
        done = found["run_count"] >= count and found["state_type"] in {"COMPLETED", "FAILED", "CRASHED"}
        return found if done else {}

    failed = wait_for(lambda: ended(1), "the first attempt", 120)
    assert (failed["state_type"], failed["run_count"]) == ("FAILED", 1)
    assert "% full" in failed["state"]["message"]
    inventory.write_text(INVENTORY.format(critical=100))
    with logged_in(installation, chromium) as page:
        address = f"{installation.api.url.removesuffix('/api')}/runs/flow-run/{run}"
        page.goto(address)
        page.get_by_role("button", name="Retry").wait_for()
        keep(page, "1-failed")
        page.get_by_text("Artifacts", exact=True).click()
        page.get_by_text(failed["state"]["message"]).wait_for()  # the card says it without a click
        keep(page, "2-artifacts")
        page.get_by_text("Findings, worst first").click()
        page.get_by_text("% full (").first.wait_for()
        keep(page, "3-findings")
        page.goto(address)
        page.get_by_role("button", name="Retry").click()
        with page.expect_request(lambda r: r.method == "POST" and r.url.endswith("/set_state")) as posted:
            page.get_by_role("dialog").get_by_role("button", name="Retry").click()
        assert json.loads(posted.value.post_data)["state"]["type"] == "SCHEDULED"
        completed = wait_for(lambda: ended(2), "the second attempt", 120)
        page.goto(address)
        keep(page, "4-retried")
    assert (completed["state_type"], completed["run_count"]) == ("COMPLETED", 2)
    shown = installation.upkeep("health", "--json").stdout
    assert json.loads(shown)["status"] != "critical"
