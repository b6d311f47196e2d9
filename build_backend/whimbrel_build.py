"""The build backend that pip calls: maturin, behind one check of the Rust toolchain.

Knows: the hooks of PEP 517 and PEP 660. Must not know: how the product is compiled; that is maturin's part, configured
in pyproject.toml. Driven by pip, build and other front ends, each hook in its own process.

maturin's own answer to a missing cargo is to download a toolchain from outside the package registries. We say what to
install instead.
"""

import os
import sys

# Read by maturin at each hook.
os.environ["MATURIN_NO_INSTALL_RUST"] = "1"

import maturin
from maturin import build_editable, build_sdist, build_wheel

import toolchain

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

Settings = dict[str, object] | None


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    """The first hook a front end calls, hence the place of the check. Exits with the reason, without a stack trace."""
    require_toolchain()
    return list(maturin.get_requires_for_build_wheel(config_settings))


def get_requires_for_build_editable(config_settings: Settings = None) -> list[str]:
    """As for a wheel."""
    return get_requires_for_build_wheel(config_settings)


def get_requires_for_build_sdist(config_settings: Settings = None) -> list[str]:
    """As for a wheel: maturin asks cargo which files belong to the workspace."""
    return get_requires_for_build_wheel(config_settings)


def prepare_metadata_for_build_wheel(metadata_directory: str, config_settings: Settings = None) -> str:
    """Checked again: with `--no-build-isolation` some front ends call this hook first."""
    require_toolchain()
    return str(maturin.prepare_metadata_for_build_wheel(metadata_directory, config_settings))


def prepare_metadata_for_build_editable(metadata_directory: str, config_settings: Settings = None) -> str:
    """As for a wheel."""
    return prepare_metadata_for_build_wheel(metadata_directory, config_settings)


def require_toolchain() -> None:
    """Raises SystemExit whose text is the whole message; the front end shows it as it is."""
    try:
        toolchain.check(toolchain.required_version())
    except toolchain.ToolchainError as error:
        sys.exit(f"\n{error}\n")
