"""How code lines are counted, in both languages, and when a limit is broken."""

from tools.check_sizes import FILE_LINES_MAX, FUNCTION_LINES_MAX, functions_of, judge, summary

PYTHON = b'''\
def outer(
    value: int,
) -> int:
    """Prose.

    More prose.
    """
    # A reason.
    text = """
    not a docstring
    """  # behind code

    def inner() -> int:
        return 1

    return inner() + value + len(text)
'''

RUST = b"""\
/// Prose.
fn product(
    value: u32,
) -> u32 {
    // A reason.

    /* a block
       of prose */
    value + 1 // behind code
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_adds_one() {
        assert_eq!(super::product(1), 2);
    }
}
"""


def test_python_docstrings_comments_and_blank_lines_do_not_count() -> None:
    counted = [(function.name, function.line, function.code_lines) for function in functions_of(PYTHON, ".py")]

    assert counted == [("outer", 1, 9), ("inner", 13, 2)]


def test_rust_comments_do_not_count_and_test_modules_are_known() -> None:
    counted = [(f.name, f.line, f.code_lines, f.is_test) for f in functions_of(RUST, ".rs")]

    assert counted == [("product", 2, 5, False), ("it_adds_one", 15, 3, True)]


def body_of(lines: int) -> bytes:
    """A Python function of exactly so many code lines."""
    return b"def long() -> None:\n" + b"    pass\n" * (lines - 1)


def test_a_function_at_the_limit_passes_and_one_line_more_does_not() -> None:
    fitting, long = body_of(FUNCTION_LINES_MAX), body_of(FUNCTION_LINES_MAX + 1)

    assert list(judge("a.py", fitting, functions_of(fitting, ".py"))) == []
    assert list(judge("a.py", long, functions_of(long, ".py"))) == [
        "a.py:1: long has 81 code lines; at most 80: name its parts"
    ]


def test_a_file_at_the_limit_passes_and_one_line_more_does_not() -> None:
    assert list(judge("a.rs", b"\n" * FILE_LINES_MAX, [])) == []
    assert list(judge("a.rs", b"\n" * (FILE_LINES_MAX + 1), [])) == ["a.rs: 801 lines; at most 800: split it by idea"]


def test_the_summary_shows_the_figures_beside_their_goals() -> None:
    assert summary([1, 5, 60, 4]) == (
        "4 functions: median 4.5 code lines (goal 7), longest 60 (limit 80), 25.0 % above 50 (goal 1.5)"
    )
    assert summary([]) == "no functions"
