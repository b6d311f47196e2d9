"""The guides' Python examples are run as they stand; where an output is shown, it is the output."""

import ast
import asyncio
import inspect
import re
from pathlib import Path
from types import FunctionType

import pytest

GUIDES = Path(__file__).resolve().parents[2] / "docs" / "guides"
EXAMPLE = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", re.MULTILINE | re.DOTALL)
EXAMPLES = [
    pytest.param(*match.groups(), id=f"{page.stem}-{number}")
    for page in sorted(GUIDES.glob("*.md"))
    for number, match in enumerate(EXAMPLE.finditer(page.read_text(encoding="utf-8")), start=1)
]


def test_there_are_examples() -> None:
    assert len(EXAMPLES) > 5


@pytest.mark.parametrize(("code", "output"), EXAMPLES)
def test_an_example_does_what_the_guide_says(code: str, output: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    compiled = compile(code, "guide", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    running = FunctionType(compiled, {"__name__": "guide"})()
    if inspect.iscoroutine(running):
        asyncio.run(asyncio.wait_for(running, timeout=30))
    printed = capsys.readouterr().out
    assert output is None or printed == output


@pytest.mark.parametrize("page", sorted(GUIDES.glob("*.md")), ids=lambda page: page.stem)
def test_every_local_link_leads_to_a_file(page: Path) -> None:
    targets = re.findall(r"\]\((?!\w+:)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []
