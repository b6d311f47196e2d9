"""What a figure is worth nothing without: the machine, the date, the commit, how busy the machine was.

Knows procfs and git. Must not know a host name, a user or a path: results are published.
"""

import datetime
import os
import platform
import subprocess
from pathlib import Path


def facts() -> dict[str, str]:
    """Name and value, in the order in which they are printed. Ask before the load begins: it would count as busy."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
        "machine": f"{os.cpu_count()} x {processor()}, {memory_gb()} GB, {platform.system()} {platform.release()}",
        "busy": pressure(),
    }


def commit() -> str:
    """Short hash, with a plus where the working tree differs from it; "unknown" outside a clone."""
    try:
        head = git("rev-parse", "--short", "HEAD")
        return head + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()


def processor() -> str:
    """The model as the kernel names it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def memory_gb() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9)


def pressure() -> str:
    """Share of the last minute in which somebody waited for a processor; large means that the figures are poor."""
    try:
        some = Path("/proc/pressure/cpu").read_text().partition("\n")[0]
    except OSError:
        return "unknown"
    shares = dict(word.split("=") for word in some.split() if "=" in word)
    return f"CPU pressure {shares['avg60']} % in the minute before"
