"""What is wrong with this broker now, and what was: `registry` keeps it, whoever notices something tells it there.

Knows names, sentences and times. Must not know who looks (`services.monitors`) or who is told (`$SYS`, hooks, the
command line).
"""

from whimbrel.alarms.registry import Alarm, Alarms

__all__ = ["Alarm", "Alarms"]
