"""How the machine and this process are: shares of cores, memory and disk, read where Linux tells them.

Knows the files under /proc, statvfs and asyncio. What cannot be read is None, and nothing is estimated in its place.
Percentages are real numbers from 0 to 100.
"""

import asyncio
import os
import resource
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
# Of the first line of /proc/stat: user nice system idle iowait irq softirq steal; guest time is in user time already.
_CPU_FIELDS: Final = 8
_IDLE_FIELDS: Final = slice(3, 5)


class Vitals:
    """Readings of now. `cpu_percent` tells of the time since it was asked before."""

    def __init__(self, data_dir: Path | None, *, proc: Path = _PROC) -> None:
        """`data_dir` is where the disk is looked at, None for nowhere; `proc` is /proc unless a test brings its own."""
        self._data_dir = data_dir
        self._proc = proc
        self._cpu: tuple[int, int] | None = None

    def cpu_percent(self) -> float | None:
        """Busy time of all cores since the last call; None at the first one."""
        before, self._cpu = self._cpu, self._cpu_times()
        if before is None or self._cpu is None:
            return None
        busy, total = (now - then for now, then in zip(self._cpu, before, strict=True))
        return _percent(busy, total)

    def system_memory_percent(self) -> float | None:
        """Memory of the machine that could not be had without taking it from somebody."""
        memory = self._memory()
        return None if memory is None else _percent(memory[0] - memory[1], memory[0])

    def process_memory_percent(self) -> float | None:
        """Memory of the machine that this process has."""
        memory, resident = self._memory(), self.resident_bytes()
        return None if memory is None or resident is None else _percent(resident, memory[0])

    def resident_bytes(self) -> int | None:
        """Memory that this process has."""
        words = self._read("self/statm").split()
        return int(words[1]) * resource.getpagesize() if len(words) > 1 else None

    def disk_percent(self) -> float | None:
        """Disk of the data directory that is in use, of what those without privileges may use."""
        if self._data_dir is None:
            return None
        try:
            found = os.statvfs(self._data_dir)
        except OSError:
            return None
        used = found.f_blocks - found.f_bfree
        return _percent(used, used + found.f_bavail)

    @staticmethod
    def tasks() -> int:
        """Tasks of the running loop that are alive."""
        return len(asyncio.all_tasks())

    def _memory(self) -> tuple[int, int] | None:
        """Bytes in all, and those that are available."""
        rows = dict(line.partition(":")[::2] for line in self._read("meminfo").splitlines())
        found = [rows.get(name, "").split() for name in ("MemTotal", "MemAvailable")]
        return (int(found[0][0]) * 1024, int(found[1][0]) * 1024) if all(found) else None

    def _cpu_times(self) -> tuple[int, int] | None:
        """Busy and all ticks of all cores since the machine's start."""
        words = self._read("stat").partition("\n")[0].split()
        if not words or words[0] != "cpu":
            return None
        ticks = [int(word) for word in words[1 : _CPU_FIELDS + 1]]
        return sum(ticks) - sum(ticks[_IDLE_FIELDS]), sum(ticks)

    def _read(self, name: str) -> str:
        try:
            return (self._proc / name).read_text()
        except OSError:
            return ""


def _percent(part: int, whole: int) -> float | None:
    return min(100.0, max(0.0, 100.0 * part / whole)) if whole > 0 else None
