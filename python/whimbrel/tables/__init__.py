"""What the control plane keeps: typed rows by key in named families, durable where the broker has a store.

`codec` turns a frozen dataclass into the bytes of a row and back, `table` holds the rows of a family in memory and
changes them in the store. Whoever owns a family (accounts, bans, alarms, rules) declares a `Family` and opens it; it
need not know whether there is a store.
"""

from whimbrel.tables.codec import RowError
from whimbrel.tables.table import Damaged, Family, Step, Table, Tables

__all__ = ["Damaged", "Family", "RowError", "Step", "Table", "Tables"]
