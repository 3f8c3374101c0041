"""`scripts/faults.sh`: one fault after the other, then a soak; exit code 1 if a session is lost."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from tests.bff.faults.faults import FAULTS, Fault
from tests.bff.faults.report import Outcome, head, row
from tests.bff.faults.users import Users
from tests.bff.faults.world import World, running_world

DRIVERS = ("motor", "pymongo")
_FINE_SECONDS, _PATIENCE_SECONDS = 3, 60
_DESCRIPTION = (
    "Start three mongods, the development provider (one-time refresh tokens, reuse detection) and two"
    " instances of the application, one of them with two workers; have users call an API all the time, and"
    " fail one part after the other. Print a table: what users see, and how long. Then let it run undisturbed"
    " and compare the memory. Exit code 1: a user had to sign in again, or something did not recover."
)


def name_of(fault: Fault) -> str:
    return str(getattr(fault, "__name__", "")).replace("_", " ")


def command_line() -> ArgumentParser:
    names = [name_of(fault).replace(" ", "-") for fault in FAULTS]
    parser = ArgumentParser("scripts/faults.sh", description=_DESCRIPTION)
    parser.add_argument("--driver", choices=(*DRIVERS, "both"), default="both", help="default: both")
    parser.add_argument("--users", type=int, default=12, metavar="N", help="sessions (default: 12)")
    parser.add_argument("--soak", type=float, default=1, metavar="MINUTES", help="default: 1; 0: none")
    parser.add_argument("--only", nargs="+", choices=names, metavar="FAULT", help=", ".join(names))
    return parser


async def main(args: Namespace) -> int:
    failed = False
    for driver in DRIVERS if args.driver == "both" else (args.driver,):
        with tempfile.TemporaryDirectory(prefix="bff-faults-") as folder:
            async with running_world(Path(folder), driver=driver) as world:
                print(f"\n{driver}, {args.users} sessions\n\n{head()}", flush=True)
                failed |= await run(world, args)
    return int(failed)


async def run(world: World, args: Namespace) -> bool:
    """Run the chosen faults and the soak, and return whether one of them has failed."""
    instances = (world.one, world.two)
    urls = [instance.process.url for instance in instances if instance.process]
    users = Users(urls, args.users)
    outcomes = []
    async with users.calling():
        await users.fine_again(for_seconds=1, at_most=_PATIENCE_SECONDS)
        for fault in FAULTS:
            if not args.only or name_of(fault).replace(" ", "-") in args.only:
                outcomes.append(await outcome_of(fault, world, users))
                print(row(outcomes[-1].cells()), flush=True)
        if args.soak:
            before = [instance.resident_megabytes() for instance in instances]
            outcomes.append(await outcome_of(soak(args.soak), world, users))
            print(row(outcomes[-1].cells()))
            after = [instance.resident_megabytes() for instance in instances]
            print(f"\nmemory before and after the soak: {megabytes(before)}, {megabytes(after)}", flush=True)
    failed = [outcome.fault for outcome in outcomes if outcome.failed]
    print(f"failed: {', '.join(failed)}" if failed else "no session was lost, and all recovered", flush=True)
    return bool(failed)


def soak(minutes: float) -> Fault:
    async def soak(world: World) -> None:
        await asyncio.sleep(60 * minutes)

    return soak


def megabytes(sizes: Sequence[float]) -> str:
    return " + ".join(f"{size:.0f} MB" for size in sizes)


async def outcome_of(fault: Fault, world: World, users: Users) -> Outcome:
    ledger = world.ledger
    first, reused, revoked = len(users.seen), ledger.reused, ledger.revoked
    began_at = time.monotonic()
    await fault(world)
    mended_at = time.monotonic()
    recovered = await users.fine_again(for_seconds=_FINE_SECONDS, at_most=_PATIENCE_SECONDS)
    return Outcome(
        name_of(fault),
        began_at,
        mended_at,
        users.seen[first:],
        reused=ledger.reused - reused,
        revoked=ledger.revoked - revoked,
        recovered=recovered,
    )


if __name__ == "__main__":
    sys.exit(asyncio.run(main(command_line().parse_args())))
