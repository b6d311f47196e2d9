"""The small blocking MQTT client of the command line, re-exported so that nothing above imports the binding."""

from whimbrel._core import Client

__all__ = ["Client"]
