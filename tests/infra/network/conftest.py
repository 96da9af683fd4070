"""One authority for all tests of a session: keys cost time."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.infra.network.servers import Authority, make_authority


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where certificates lie."""
    return tmp_path_factory.mktemp("pki")


@pytest.fixture(scope="session")
def authority(pki: Path) -> Authority:
    """The authority that the tests trust."""
    return make_authority(pki)


@pytest.fixture(scope="session")
def good_pem(authority: Authority, pki: Path) -> Path:
    """A certificate for shop.test and 127.0.0.1 that is valid for 60 of its 90 days more."""
    return authority.issue(pki, "shop.test", "127.0.0.1", starts=timedelta(days=-30), ends=timedelta(days=60))
