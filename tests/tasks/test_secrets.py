"""Prefect blocks as a source of secrets, on a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prefect import flow
from prefect.blocks.system import Secret
from prefect.settings import PREFECT_API_URL, temporary_settings

from infra.errors import SecretMissing
from infra.settings import settings
from tasks.secrets import PrefectBlocks, block_name, read_secret


@pytest.fixture(autouse=True)
def _no_directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("UPKEEP_SECRETS_DIR", raising=False)
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("text", ["postgresql://u:p@db/shop", "123", "null", '"quoted"', '{"a": 1}', "ä\n"])
def test_a_block_gives_back_exactly_the_text_that_was_stored(text: str) -> None:
    Secret(value=text).save(block_name("shop_dsn"), overwrite=True)
    assert read_secret("shop_dsn").get_secret_value() == text


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_server")
def test_a_flow_reads_a_block_too() -> None:
    Secret(value="x").save(block_name("of-a-flow"), overwrite=True)

    @flow
    def read() -> int:
        return len(read_secret("of-a-flow").get_secret_value())

    assert read() == 1


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_server")
def test_the_variable_goes_before_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    Secret(value="from the block").save(block_name("both"), overwrite=True)
    monkeypatch.setenv("UPKEEP_SECRET_BOTH", "from the variable")
    assert read_secret("both").get_secret_value() == "from the variable"


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_server")
def test_a_block_that_is_not_there_is_named_among_the_places() -> None:
    with pytest.raises(SecretMissing, match=r"the Prefect block upkeep-gone$"):
        read_secret("gone")


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_server")
def test_a_block_without_text_is_refused() -> None:
    Secret(value={"user": "u"}).save(block_name("table"), overwrite=True)
    with pytest.raises(SecretMissing, match="the Prefect block upkeep-table holds no text"):
        PrefectBlocks().look_up("table")


def test_a_server_that_does_not_answer_is_named_as_such() -> None:
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        pytest.raises(SecretMissing) as caught,
    ):
        read_secret("shop-dsn")
    assert "the Prefect block upkeep-shop-dsn (cannot be asked: the Prefect server: " in str(caught.value)


def test_no_server_is_started_where_none_is_configured() -> None:
    with temporary_settings(restore_defaults={PREFECT_API_URL}), pytest.raises(SecretMissing) as caught:
        read_secret("shop-dsn")
    assert "(cannot be asked: PREFECT_API_URL is not set)" in str(caught.value)
