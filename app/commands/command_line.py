"""What can stand behind `python -m app`: all commands on one screen, and nothing that is slow to import."""

from __future__ import annotations

from argparse import ArgumentParser

_NOTHING = "Without a command: answer requests, until SIGTERM or Ctrl-C."
_CODES = "Settings come from the environment and from .env; exit code 2 says that they are wrong."
_DOCTOR = (
    "Look whether everything outside fits the settings: the provider and what is registered there,"
    " MongoDB, keys, cookies, proxies, APIs."
    " Exit code 0: nothing is wrong (there may be warnings); 1: something is; 2: the settings are."
)


def command_line() -> ArgumentParser:
    """Return the parser. `module` is where a command is; `run(settings, wanted)` there has the exit code."""
    parser = ArgumentParser("python -m app", description=_NOTHING, epilog=_CODES)
    parser.set_defaults(module=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    doctor = commands.add_parser("doctor", help="look for what is wrong around here", description=_DOCTOR)
    doctor.set_defaults(module="app.commands.doctor")

    return parser
