"""A broker behind TLS, for the tests of load.

Knows its listener and the authority behind its certificate. Must not know what is asked of it.
"""

from collections.abc import Iterator

import pytest

from tests.wire.authority import Authority
from whimbrel.testing.background import BackgroundBroker


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "authority")


@pytest.fixture(scope="module")
def secret(authority: Authority) -> Iterator[BackgroundBroker]:
    """Clients may show a certificate and need not."""
    server = authority.issue("server")
    settings = {
        "listeners.tcp.default.bind": "off",
        "listeners.tls.default.bind": "127.0.0.1:0",
        "listeners.tls.default.cert_file": str(server.cert),
        "listeners.tls.default.key_file": str(server.key),
        "listeners.tls.default.ca_file": str(authority.ca),
        "listeners.tls.default.verify": "optional",
    }
    with BackgroundBroker(settings) as started:
        yield started
