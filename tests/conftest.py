"""The fixtures of your tests come from the plugin; put your own here."""

pytest_plugins = ["app.bff.testing"]
