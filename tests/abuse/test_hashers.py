"""No table of the product hashes with a key that strangers know.

Knows the source of the crates and the words by which Rust names hashers without a drawn key. What lookups cost under
names that collide is measured by the attack of that name.
"""

import re
from pathlib import Path

CRATES = Path(__file__).resolve().parents[2] / "crates"
# Hashers of a fixed key, by their names and by the ways to make one.
UNKEYED = re.compile(
    r"FxHash|fxhash|rustc_hash|ahash|foldhash|FnvHash|fnv::|twox|DefaultHasher::new|BuildHasherDefault|NoHash|nohash"
    r"|hashbrown::Hash(?:Map|Set)"
)
# The simulator's seeded places of sessions; its feature is in no product.
ALLOWED = {"server/src/placement.rs"}


def test_no_crate_uses_a_hasher_without_a_key() -> None:
    sources = [*CRATES.glob("*/src/**/*.rs"), *CRATES.glob("*/Cargo.toml")]
    assert len(sources) > 100
    found = {str(path.relative_to(CRATES)): UNKEYED.findall(path.read_text()) for path in sources}
    assert {path: words for path, words in found.items() if words and path not in ALLOWED} == {}
