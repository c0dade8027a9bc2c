"""The cell of a supervisor, which starts, stops and restarts its children as `supervision.decide` says."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from opscore.actors.actor_cell import ActorCell
from opscore.actors.cell import Cell
from opscore.actors.errors import ActorStopped
from opscore.actors.mailbox import Lane, Mailbox
from opscore.actors.mailbox_spec import MailboxSpec
from opscore.actors.snapshot import State
from opscore.actors.spec import ChildSpec, Restart, Strategy, SupervisorSpec, check_child
from opscore.actors.supervision import CLEAN, Action, Decision, Exit, History, decide

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from opscore.actors.cell import Environment, Parent
    from opscore.actors.ref import Ref
    from opscore.actors.snapshot import ActorSnapshot

ProtocolT = TypeVar("ProtocolT")

_LOGGER = logging.getLogger("opscore.actors")


class SupervisorCell(Cell):
    """One supervisor in the tree; it has a task of its own while it runs."""

    __slots__ = ("_final", "_leaving", "_prefix", "_root", "_scope", "_static", "_steady", "_window", "children")

    spec: SupervisorSpec

    def __init__(
        self, path: str, spec: SupervisorSpec, parent: Parent, environment: Environment, *, root: bool = False
    ) -> None:
        super().__init__(path, spec, parent, environment, Mailbox(path, MailboxSpec(), environment.dead_letters))
        self.children: dict[str, Cell] = {}
        """All children except those that are stopping without a restart, in starting order."""
        self._prefix = "/" if root else f"{path}/"
        self._root = root
        self._leaving: dict[str, Cell] = {}
        self._static = frozenset(child.name for child in spec.children)
        self._window: tuple[float, ...] = ()
        self._scope = trio.CancelScope()
        self._steady = False
        self._final = False

    def start_child(self, spec: ChildSpec[ProtocolT]) -> Ref[ProtocolT]:
        """Register a dynamic child, and start it as soon as the supervisor is ready for that."""
        taken = self.children.get(spec.name)
        if isinstance(taken, ActorCell):
            return taken.ref
        if taken is not None:
            msg = f"{taken.path} is a supervisor"
            raise ValueError(msg)
        if self.mailbox.closed or self._final:
            raise ActorStopped(self.path)
        check_child(self.spec, spec)
        cell = ActorCell(self._prefix + spec.name, spec, self, self.environment)
        self.children[spec.name] = cell
        if self._steady and spec.name not in self._leaving:
            cell.start()
        return cell.ref

    async def stop_child(self, name: str) -> None:
        """Stop a child, without a restart, and wait until it is gone."""
        cell = self.children.get(name)
        if cell is None:
            cell = self._leaving.get(name)
            if cell is not None:
                await cell.wait_ended()
            return
        self.child_leaves(cell)
        cell.request_stop(final=True)
        await cell.wait_ended()

    def child_leaves(self, cell: Cell) -> None:
        """Free the name of a child that is ending, without a restart."""
        del self.children[cell.spec.name]
        if cell.running:
            self._leaving[cell.spec.name] = cell

    def child_ended(self, cell: Cell, exit_: Exit) -> None:
        """Handle the end of an incarnation; queue its exit if it needs a decision."""
        name = cell.spec.name
        if self._leaving.get(name) is cell:
            del self._leaving[name]
            cell.close()
            successor = self.children.get(name)
            if successor is not None and self._steady and successor.state is State.NEW:
                successor.start()
        elif not cell.asked_to_stop:
            if exit_.cause is None and cell.spec.restart is not Restart.PERMANENT and not cell.spec.significant:
                self._drop(cell)
            else:
                self.mailbox.signal(Lane.SUPERVISION, (cell, exit_))

    def kill(self) -> None:
        """Cancel everything below this supervisor."""
        self.state = State.STOPPING
        self._cancel_timer()
        self._scope.cancel()
        for cell in (*self.children.values(), *self._leaving.values()):
            if cell.running:
                cell.kill()

    def close(self) -> None:
        """Prevent further incarnations of this supervisor and of everything below it."""
        self.mailbox.close()
        if not self.running:
            self.state = State.GONE
            self._cancel_timer()
            self.mailbox.bury(None if self.last_exit is None else self.last_exit.cause)
            for cell in tuple(self.children.values()):
                cell.close()
            self.children.clear()

    def restarting(self) -> None:
        """Tell the askers of everything below this supervisor."""
        for cell in self.children.values():
            cell.restarting()

    def snapshots(self) -> list[ActorSnapshot]:
        """Return the state of this supervisor and of everything below it."""
        cells = (*self.children.values(), *self._leaving.values())
        return [self.snapshot(), *(each for cell in cells for each in cell.snapshots())]

    def _ask_to_stop(self, *, final: bool) -> None:
        self._final = final
        self._scope.cancel()

    def _launch(self) -> None:
        self._scope = trio.CancelScope()
        self.environment.spawn(self._run)

    # Ctrl-C is for the task that opened the system, which stops it in order.
    @trio.lowlevel.enable_ki_protection
    async def _run(self) -> None:
        cause: BaseException | None = None
        try:
            with self._scope:
                await self._live()
        except Exception as error:  # noqa: BLE001 (a supervisor's own failure is for its supervisor to judge)
            cause = error
        finally:
            self.finish(cause)

    async def _live(self) -> None:
        self._final = False
        self._window = ()
        self._add_static_children()
        try:
            if await self._bring_up(self.children):
                self._mark_started()
                await self._supervise()
        finally:
            self._steady = False
            with trio.CancelScope(shield=True):
                await self._stop_children(final=self._final or self._root)

    def _close_down(self, cause: BaseException | None) -> None:
        if cause is not None:
            _LOGGER.error("supervisor %s gave up", self.path, extra={"actor": self.path})
        if self._root:
            # The root never comes back. For any other supervisor, the one above it decides.
            self.close()

    def _add_static_children(self) -> None:
        dynamic = {name: cell for name, cell in self.children.items() if name not in self._static}
        kept, self.children = self.children, {}
        for spec in self.spec.children:
            cell = self.children[spec.name] = kept.get(spec.name) or self._make(spec)
            cell.record = CLEAN
        self.children.update(dynamic)

    def _make(self, spec: ChildSpec[Any] | SupervisorSpec) -> Cell:
        path = self._prefix + spec.name
        if isinstance(spec, SupervisorSpec):
            return SupervisorCell(path, spec, self, self.environment)
        return ActorCell(path, spec, self, self.environment)

    async def _supervise(self) -> None:
        """Decide exits in order of arrival, until the supervisor is stopped, shuts down or escalates."""
        self._become_steady()
        while True:
            await self.mailbox.wait()
            cell, exit_ = self.mailbox.take_signal()[1]
            if self._is_stale(cell, exit_):
                continue
            decision = self._decide(cell, exit_)
            if decision.action in {Action.ESCALATE, Action.SHUT_DOWN}:
                return
            if decision.action is not Action.RESTART:
                continue
            if self.spec.strategy is Strategy.ONE_FOR_ONE:
                cell.restarting()
                cell.start_after(self._delay_s(cell))
            elif not await self._restart_group(cell, decision):
                return

    def _become_steady(self) -> None:
        self._steady = True
        for name, cell in tuple(self.children.items()):
            if cell.state is State.NEW and name not in self._leaving:
                cell.start()

    async def _restart_group(self, cell: Cell, decision: Decision) -> bool:
        self._steady = False
        await self._take_down(decision, self._delay_s(cell))
        if not await self._bring_up(decision.names):
            return False
        self._become_steady()
        return True

    def _delay_s(self, cell: Cell) -> float:
        """Return the delay before the restart of a child, and log it."""
        delay_s = cell.spec.backoff.delay_s(cell.record.failures, self.environment.clock.random)
        _LOGGER.info(
            "%s is restarted in %g s (failure %d in a row)",
            cell.path,
            round(delay_s, 3),
            cell.record.failures,
            extra={"actor": cell.path},
        )
        return delay_s

    async def _take_down(self, decision: Decision, delay_s: float, *, unstarted: Collection[str] = ()) -> None:
        """Stop a group right to left, except for children that have not started, and wait out the backoff."""
        for name in reversed(decision.names):
            cell = self.children.get(name)
            if cell is None or name in unstarted:
                continue
            cell.request_stop(final=False)
            await cell.wait_ended()
            if cell.spec.restart is Restart.TEMPORARY:
                # As in OTP, a temporary child is not restarted, whichever child's failure ended it. It is dropped only
                # now: a supervisor that is stopped in the meantime and restarted has the child again.
                self._drop(cell)
            else:
                cell.restarting()
        await trio.sleep(delay_s)

    async def _bring_up(self, names: Iterable[str]) -> bool:
        """Start children one after the other; return False if a failed start ends this supervisor."""
        pending = deque(names)
        while pending:
            cell = self.children.get(pending[0])
            if cell is None:
                pending.popleft()
                continue
            predecessor = self._leaving.get(cell.spec.name)
            if predecessor is not None:
                await predecessor.wait_ended()
                continue
            cell.start()
            await cell.wait_settled()
            failure = cell.last_exit
            if cell.has_started or cell.asked_to_stop or failure is None or self._is_stale(cell, failure):
                pending.popleft()
                continue
            decision = self._decide(cell, failure)
            if decision.action in {Action.ESCALATE, Action.SHUT_DOWN}:
                return False
            if decision.action is Action.RESTART:
                pending.popleft()
                await self._take_down(decision, self._delay_s(cell), unstarted=pending)
                again = {*decision.names, *pending}
                pending = deque(name for name in self.children if name in again)
        return True

    def _is_stale(self, cell: Cell, exit_: Exit) -> bool:
        """Return whether an exit is outdated: the child was restarted or stopped, or another one has its name."""
        return (
            cell.incarnation != exit_.incarnation
            or cell.state is not State.DOWN
            or self.children.get(cell.spec.name) is not cell
        )

    def _decide(self, cell: Cell, exit_: Exit) -> Decision:
        """Decide, remember the outcome, and carry out what concerns this child alone."""
        significant = sum(each.spec.significant for each in self.children.values()) if cell.spec.significant else 0
        history = History(window=self._window, record=cell.record, siblings=self.children, significant=significant)
        decision = decide(self.spec, history, exit_, trio.current_time())
        self._window, cell.record = decision.window, decision.record
        if decision.action is Action.DROP:
            self._drop(cell)
        elif decision.action is Action.GIVE_UP:
            self._drop(cell)
            self._give_up(cell, decision)
        elif decision.action is Action.ESCALATE:
            self.crash = decision.cause
        elif decision.action is Action.SHUT_DOWN:
            self._drop(cell)
            _LOGGER.info("supervisor %s shuts down, because %s ended", self.path, cell.path, extra={"actor": self.path})
        return decision

    def _drop(self, cell: Cell) -> None:
        if self.children.get(cell.spec.name) is cell:
            del self.children[cell.spec.name]
        cell.close()

    def _give_up(self, cell: Cell, decision: Decision) -> None:
        _LOGGER.error("%s exceeded its restart budget and is given up", cell.path, extra={"actor": cell.path})
        if isinstance(cell.spec, ChildSpec) and cell.spec.on_given_up is not None and decision.cause is not None:
            try:
                cell.spec.on_given_up(cell.spec.name, decision.cause)
            except Exception:
                # An error in the callback must not affect the siblings.
                _LOGGER.exception("on_given_up of %s raised", cell.path, extra={"actor": cell.path})

    async def _stop_children(self, *, final: bool) -> None:
        """Stop the children right to left; dynamic ones under `one_for_one` are independent and stop together."""
        cells = tuple(reversed(self.children.values()))
        dynamic = [cell for cell in cells if cell.spec.name not in self._static]
        leaving = tuple(self._leaving.values())
        for cell in cells:
            # A child that waits out its backoff must not start while those after it stop.
            cell.forgo_restart()
        for cell in leaving:
            cell.request_stop(final=True)
        if self.spec.strategy is Strategy.ONE_FOR_ONE:
            for cell in dynamic:
                cell.request_stop(final=True)
        for cell in leaving:
            # Until it is gone, it may need the children that were started before it.
            await cell.wait_ended()
        for cell in cells:
            is_dynamic = cell.spec.name not in self._static
            if not cell.asked_to_stop or cell.state is State.DOWN:
                cell.request_stop(final=final or is_dynamic)
            await cell.wait_ended()
            if final or is_dynamic:
                # A restart begins from the specification, which has no dynamic children.
                self._drop(cell)


class Supervisor:
    """A handle to a supervisor; it stays valid across the supervisor's restarts."""

    def __init__(self, cell: SupervisorCell) -> None:
        self.name = cell.path
        """Path of the supervisor."""
        self._cell = cell

    def start_child(self, spec: ChildSpec[ProtocolT]) -> Ref[ProtocolT]:
        """Start a dynamic child and return its address at once.

        The name and the mailbox exist when this returns. The actor starts soon after, and handles the messages that
        were sent before. A supervisor that is restarted forgets its dynamic children.

        Args:
            spec: The child. If a live child has its name, `spec` is ignored and that child's address is returned.

        Raises:
            ActorStopped: The supervisor is gone or is stopping.
            ValueError: The name is that of a supervisor, or the child is significant and this supervisor never shuts
                down by itself.
        """
        return self._cell.start_child(spec)

    def child(self, name: str) -> Ref[Any] | None:
        """Return the address of a child, also while it is being restarted, or None.

        Args:
            name: The name of its `ChildSpec`.
        """
        cell = self._cell.children.get(name)
        return cell.ref if isinstance(cell, ActorCell) else None

    @property
    def child_count(self) -> int:
        """Number of children, including those that are being restarted."""
        return len(self._cell.children)

    async def stop_child(self, name: str) -> None:
        """Stop a child, without a restart, and wait until it is gone; do nothing if there is none.

        The name is free at once. Cancelling this call does not keep the child from stopping.

        Args:
            name: The name in its `ChildSpec` or `SupervisorSpec`.
        """
        await self._cell.stop_child(name)
