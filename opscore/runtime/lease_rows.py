"""The rows that come and go with a lease, in the commit that grants or ends it."""

from opscore.runtime.models import Lease, Slot
from opscore.runtime.store import ABSENT, Delete, Submission
from opscore.runtime.tables import AGENTS, LEASES, SLOTS


def grant_of(lease: Lease, agent_version: int) -> Submission:
    """The dispatch's preconditions: the agent as it was when it was idle and uncordoned, no lease, and free slots."""
    return Submission(
        expects=(
            AGENTS.expect(lease.agent_id, agent_version),
            LEASES.expect(lease.agent_id, ABSENT),
            *(SLOTS.expect(slot, ABSENT) for slot in lease.slots),
        ),
        writes=(LEASES.put(lease), *(SLOTS.put(Slot(name=slot, agent_id=lease.agent_id)) for slot in lease.slots)),
    )


def passed_on(lease: Lease) -> Submission:
    """Give the agent another lease in the commit that ends its last one, whose preconditions hold for this as well."""
    return Submission(writes=(LEASES.put(lease),))


def release_of(lease: Lease) -> tuple[Delete, ...]:
    """End a lease, and leave the slots that came with it."""
    return (LEASES.delete(lease.agent_id), *map(SLOTS.delete, lease.slots))
