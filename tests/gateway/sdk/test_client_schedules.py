"""The client's calls about schedules say on the wire what they say here."""

from datetime import UTC, datetime

from opscore.actors.backoff import Backoff
from opscore.gateway.sdk.client import OpscoreClient
from tests.gateway.scripted_server import Answer, scripted_server


async def test_a_schedule_is_sent_with_an_id_so_that_it_may_be_sent_again() -> None:
    busy = Answer(status=503, document={"code": "not_ready"})
    shown = Answer(document={"scheduleId": "s-1", "items": []})
    with scripted_server(busy, shown) as server:
        async with OpscoreClient(server.url, retry_for_s=5.0, backoff=Backoff(initial_s=0.0)) as client:
            await client.create_schedule("w", cron="30 2 * * *", time_zone="Europe/Berlin", payload={"n": 1})
            at = datetime(2027, 1, 31, 12, tzinfo=UTC)
            await client.create_schedule("w", at=at, missed="all", agent_id="a-1", schedule_id="s-1")
            await client.schedules(workflowId="w", limit=1)
            await client.schedule("s-1")
            await client.pause_schedule("s-1")
            await client.pause_schedule("s-1", paused=False)
            await client.delete_schedule("s-1")
    first, again, *rest = server.asked
    assert first.document == again.document
    assert first.document["scheduleId"].startswith("sch_")
    cron = {"cron": "30 2 * * *", "timeZone": "Europe/Berlin", "payload": {"n": 1}}
    assert first.document == {"scheduleId": first.document["scheduleId"], "workflowDefinitionId": "w", **cron}
    named = {"scheduleId": "s-1", "at": "2027-01-31T12:00:00+00:00", "missed": "all", "agentId": "a-1"}
    assert rest[0].document == {"workflowDefinitionId": "w", **named}
    assert [(call.method, call.path) for call in rest] == [
        ("POST", "/v1/opscore/schedule"),
        ("GET", "/v1/opscore/schedule?limit=1&workflowId=w"),
        ("GET", "/v1/opscore/schedule/s-1"),
        ("POST", "/v1/opscore/schedule/s-1/pause"),
        ("POST", "/v1/opscore/schedule/s-1/resume"),
        ("DELETE", "/v1/opscore/schedule/s-1"),
    ]
