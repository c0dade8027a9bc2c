"""Running one supervisor: it starts, stops and restarts its children as `supervision.decide` says."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from opscore.actors.actor_cell import ActorCell
from opscore.actors.cell import Cell, State
from opscore.actors.errors import ActorStopped
from opscore.actors.mailbox import Lane, Mailbox, MailboxSpec
from opscore.actors.supervision import (
    Action,
    ChildSpec,
    Decision,
    Exit,
    Record,
    Restart,
    Strategy,
    SupervisorSpec,
    decide,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opscore.actors.cell import ActorSnapshot, Environment, Parent
    from opscore.actors.ref import Ref

ProtocolT = TypeVar("ProtocolT")

_LOGGER = logging.getLogger("opscore.actors")


class SupervisorCell(Cell):
    """The place of one supervisor in the tree."""

    spec: SupervisorSpec

    def __init__(
        self, path: str, spec: SupervisorSpec, parent: Parent, environment: Environment, *, root: bool = False
    ) -> None:
        super().__init__(path, spec, parent, environment)
        self.children: dict[str, Cell] = {}
        """Every child that is not on its way out, in starting order."""
        self._prefix = "/" if root else f"{path}/"
        self._root = root
        self._leaving: dict[str, Cell] = {}
        self._static = frozenset(child.name for child in spec.children)
        self._window: tuple[float, ...] = ()
        self._inbox = Mailbox(path, MailboxSpec(), environment.dead_letters)
        self._steady = False
        self._final = False

    @property
    def mailbox(self) -> Mailbox:
        """Where the exits of its children wait."""
        return self._inbox

    def start_child(self, spec: ChildSpec[ProtocolT]) -> Ref[ProtocolT]:
        """Register a dynamic child, and start it as soon as the supervisor may."""
        taken = self.children.get(spec.name)
        if isinstance(taken, ActorCell):
            return taken.ref
        if taken is not None:
            msg = f"{taken.path} is a supervisor"
            raise ValueError(msg)
        if self._inbox.closed or self._final:
            raise ActorStopped(self.path)
        cell = ActorCell(self._prefix + spec.name, spec, self, self.environment)
        self.children[spec.name] = cell
        if self._steady and spec.name not in self._leaving:
            cell.start()
        return cell.ref

    async def stop_child(self, name: str) -> None:
        """Stop a child for good and wait until it is gone."""
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
        """Free the name of a child that is ending for good."""
        del self.children[cell.spec.name]
        if cell.running:
            self._leaving[cell.spec.name] = cell

    def child_ended(self, cell: Cell, exit_: Exit) -> None:
        """Note the end of an incarnation; only an end that needs a decision is queued for one."""
        name = cell.spec.name
        if self._leaving.get(name) is cell:
            del self._leaving[name]
            cell.close()
            successor = self.children.get(name)
            if successor is not None and self._steady and successor.state is State.NEW:
                successor.start()
        elif not cell.asked_to_stop:
            if exit_.cause is None and cell.spec.restart is not Restart.PERMANENT:
                self._drop(cell)
            else:
                self._inbox.signal(Lane.SUPERVISION, (cell, exit_))

    def kill(self) -> None:
        """Cancel everything below."""
        self._scope.cancel()
        for cell in (*self.children.values(), *self._leaving.values()):
            if cell.running:
                cell.kill()

    def close(self) -> None:
        """Let no other incarnation follow, of this supervisor and of everything below."""
        self._inbox.close()
        if not self.running:
            self.state = State.GONE
            self._cancel_timer()
            for cell in tuple(self.children.values()):
                cell.close()
            self.children.clear()

    def restarting(self) -> None:
        """Tell the askers of everything below."""
        for cell in self.children.values():
            cell.restarting()

    def snapshots(self) -> list[ActorSnapshot]:
        """Return the state of this supervisor and of everything below."""
        below = [each for cell in self.children.values() for each in cell.snapshots()]
        return [self.snapshot(), *below]

    def _ask_to_stop(self, *, final: bool) -> None:
        self._final = final
        self._scope.cancel()

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
            # Any other supervisor has one of its own, who knows whether it comes back.
            self.close()

    def _add_static_children(self) -> None:
        dynamic = {name: cell for name, cell in self.children.items() if name not in self._static}
        kept, self.children = self.children, {}
        for spec in self.spec.children:
            cell = self.children[spec.name] = kept.get(spec.name) or self._make(spec)
            cell.record = Record()
        self.children.update(dynamic)

    def _make(self, spec: ChildSpec[Any] | SupervisorSpec) -> Cell:
        path = self._prefix + spec.name
        if isinstance(spec, SupervisorSpec):
            return SupervisorCell(path, spec, self, self.environment)
        return ActorCell(path, spec, self, self.environment)

    async def _supervise(self) -> None:
        """Decide exits in the order they came, until stopped or beyond the intensity."""
        self._become_steady()
        while True:
            await self._inbox.wait()
            cell, exit_ = self._inbox.take_signal()[1]
            if self._is_stale(cell, exit_):
                continue
            decision = self._decide(cell, exit_)
            if decision.action is Action.ESCALATE:
                return
            if decision.action is not Action.RESTART:
                continue
            if self.spec.strategy is Strategy.ONE_FOR_ONE:
                cell.restarting()
                cell.start_after(decision.delay_s)
            elif not await self._restart_group(decision):
                return

    def _become_steady(self) -> None:
        self._steady = True
        for name, cell in tuple(self.children.items()):
            if cell.state is State.NEW and name not in self._leaving:
                cell.start()

    async def _restart_group(self, decision: Decision) -> bool:
        self._steady = False
        await self._take_down(decision)
        if not await self._bring_up(decision.names):
            return False
        self._become_steady()
        return True

    async def _take_down(self, decision: Decision) -> None:
        """Stop a group right to left and wait out the backoff."""
        for name in reversed(decision.names):
            cell = self.children.get(name)
            if cell is None:
                continue
            temporary = cell.spec.restart is Restart.TEMPORARY
            cell.request_stop(final=temporary)
            await cell.wait_ended()
            if temporary:
                # OTP never restarts a temporary child, whoever's failure ended it.
                self._drop(cell)
            else:
                cell.restarting()
        await trio.sleep(decision.delay_s)

    async def _bring_up(self, names: Iterable[str]) -> bool:
        """Start children one after the other; return False if a failed start exceeds the intensity."""
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
            if cell.has_started or failure is None or self._is_stale(cell, failure):
                pending.popleft()
                continue
            decision = self._decide(cell, failure)
            if decision.action is Action.ESCALATE:
                return False
            if decision.action is Action.RESTART:
                await self._take_down(decision)
                again = {*decision.names, *pending}
                pending = deque(name for name in self.children if name in again)
        return True

    def _is_stale(self, cell: Cell, exit_: Exit) -> bool:
        """Return whether an exit was overtaken: by a restart, by a stop, or by the name's next owner."""
        return (
            cell.incarnation != exit_.incarnation
            or cell.state is not State.DOWN
            or self.children.get(cell.spec.name) is not cell
        )

    def _decide(self, cell: Cell, exit_: Exit) -> Decision:
        """Decide, remember, and carry out what concerns the one child only."""
        decision = decide(
            supervisor=self.spec,
            child=cell.spec,
            siblings=self.children,
            window=self._window,
            record=cell.record,
            exit_=exit_,
            now=trio.current_time(),
            random=self.environment.clock.random,
        )
        self._window, cell.record = decision.window, decision.record
        if decision.action is Action.DROP:
            self._drop(cell)
        elif decision.action is Action.GIVE_UP:
            self._drop(cell)
            self._give_up(cell, decision)
        elif decision.action is Action.ESCALATE:
            self.crash = decision.cause
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
                # The siblings live on, whatever the observer does.
                _LOGGER.exception("on_given_up of %s raised", cell.path, extra={"actor": cell.path})

    async def _stop_children(self, *, final: bool) -> None:
        """Stop right to left; the dynamic children of a one_for_one are independent and stop together."""
        cells = tuple(reversed(self.children.values()))
        dynamic = [cell for cell in cells if cell.spec.name not in self._static]
        leaving = tuple(self._leaving.values())
        for cell in leaving:
            cell.request_stop(final=True)
        if self.spec.strategy is Strategy.ONE_FOR_ONE:
            for cell in dynamic:
                cell.request_stop(final=True)
        for cell in cells:
            is_dynamic = cell.spec.name not in self._static
            if not cell.asked_to_stop or cell.state is State.DOWN:
                cell.request_stop(final=final or is_dynamic)
            await cell.wait_ended()
            if final or is_dynamic:
                # A dynamic child is not part of the specification that a restart starts from.
                self._drop(cell)
        for cell in leaving:
            await cell.wait_ended()


class Supervisor:
    """A handle on a supervisor; it stays valid across the supervisor's restarts."""

    def __init__(self, cell: SupervisorCell) -> None:
        self.name = cell.path
        """Path of the supervisor."""
        self._cell = cell

    def start_child(self, spec: ChildSpec[ProtocolT]) -> Ref[ProtocolT]:
        """Start a dynamic child and return its address at once.

        The name and the mailbox exist when this returns; the actor starts soon after, and messages sent until
        then wait for it. A supervisor that is restarted forgets its dynamic children.

        Args:
            spec: The child. If a live child has its name, that child's address is returned, `spec` ignored.

        Raises:
            ActorStopped: The supervisor is gone or on its way out.
            ValueError: The name belongs to a supervisor.
        """
        return self._cell.start_child(spec)

    def child(self, name: str) -> Ref[Any] | None:
        """Return the address of a live child, one being restarted included, or None."""
        cell = self._cell.children.get(name)
        return cell.ref if isinstance(cell, ActorCell) else None

    async def stop_child(self, name: str) -> None:
        """Stop a child for good and wait until it is gone; harmless if there is none.

        Its name is free at once. Cancelled, the child stops all the same.
        """
        await self._cell.stop_child(name)
