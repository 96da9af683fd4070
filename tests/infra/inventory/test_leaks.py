"""A secret in the file is a mistake, and no message ever shows it."""

from __future__ import annotations

from typing import Any

import pytest

from infra.inventory import load_inventory
from infra.inventory.leaks import find_leaks
from tests.infra.inventory.documents import put, valid

WEB = "environments/production/hosts/web-1"
PRIVATE_KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2\n-----END OPENSSH PRIVATE KEY-----"

LEAKS: tuple[tuple[str, Any], ...] = (
    (f"{WEB}/password", "hunter2"),
    (f"{WEB}/become_password", "hunter2"),
    (f"{WEB}/api_key", "hunter2"),
    (f"{WEB}/token", 4711),
    (f"{WEB}/secret", "hunter2"),
    (f"{WEB}/user", "password=hunter2"),
    (f"{WEB}/identity_file", PRIVATE_KEY),
    ("environments/production/services/shop/endpoints/0/url", "https://me:hunter2@shop.example/"),
    ("environments/production/services/shop/endpoints/0/url", "https://shop.example/?access_token=hunter2"),
    ("environments/production/services/shop/caches/0", "redis://:hunter2@192.0.2.14:6379"),
    ("environments/production/services/shop/tests", ["pytest --dsn postgresql://u@h/db?password=hunter2"]),
    ("environments/production/services/shop/tests", ["curl https://me:hunter2@shop.example/"]),
    ("environments/production/databases/shop/members/0/dsn_secret", "postgresql://u:hunter2@db/shop"),
    ("environments/production/databases/shop/members/0/dsn_secret", "host=db user=u password=hunter2"),
    ("approvers/kim/ssh_public_keys/0", PRIVATE_KEY),
    ("approvers/kim/notify_secret", "slack://hunter2/b/c"),
    ("notifications/chat/url_secrets/0", "tgram://hunter2/1"),
    ("notifications/chat/url_secrets/0", "https://hooks.slack.com/services/T1/B2/hunter2"),
    ("notifications/chat/url", "mailto://me:hunter2@mail.example"),
)


@pytest.mark.parametrize(("path", "value"), LEAKS)
def test_a_secret_is_one_mistake_that_names_its_key_and_hides_its_value(path: str, value: Any) -> None:
    (line,) = put(path, value)
    assert "(hidden): a secret in the file; accepted: " in line
    assert "hunter2" not in line
    assert "4711" not in line


def test_a_secret_within_a_table_that_is_wrong_for_another_reason_stays_hidden() -> None:
    lines = put("environments/staging/hosts/web-1", {"address": "x", "password": "hunter2"})
    assert len(lines) == 2
    assert not any("hunter2" in line for line in lines)


def test_a_secret_that_serves_as_a_key_stays_hidden() -> None:
    path = "environments/production/load_balancers/edge/backends"
    lines = put(path, {"https://me:hunter2@shop.example": "nobody"})
    assert lines
    assert not any("hunter2" in line for line in lines)


def test_what_no_secret_name_can_be_is_never_shown_where_a_secret_is_named() -> None:
    (line,) = put("approvers/kim/notify_secret", "hunter2 hunter2")
    assert "(hidden): accepted: the name of a secret" in line
    assert "hunter2" not in line


def test_names_of_secrets_and_ordinary_text_are_no_leaks() -> None:
    document = valid()
    shop = document["environments"]["production"]["services"]["shop"]
    shop["endpoints"][0]["expect_headers"] = {"X-Token": "[0-9a-f]+"}
    shop["tests"] = ["pytest tests/token", "https://shop.example/selftest?verbose=1"]
    shop["critical_units"]["token"] = ["token.service"]
    document["environments"]["production"]["load_balancers"]["edge"]["backends"]["token"] = "shop"
    assert list(find_leaks(document)) == []
    assert load_inventory(None)
