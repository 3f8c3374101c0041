"""What `scripts/faults.sh` makes of the answers that users see."""

from __future__ import annotations

import pytest

from tests.bff.faults.__main__ import command_line, name_of
from tests.bff.faults.faults import FAULTS
from tests.bff.faults.report import HEAD, Outcome
from tests.bff.faults.users import Seen
from tests.bff.subprocesses import ROOT


def outcome(*answers: str, recovered: bool = True) -> Outcome:
    """A fault from second 0 to 10, with answers after one second, two seconds, and so on."""
    seen = [Seen(0, second, second + 1, answer) for second, answer in enumerate(answers)]
    return Outcome("a fault", 0, 10, seen, reused=0, revoked=0, recovered=recovered)


@pytest.mark.parametrize(
    ("answer", "failed"),
    [
        ("200", False),
        ("503 store_unavailable", False),
        ("401 provider_unavailable", False),
        ("no answer", False),
        ("401 no_session", True),
        ("401 session_ended", True),
        ("401 reauthentication_required", True),
    ],
)
def test_a_fault_fails_if_a_user_has_to_sign_in_again(answer: str, failed: bool):
    assert outcome("200", answer, "200").failed == failed


def test_a_fault_that_is_never_over_fails():
    assert outcome("200", recovered=False).failed


def test_the_recovery_is_measured_from_the_mending_to_the_last_answer_that_is_not_200():
    assert outcome("503").recovery_seconds() == 0
    assert outcome(*["503"] * 13, "200").recovery_seconds() == 3


def test_a_line_counts_the_other_answers():
    cells = dict(zip(HEAD, outcome("200", "503", "no answer", "503").cells(), strict=True))

    assert (cells["calls"], cells["answers other than 200"]) == ("4", "2 × 503, 1 × no answer")


def test_the_manual_has_the_result_of_every_fault():
    lines = (ROOT / "docs/bff/faults.md").read_text().splitlines()
    named = [line.split("|")[1].strip() for line in lines if line.startswith("| ")]

    assert named == ["fault", *map(name_of, FAULTS), "soak"]


def test_help_names_every_fault(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        command_line().parse_args(["--help"])

    assert "instance-frozen-longer-than-a-lease" in capsys.readouterr().out.replace("\n", "").replace(" ", "")
