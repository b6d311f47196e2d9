"""A low watermark above its high one is told of, and one that another layer lowers, too."""

import pytest

from whimbrel.settings import SettingsError, from_mapping
from whimbrel.settings.table import WATERMARKS


@pytest.mark.parametrize("name", WATERMARKS)
def test_the_low_one_is_not_above_the_high_one(name: str) -> None:
    high, low = (f"sysmon.{name}_{word}_watermark" for word in ("high", "low"))
    equal = from_mapping({high: 40, low: 40}).sysmon
    assert (getattr(equal, f"{name}_high"), getattr(equal, f"{name}_low")) == (40, 40)
    with pytest.raises(SettingsError) as refused:
        from_mapping({high: 40, low: 41})
    assert f"found:   41, above {high}" in str(refused.value)
    assert "allowed: a whole number from 1 to 40" in str(refused.value)
    # A high one alone below the default of the low one: the operator is told which one is in the way.
    with pytest.raises(SettingsError, match=low):
        from_mapping({high: 10})
