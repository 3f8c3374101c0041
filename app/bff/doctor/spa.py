"""Doctor: the single-page app of BFF_SPA, and what BFF_CSP opens. The probe reads the files of the build."""

from __future__ import annotations

from dataclasses import dataclass

from app.bff.doctor.report import Finding, info, ok, warning
from app.bff.settings.models import BffSettings
from app.bff.spa.folder import Build
from app.bff.spa.problems import Problem, problems_of
from app.bff.web.csp import UNSAFE_INLINE

_MOST = 20  # of one build that are reported


@dataclass(frozen=True)
class SpaProbe:
    """What was found in the folder of a build."""

    files: int
    source_maps: int
    problems: list[Problem]


def probe_spa(settings: BffSettings) -> SpaProbe | None:
    """Return what was found in the folder; None without one."""
    if settings.spa_folder is None:
        return None
    build = Build(settings.spa_folder)
    names = build.names()
    problems = problems_of(build.texts(names), set(names), settings.csp)
    return SpaProbe(len(names), sum(name.endswith(".map") for name in names), problems)


def check_spa(probe: SpaProbe | None, settings: BffSettings) -> list[Finding]:
    """`probe` is what `probe_spa` returned."""
    return [*_app(probe, settings), *_csp(settings)]


def _app(probe: SpaProbe | None, settings: BffSettings) -> list[Finding]:
    if probe is None:
        server = settings.spa_server
        return [info(f"BFF_SPA forwards to the development server at {server}")] if server else []
    maps = f"{probe.source_maps} source maps are public: anybody may read the source"
    return [
        *[warning(f"{each.file}: {each.what}", each.advice) for each in probe.problems[:_MOST]],
        *([] if probe.problems else [ok(f"{probe.files} files, and nothing in them that the policy blocks")]),
        *([info(maps)] if probe.source_maps else []),
    ]


def _csp(settings: BffSettings) -> list[Finding]:
    directives = ("script-src", "script-src-elem", "default-src")
    open_to = [name for name in directives if UNSAFE_INLINE in settings.csp.get(name, ())]
    advice = "Remove 'unsafe-inline': a script that is injected into a page runs."
    return [warning(f"BFF_CSP lets any inline script run: {', '.join(open_to)}", advice)] if open_to else []
