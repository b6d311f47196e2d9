"""What the settings tests share: a working directory of their own and a way to write the file of settings."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from whimbrel.settings import Settings, SettingsError, load

HOME = {"XDG_STATE_HOME": "/state"}

Written = Callable[..., Settings]


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Written:
    """Loads the settings of a file `broker.toml` with this text, and of the other sources."""
    monkeypatch.chdir(tmp_path)

    def read(
        text: str | bytes = "",
        *,
        environment: Mapping[str, str] | None = None,
        sets: Sequence[str] = (),
        data_dir: Path | None = None,
    ) -> Settings:
        Path("broker.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
        return load(file=Path("broker.toml"), environment={**HOME, **(environment or {})}, sets=sets, data_dir=data_dir)

    return read


@pytest.fixture
def refused(written: Written) -> Callable[..., str]:
    """The text of the error that the same call raises."""

    def text(*arguments: str | bytes, **more: object) -> str:
        with pytest.raises(SettingsError) as caught:
            written(*arguments, **more)
        return str(caught.value)

    return text
