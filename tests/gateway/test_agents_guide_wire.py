"""The guide for those who write agents: what it shows of the wire is so, and its tests and types hold."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from opscore.runtime import errors
from tests.gateway.gateway_process import POLL_S, Wire, name
from tests.gateway.guides import FOLDER, files_of
from tests.gateway.scripted_server import Answer, ScriptedServer, scripted_server

ENTRANCE = (FOLDER / "agents.md").read_text()
PAGES = {page.stem: page.read_text() for page in sorted((FOLDER / "agents").glob("*.md"))}
FILES = {file: text for page in PAGES.values() for file, text in files_of(page).items()}
PATIENCE_S = 120.0
AS_IT_COMES = {"taskId", "sessionId", "leaseExpiresAt"}
"""What an answer that is shown has another value for each time."""


def shown(page: str, mark: str, language: str) -> list[str]:
    return re.findall(rf"<!-- {mark} -->\n```{language}\n(.*?)```", PAGES[page], flags=re.DOTALL)


def exchanges() -> list[tuple[str, str, int, str]]:
    """What the page on claims has an agent ask, and what it says is answered: path, body, status, answer."""
    form = re.compile(r"POST /v1/opscore(\S+)\n(\{.*?\})\n(\d{3}) ?(.*)", flags=re.DOTALL)
    found = [
        form.fullmatch(each.strip()) for block in shown("claiming", "asks", "text") for each in block.split("\n\n")
    ]
    assert all(found)
    return [(each[1], each[2], int(each[3]), each[4]) for each in found if each]


def settled(document: Any) -> Any:
    """A document without what is different each time."""
    if not isinstance(document, dict):
        return document
    return {key: ... if key in AS_IT_COMES else settled(value) for key, value in document.items()}


def test_an_agent_without_the_sdk_is_answered_as_the_page_says(wire: Wire) -> None:
    capability, agent_id, workflow_id = name("cap"), name("agent"), name("texts")
    ours = {"reverser-1": agent_id, '"reversing"': f'"{capability}"', '"texts"': f'"{workflow_id}"'}
    asked = exchanges()
    assert len(asked) == 6
    for number, (path, body, status, said) in enumerate(asked):
        if number == 2:
            task = {"taskId": "turn", "agentCapability": capability}
            wire.trigger({"id": workflow_id, "tasks": [task]}, payload={"text": "stressed"})
        query = dict(re.findall(r"(\w+)=(\w+)", path))
        answer = wire.post(named(path.partition("?")[0], ours), json.loads(named(body, ours)), **query)
        assert answer.status_code == status, answer.text
        if said:
            assert settled(answer.json()) == settled(json.loads(named(said, ours)))
        if "/claim" in path:
            ours = {**ours, "ses_01m8….0": answer.json()["task"]["taskId"]}


def named(text: str, ours: dict[str, str]) -> str:
    """A text of the page with this test's own names in it."""
    for shown_name, own_name in ours.items():
        text = text.replace(shown_name, own_name)
    return text


def test_an_agent_is_pushed_what_the_page_shows_and_a_report_ends_it(wire: Wire) -> None:
    capability = name("cap")
    with scripted_server(Answer(status=202, document={})) as agent:
        agent_id = wire.register(capability, endpoint=agent.url)
        wire.report(agent_id, "initializing")
        wire.report(agent_id, "idle")
        task = {"taskId": "print", "agentCapability": capability, "parameters": {"tray": 2}}
        session_id = wire.trigger({"id": name("letters"), "tasks": [task]}, payload=["one", "two"])
        found = wire.until_task(session_id, "dispatched", "running")
        (page,) = shown("pushed", "pushed", "json")
        own = page.replace("ses_01m8….0", found["taskId"]).replace("ses_01m8…", session_id)
        workflow_id = wire.session(session_id)["workflowId"]
        pushed = first_push(agent)
        assert pushed == json.loads(own.replace('"letters"', f'"{workflow_id}"'))
    (report,) = shown("pushed", "report", "json")
    said = json.loads(report.replace("ses_01m8….0", found["taskId"]))
    assert wire.report(agent_id, said["state"], said["details"]).status_code == 202
    assert wire.ended(session_id)["result"] == {"print": said["details"]["result"]}


def first_push(agent: ScriptedServer) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not agent.asked:
        assert time.monotonic() < deadline
        time.sleep(POLL_S)
    return agent.asked[0].document


def run(directory: Path, *command: str) -> str:
    ran = subprocess.run(
        [sys.executable, *command], cwd=directory, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_an_agent_is_tried_with_a_runtime_and_no_network(tmp_path: Path) -> None:
    (example,) = re.findall(r"(?<!-->\n)```python\n(.*?)```", PAGES["testing"], flags=re.DOTALL)
    (tmp_path / "example.py").write_text(example)
    assert run(tmp_path, "-W", "error", "example.py") == "stale_attempt\n{'print': 2}\n"
    assert "# {'print': 2}" in example


def test_who_is_stopped_at_work_ends_it_first(tmp_path: Path) -> None:
    assert "1 passed" in tried(tmp_path, "stopped_at_work")


def test_who_crashes_at_work_does_it_anew_once_it_is_back(tmp_path: Path) -> None:
    assert "1 passed" in tried(tmp_path, "crashes_at_work")


def tried(directory: Path, which: str) -> str:
    """Run a test of the guide, beside the agent that it is about."""
    for file in ("translator.py", "translator_test.py"):
        (directory / file).write_text(FILES[file])
    return run(directory, "-m", "pytest", "-q", "-p", "no:cacheprovider", "translator_test.py", "-k", which)


def test_the_agents_of_the_guide_are_typed(tmp_path: Path) -> None:
    for file, text in FILES.items():
        (tmp_path / file).write_text(text)
    run(tmp_path, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), *sorted(FILES))


def test_every_page_on_agents_is_linked_from_its_entrance() -> None:
    assert [page for page in PAGES if f"(agents/{page}.md)" not in ENTRANCE] == []


def test_every_refusal_that_the_guide_names_is_one() -> None:
    rows = re.findall(r"^\| (\d{3} `\w+`.*?) \|", ENTRANCE, flags=re.MULTILINE)
    named = {code for row in rows for code in re.findall(r"`(\w+)`", row)}
    assert len(named) >= 6
    assert named <= {kind.code for kind in refusals(errors.OpscoreError)}


def refusals(kind: type[errors.OpscoreError]) -> Iterator[type[errors.OpscoreError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from refusals(below)
