"""The composition root: which parts make a running broker, and in which order they start and stop.

`assembly` joins the parts that every broker has; `foreground` adds what a broker started from the command line has:
a data directory, the management line, a banner, signals, systemd.
"""
