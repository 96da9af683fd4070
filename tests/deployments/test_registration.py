"""What becomes of a schedule when deployments are registered again."""

from __future__ import annotations

from typing import Any

import yaml

from deployments.registration import PREFECT_FILE, hash_of, key_of, merge, withdrawn

SHIPPED: dict[str, Any] = {
    "name": "all",
    "entrypoint": "flows.health.health",
    "schedules": [{"slug": "hourly", "cron": "0 * * * *", "timezone": "UTC"}],
}


def on_server(cron: str, *, active: bool = True, slug: str | None = "hourly") -> dict[str, Any]:
    schedule = {"cron": cron, "timezone": "UTC", "day_or": True}
    return {"slug": slug, "active": active, "parameters": {}, "schedule": schedule}


def known(cron: str) -> dict[str, str]:
    return {key_of(SHIPPED, "hourly"): hash_of(on_server(cron))}


def test_a_new_schedule_is_sent_as_it_ships() -> None:
    assert merge(SHIPPED, [], {}) == (SHIPPED["schedules"], {})


def test_an_untouched_schedule_follows_the_file_and_keeps_its_state() -> None:
    merged, kept = merge(SHIPPED, [on_server("30 * * * *", active=False)], known("30 * * * *"))
    assert (merged[0]["cron"], merged[0]["active"], kept) == ("0 * * * *", False, {})


def test_a_schedule_that_somebody_changed_keeps_its_times() -> None:
    merged, kept = merge(SHIPPED, [on_server("7 * * * *")], known("0 * * * *"))
    assert merged[0]["cron"] == "7 * * * *"
    assert "kept cron 7 * * * *" in kept["hourly"]


def test_a_change_that_equals_the_file_is_no_change() -> None:
    assert merge(SHIPPED, [on_server("0 * * * *")], {})[1] == {}


def test_schedules_that_people_added_are_kept_even_several_without_a_slug() -> None:
    own = [on_server("1 1 * * *", slug=None), on_server("2 2 * * *", slug=None)]
    merged, _ = merge(SHIPPED, own, known("0 * * * *"))
    assert [s["cron"] for s in merged] == ["0 * * * *", "1 1 * * *", "2 2 * * *"]


def test_only_what_we_shipped_earlier_is_withdrawn() -> None:
    without = {**SHIPPED, "schedules": []}
    assert withdrawn(without, on_server("0 * * * *"), known("0 * * * *"))
    assert not withdrawn(without, on_server("0 * * * *"), {})


def test_every_shipped_schedule_has_a_slug_a_zone_and_never_starts_again_what_was_paused() -> None:
    for deployment in yaml.safe_load(PREFECT_FILE.read_text())["deployments"]:
        assert deployment["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}
        for schedule in deployment.get("schedules", []):
            assert {"slug", "timezone"} <= schedule.keys()
            assert schedule.get("active", False) is False
