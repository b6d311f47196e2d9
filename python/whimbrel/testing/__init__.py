"""For test suites of programs that use MQTT: `plugin` is the pytest plugin, `background` the broker behind it."""
