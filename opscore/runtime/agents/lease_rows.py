"""The rows that are written and deleted with a lease, in the commit that grants or ends it."""

from opscore.runtime.journal.tables import AGENTS, LEASES, SLOTS
from opscore.runtime.lease import Lease, Slot
from opscore.runtime.store import ABSENT, Delete, Submission


def grant_of(lease: Lease, agent_version: int) -> Submission:
    """Grant a lease and its slots, if the agent is as it was when it was idle, has no lease, and the slots are free."""
    return Submission(
        expects=(
            AGENTS.expect(lease.agent_id, agent_version),
            LEASES.expect(lease.agent_id, ABSENT),
            *(SLOTS.expect(slot, ABSENT) for slot in lease.slots),
        ),
        writes=(LEASES.put(lease), *(SLOTS.put(Slot(name=slot, agent_id=lease.agent_id)) for slot in lease.slots)),
    )


def passed_on(lease: Lease) -> Submission:
    """Grant another lease in the commit that ends the agent's last one, whose preconditions cover this as well."""
    return Submission(writes=(LEASES.put(lease),))


def release_of(lease: Lease) -> tuple[Delete, ...]:
    """End a lease, and free its slots."""
    return (LEASES.delete(lease.agent_id), *map(SLOTS.delete, lease.slots))
