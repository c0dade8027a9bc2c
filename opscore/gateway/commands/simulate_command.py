"""`opscore simulate`: play a workflow in many simulated worlds, and find the smallest one in which it fails."""

import json
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import click

from opscore.gateway.commands.failures import EXIT_FAILED, EXIT_INTERRUPTED, Misused, failing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opscore.gateway.commands.simulate_report import Report, Smallest
    from opscore.runtime.simulation.campaign import Outcome, Weakness, Wrong
    from opscore.runtime.simulation.playing import Played
    from opscore.runtime.simulation.scenario import Scenario

SEEDS_TRIED: Final = 4
"""In how many of the worlds that went wrong each fault is tried alone."""
TELL_EVERY_S: Final = 5.0
"""How often progress is printed if standard error is no terminal, where it would overwrite one line."""


class _Seconds(click.FloatRange):
    """Seconds within a range; click's own type accepts NaN, and infinity if the range has no upper end."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read the value.

        Raises:
            click.BadParameter: it is not a finite number in the range.
        """
        seconds = float(super().convert(value, param, ctx))
        if not math.isfinite(seconds):
            self.fail(f"{value!r} is not a number of seconds.", param, ctx)
        return seconds


@click.command()
@click.argument("workflow", required=False, type=click.Path(path_type=Path))
@click.option("--agents", type=click.Path(path_type=Path), help="The fleet, as JSON or YAML. [two for each capability]")
@click.option("--seeds", default=20, show_default=True, type=click.IntRange(1), metavar="N", help="Worlds to play.")
@click.option("--start-seed", default=0, show_default=True, type=click.IntRange(0), metavar="N",
              help="The first world's seed.")  # fmt: skip
@click.option("--runs", default=10, show_default=True, type=click.IntRange(1, 100_000), metavar="N",
              help="Runs in each world.")  # fmt: skip
@click.option("--every", "every_s", default=5.0, show_default=True, type=_Seconds(0.0, 86_400.0),
              metavar="SECONDS", help="Interval between the starts of runs.")  # fmt: skip
@click.option("--payload", metavar="JSON", help="The payload of each run.")
@click.option("--signal", "signals", multiple=True, metavar="NAME[@S][=JSON]",
              help="Send each run a signal, S seconds after it began, with a payload. Repeatable.")  # fmt: skip
@click.option("--saved", multiple=True, type=click.Path(path_type=Path),
              help="A workflow that tasks of type workflow start by its id. Repeatable.")  # fmt: skip
@click.option("--faults", default="usual", show_default=True, metavar="SPEC", help="What may go wrong, as above.")
@click.option("--within", "within_s", type=_Seconds(0.0, min_open=True), metavar="SECONDS",
              help="Count a run that takes longer as one that went wrong.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def simulate(workflow: Path | None, *, seeds: int, start_seed: int, within_s: float | None, **given: Any) -> None:
    """Try WORKFLOW, a JSON or YAML file, in many simulated worlds where agents, network, disk and process fail.

    Each world runs all of opscore in virtual time, whose clock jumps over every wait: hours take milliseconds.
    What happens is drawn from the world's seed, and is the same each time. The report says how many runs
    completed, how long they took and which faults the workflow does not survive, and shows the smallest scenario
    in which it fails: as Python, and as a timeline.

    SPEC is `usual`, `none`, or names of faults, each with or without a probability: `agent_hangs=0.2`,
    `delivery`, `usual,process_dies=0`. `--faults list` prints all names.

    Exits with 0 if every run completed and opscore broke none of its promises, with 1 if not, and with 2 if a
    file or an option can't be used.

    Example: opscore simulate orders.yaml --agents fleet.yaml --faults agent,delivery --runs 50
    """
    from opscore.gateway.commands import simulate_input
    from opscore.gateway.process import garbage

    if given["faults"].strip() == "list":
        with failing():
            click.echo(simulate_input.faults_listed())
        return
    if workflow is None:
        raise click.UsageError("Missing argument 'WORKFLOW'.")
    with failing():
        try:
            load = simulate_input.Load(
                runs=given["runs"],
                every_s=given["every_s"],
                payload=simulate_input.read_payload(given["payload"]),
                signals=tuple(map(simulate_input.read_signal, given["signals"])),
            )
            faults = simulate_input.read_faults(given["faults"])
            scenario = simulate_input.scenario_of(workflow, given["agents"], load, faults, given["saved"])
        except simulate_input.BadInput as error:
            raise Misused(str(error)) from error
        garbage.collect_seldom()
        found = _Findings(scenario, range(start_seed, start_seed + seeds), within_s)
        found.look()
        _print(found.report(), as_json=given["as_json"])
    if found.interrupted:
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(0 if found.well else EXIT_FAILED)


def _print(report: "Report", *, as_json: bool) -> None:
    from opscore.gateway.commands import simulate_report
    from opscore.gateway.process.terminal import show_all_signs

    show_all_signs()
    if as_json:
        click.echo(json.dumps(simulate_report.document(report), ensure_ascii=False))
    else:
        click.echo(simulate_report.shown(report))


class _Findings:
    """What is known so far, so that it can be reported when somebody interrupts."""

    def __init__(self, scenario: "Scenario", seeds: range, within_s: float | None) -> None:
        self._scenario = scenario
        self._seeds = seeds
        self._within_s = within_s
        self._outcomes: list[Outcome] = []
        self._weaknesses: list[Weakness] = []
        self._looked = False
        self._smallest: list[Smallest] = []
        self._started = time.monotonic()
        self._progress = _Progress()
        self.interrupted = False

    def look(self) -> None:
        """Play the worlds, and investigate what went wrong; Ctrl-C ends it and keeps what is known by then."""
        try:
            with self._progress:
                self._let_faults_outlast_runs()
                self._play()
                self._look_into_it()
        except BaseException as error:
            if not _is_interrupt(error):
                raise
            self.interrupted = True

    @property
    def well(self) -> bool:
        """Whether every run completed, in time, and no promise was broken."""
        return self.report().figures.well

    def report(self) -> "Report":
        """Return what is known so far."""
        from opscore.gateway.commands.simulate_report import Report
        from opscore.runtime.simulation.campaign import Figures

        return Report(
            name=self._scenario.workflows[0]["id"],
            first_seed=self._seeds.start,
            planned=len(self._seeds),
            within_s=self._within_s,
            figures=Figures.of(self._outcomes, self._within_s),
            weaknesses=self._weaknesses,
            looked=self._looked,
            smallest=self._smallest,
            took_s=time.monotonic() - self._started,
            interrupted=self.interrupted,
        )

    def _let_faults_outlast_runs(self) -> None:
        """Let faults last for as long as runs take without faults, so that late parts of a run meet them as well."""
        from opscore.gateway.commands.simulate_input import FAULTS_FOR_S
        from opscore.runtime.simulation.faults import Faults
        from opscore.runtime.simulation.playing import play

        if not self._scenario.faults.on():
            return
        self._progress.tell("a world without faults")
        calm = play(attrs.evolve(self._scenario, seed=self._seeds.start, faults=Faults()))
        if calm.broken is None:
            until_s = max(self._scenario.faults_until_s, math.ceil(calm.elapsed_s) + FAULTS_FOR_S)
            self._scenario = attrs.evolve(self._scenario, faults_until_s=until_s)

    def _play(self) -> None:
        from opscore.runtime.simulation.campaign import campaign

        def note(outcome: "Outcome") -> None:
            self._outcomes.append(outcome)
            bad = sum(each.wrong(self._within_s) is not None for each in self._outcomes)
            self._progress.tell(f"world {len(self._outcomes):,} of {len(self._seeds):,}, {bad:,} went wrong")

        campaign(self._scenario, self._seeds, on_outcome=note)

    def _look_into_it(self) -> None:
        """Find the faults that runs don't survive, and the smallest scenarios of a failed run and a broken promise."""
        judged = [(outcome, outcome.wrong(self._within_s)) for outcome in self._outcomes]
        unwell = [(outcome, wrong) for outcome, wrong in judged if wrong is not None and outcome.broken is None]
        if unwell:
            self._try_faults([outcome for outcome, _ in unwell])
            self._shrink(*self._simplest(unwell[0]))
        broken = [(outcome, wrong) for outcome, wrong in judged if wrong is not None and outcome.broken is not None]
        if broken:
            self._shrink(broken[0][0].scenario, broken[0][1])

    def _try_faults(self, outcomes: "Sequence[Outcome]") -> None:
        from opscore.runtime.simulation.campaign import weaknesses

        happened = {name for outcome in outcomes for name in outcome.faults}
        names = [name for name in self._scenario.faults.on() if name in happened]
        seeds = [outcome.scenario.seed for outcome in outcomes[:SEEDS_TRIED]]
        wrong = self._counted("trying each fault alone", lambda found: not found.promise)
        for weakness in weaknesses(self._scenario, seeds, wrong, names=names):
            self._weaknesses.append(weakness)
        self._looked = True

    def _simplest(self, first: "tuple[Outcome, Wrong]") -> "tuple[Scenario, Wrong]":
        """The scenario to shrink: one with a single fault, if one is known that goes wrong."""
        if self._weaknesses:
            return self._weaknesses[0].scenario, self._weaknesses[0].wrong
        return first[0].scenario, first[1]

    def _shrink(self, scenario: "Scenario", wrong: "Wrong") -> None:
        from opscore.gateway.commands.simulate_report import TIMELINE_LINES, Smallest
        from opscore.runtime.simulation.campaign import Outcome
        from opscore.runtime.simulation.playing import play
        from opscore.runtime.simulation.shrinking import smallest

        place = len(self._smallest)

        def note(smaller: "Scenario", *, done: bool = False) -> None:
            played = play(smaller)
            why = Outcome.of(played).wrong(self._within_s) or wrong
            lines = tuple(played.history.timeline(TIMELINE_LINES))
            self._smallest[place:] = [Smallest(scenario=smaller, wrong=why, timeline=lines, done=done)]

        note(scenario)
        fails = self._counted("making it smaller", lambda found: found.kind == wrong.kind)
        note(smallest(scenario, fails, promise=wrong.promise, on_smaller=note), done=True)

    def _counted(self, doing: str, wanted: "Callable[[Wrong], bool]") -> "Callable[[Played], Wrong | None]":
        """Make a function that returns how a world goes wrong, if as wanted, and shows how many it has judged."""
        from opscore.runtime.simulation.campaign import Outcome

        count = 0

        def wrong(played: "Played") -> "Wrong | None":
            nonlocal count
            count += 1
            self._progress.tell(f"{doing}: world {count:,}")
            found = Outcome.of(played).wrong(self._within_s)
            return found if found is not None and wanted(found) else None

        return wrong


class _Progress:
    """Shows progress on standard error: in one line that is overwritten, or else every few seconds."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._told_at = time.monotonic()

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        if self._terminal:
            click.echo("\r\x1b[K", nl=False, err=True)

    def tell(self, words: str) -> None:
        """Print this, unless something was printed a moment ago."""
        now = time.monotonic()
        if now - self._told_at < (0.1 if self._terminal else TELL_EVERY_S):
            return
        self._told_at = now
        if self._terminal:
            click.echo(f"\r\x1b[K{words}", nl=False, err=True)
        else:
            click.echo(words, err=True)


def _is_interrupt(error: BaseException) -> bool:
    """Whether it is Ctrl-C, also if that cut a simulated world short and other errors followed."""
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(KeyboardInterrupt) is not None
    return isinstance(error, KeyboardInterrupt)
