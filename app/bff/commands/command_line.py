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
_SESSIONS = (
    "Who is signed in: a public id, the user, the device, when created, last used, and when it ends;"
    " tabs in between. Or sign them out: their sessions are gone for every process, and their refresh tokens"
    " are revoked. Exit code 0: done, also if there was nobody; 1: the session store does not answer."
)
_ROTATE_KEYS = (
    "Seal everything in the session store anew with the first key of BFF_ENCRYPTION_KEYS, while the"
    " application runs. Exit code 0: the old keys can go; 1: something is left, and it says what."
)
_OF_SID = "those that belong to this session of the provider's; --sid=SID, if it begins with a dash"


def command_line() -> ArgumentParser:
    """Return the parser. `module` is where a command is; `run(settings, wanted)` there has the exit code."""
    parser = ArgumentParser("python -m app", description=_NOTHING, epilog=_CODES)
    parser.set_defaults(module=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    doctor = commands.add_parser("doctor", help="look for what is wrong around here", description=_DOCTOR)
    doctor.set_defaults(module="app.bff.doctor.command")

    sessions = commands.add_parser("sessions", help="list or end sessions", description=_SESSIONS)
    sessions.set_defaults(module="app.bff.commands.sessions")
    actions = sessions.add_subparsers(dest="action", metavar="list|end", required=True)
    _choose_whose(actions.add_parser("list", help="all, if you do not say whose"), required=False)
    _choose_whose(actions.add_parser("end", help="at once, and without asking again"), required=True)

    rotate_keys = commands.add_parser(
        "rotate-keys", help="seal everything with the first key", description=_ROTATE_KEYS
    )
    rotate_keys.set_defaults(module="app.bff.commands.rotate_keys")

    return parser


def _choose_whose(parser: ArgumentParser, *, required: bool) -> None:
    whose = parser.add_mutually_exclusive_group(required=required)
    whose.add_argument("--user", metavar="SUB", help="those of the user with this `sub`")
    whose.add_argument("--sid", metavar="SID", help=_OF_SID)
    whose.add_argument("--all", action="store_true", help="those of everybody")
