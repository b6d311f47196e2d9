"""Tests of `whimbrel.settings`: no engine, no loop, no network."""
