"""Do files and functions stay as short as we promised? Fails on a file or function that is too long.

Knows: our limits, and what a code line is: neither blank nor only a comment or docstring.
Must not know: whether long code is good code; who disagrees changes the limit, not the count. Driven by `make lint`.
Prints the figures of the product code that have a goal but no hard limit.
"""

import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import tree_sitter
import tree_sitter_python
import tree_sitter_rust

FILE_LINES_MAX = 800
FUNCTION_LINES_MAX = 80  # code lines
LONG_FUNCTION_LINES = 50
LONG_FUNCTIONS_GOAL_PERCENT = 1.5
MEDIAN_GOAL_LINES = 7
BUILT = frozenset({"target", "dist", "node_modules", "__pycache__"})
TEST_FOLDERS = frozenset({"tests", "benches", "fuzz"})

LANGUAGES = {
    ".py": tree_sitter.Language(tree_sitter_python.language()),
    ".rs": tree_sitter.Language(tree_sitter_rust.language()),
}
FUNCTIONS = frozenset({"function_definition", "function_item"})


@dataclass(frozen=True, slots=True)
class Function:
    """One function and its length, nested functions included."""

    name: str
    line: int
    code_lines: int
    is_test: bool


def functions_of(source: bytes, suffix: str) -> list[Function]:
    """Every function of a source text, outermost first. `suffix` is a key of LANGUAGES."""
    root = tree_sitter.Parser(LANGUAGES[suffix]).parse(source).root_node
    code = code_rows(root, source)
    return [measure(node, code) for node in walk(root) if node.type in FUNCTIONS]


def measure(node: tree_sitter.Node, code: frozenset[int]) -> Function:
    """From the signature to the closing line."""
    first, last = node.start_point.row, node.end_point.row
    name = node.child_by_field_name("name")
    return Function(
        name=name.text.decode() if name is not None and name.text is not None else "?",
        line=first + 1,
        code_lines=sum(row in code for row in range(first, last + 1)),
        is_test=is_in_test_module(node),
    )


def code_rows(root: tree_sitter.Node, source: bytes) -> frozenset[int]:
    """Rows (from 0) that hold code."""
    lines = source.split(b"\n")
    prose: set[int] = set()
    for node in walk(root):
        is_alone = not lines[node.start_point.row][: node.start_point.column].strip()
        if is_alone and is_prose(node):
            # A Rust line comment ends at column 0 of the next row, which is not part of it.
            last = node.end_point.row - (node.end_point.column == 0)
            prose.update(range(node.start_point.row, last + 1))
    return frozenset(row for row, line in enumerate(lines) if line.strip() and row not in prose)


def is_prose(node: tree_sitter.Node) -> bool:
    """A comment, or a string that stands as a statement of its own."""
    is_docstring = node.type == "expression_statement" and node.child_count == 1 and node.children[0].type == "string"
    return is_docstring or node.type.endswith("comment")


def is_in_test_module(node: tree_sitter.Node) -> bool:
    """Inside a Rust module under `#[cfg(test)]`."""
    parent = node.parent
    while parent is not None:
        if parent.type == "mod_item" and has_test_attribute(parent):
            return True
        parent = parent.parent
    return False


def has_test_attribute(module: tree_sitter.Node) -> bool:
    """Attributes stand before the item as its siblings."""
    before = module.prev_sibling
    while before is not None and before.type in {"attribute_item", "line_comment"}:
        if b"cfg(test" in (before.text or b"") or b"cfg(all(test" in (before.text or b""):
            return True
        before = before.prev_sibling
    return False


def walk(root: tree_sitter.Node) -> Iterator[tree_sitter.Node]:
    """Every node, parents before children."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(reversed(node.children))


def judge(path: str, source: bytes, functions: Sequence[Function]) -> Iterator[str]:
    """One sentence for each limit that the file breaks."""
    lines = source.count(b"\n")
    if lines > FILE_LINES_MAX:
        yield f"{path}: {lines} lines; at most {FILE_LINES_MAX}: split it by idea"
    for function in functions:
        if function.code_lines > FUNCTION_LINES_MAX:
            yield (
                f"{path}:{function.line}: {function.name} has {function.code_lines} code lines; "
                f"at most {FUNCTION_LINES_MAX}: name its parts"
            )


def summary(sizes: Sequence[int]) -> str:
    """The figures of the product's functions beside their goals."""
    if not sizes:
        return "no functions"
    share = 100 * sum(size > LONG_FUNCTION_LINES for size in sizes) / len(sizes)
    return (
        f"{len(sizes)} functions: median {statistics.median(sizes):g} code lines (goal {MEDIAN_GOAL_LINES}), "
        f"longest {max(sizes)} (limit {FUNCTION_LINES_MAX}), "
        f"{share:.1f} % above {LONG_FUNCTION_LINES} (goal {LONG_FUNCTIONS_GOAL_PERCENT})"
    )


def sources(root: Path) -> Iterator[Path]:
    """Our own files below `root`, in a fixed order; what tools built or installed is left out."""
    for entry in sorted(root.iterdir()):
        if entry.is_dir() and not entry.is_symlink() and entry.name not in BUILT and not entry.name.startswith("."):
            yield from sources(entry)
        elif entry.suffix in LANGUAGES and entry.is_file():
            yield entry


def main() -> int:
    """Exit code 1 where a limit is broken. Runs in the repository's root."""
    broken: list[str] = []
    sizes: dict[str, list[int]] = {suffix: [] for suffix in LANGUAGES}
    for path in sources(Path()):
        source = path.read_bytes()
        functions = functions_of(source, path.suffix)
        broken.extend(judge(str(path), source, functions))
        if not TEST_FOLDERS & set(path.parts):
            sizes[path.suffix].extend(f.code_lines for f in functions if not f.is_test)
    for suffix, found in sizes.items():
        print(f"{suffix}: {summary(found)}")
    for sentence in broken:
        print(sentence, file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
