"""The application that the engine's suite runs: its own pages, client and settings, none of a project's."""
