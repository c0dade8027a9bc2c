"""The stage of the wire's tests: `opscore serve` as a process of its own, and a client that calls it."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

import attrs
import httpx

from opscore.gateway.server.server import Address
from tests.gateway.raw_client import Client

API_KEY = "a-key-with-every-scope"
PATIENCE_S = 30.0
"""How long a test waits for what must happen; nothing takes this long when it works."""
POLL_S = 0.01
PREFIX = "/v1/opscore"
LISTENING = "listening on http://"


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without settings that would change a server."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OPSCORE_", "AGENTKIT_"))}
    return {**kept, **more}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "opscore", *arguments]


def name(kind: str = "x") -> str:
    """A name that no other test has used on a shared server."""
    return f"{kind}-{uuid.uuid4().hex[:12]}"


def now_iso(offset_s: float = 0.0) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + offset_s))


class GatewayProcess:
    """One run of `opscore serve`; its log is read as it comes, so that no pipe ever fills."""

    def __init__(self, data: Path, *options: str, port: int = 0, **variables: str) -> None:
        self.data = data
        self.lines: list[str] = []
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._clients: list[httpx.Client] = []
        given = {"OPSCORE_API_KEY": API_KEY, **variables}
        self.popen = subprocess.Popen(
            command("serve", "--data", str(data), "--port", str(port), *options),
            env=environment({name: value for name, value in given.items() if value}),
            cwd=data.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.address = self._listening()

    @property
    def url(self) -> str:
        return self.address.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.popen.poll() is None:
            self.kill()
        for client in self._clients:
            client.close()
        self._reader.join(PATIENCE_S)
        assert self.popen.stdout is not None
        self.popen.stdout.close()

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait(PATIENCE_S)

    def send(self, number: int) -> None:
        self.popen.send_signal(number)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Stop it in order, and return the exit code."""
        self.send(number)
        return self.popen.wait(PATIENCE_S)

    def client(self, key: str | None = API_KEY) -> httpx.Client:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        client = httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=PATIENCE_S)
        self._clients.append(client)
        return client

    def raw(self) -> Client:
        return Client(self.address)

    def log(self) -> str:
        while True:
            try:
                line = self._queue.get_nowait()
            except queue.Empty:
                return "\n".join(self.lines)
            if line is not None:
                self.lines.append(line)

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            self._queue.put(line.rstrip("\n"))
        self._queue.put(None)

    def _listening(self) -> Address:
        while True:
            line = self._queue.get(timeout=PATIENCE_S)
            assert line is not None, f"it ended: {self.lines}"
            self.lines.append(line)
            if LISTENING in line:
                host, _, port = line.partition(LISTENING)[2].partition(",")[0].partition(":")
                return Address(host=host, port=int(port))


@attrs.frozen(kw_only=True)
class Wire:
    """A client of a gateway, with the calls that tests make again and again."""

    http: httpx.Client

    def get(self, path: str, **parameters: Any) -> httpx.Response:
        return self.http.get(f"{PREFIX}{path}", params=parameters)

    def post(self, path: str, document: Any = None, **parameters: Any) -> httpx.Response:
        body = None if document is None else json.dumps(document).encode()
        return self.http.post(f"{PREFIX}{path}", content=body, params=parameters, headers=_JSON)

    def delete(self, path: str) -> httpx.Response:
        return self.http.delete(f"{PREFIX}{path}")

    def register(self, *capabilities: str, agent_id: str | None = None, endpoint: str | None = None) -> str:
        chosen = agent_id or name("agent")
        document = {"agentId": chosen, "capabilities": list(capabilities), "contactEndpoint": endpoint}
        answer = self.post("/agent", document)
        assert answer.status_code == 201, answer.text
        return chosen

    def report(self, agent_id: str, state: str, details: Any = None, timestamp: str | None = None) -> httpx.Response:
        document = {"agentId": agent_id, "timestamp": timestamp or now_iso(), "state": state, "details": details}
        return self.post(f"/agent/{agent_id}/state", document)

    def trigger(self, definition: dict[str, Any], *, payload: Any = None, key: str | None = None) -> str:
        """Save a workflow, run it, and return the session's id."""
        saved = self.post("/workflow", definition)
        assert saved.status_code == 201, saved.text
        headers = {} if key is None else {"Idempotency-Key": key}
        path = f"{PREFIX}/workflow/{definition['id']}/trigger"
        answer = self.http.post(path, json={"initialPayload": payload}, headers=headers)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["sessionId"])

    def claim(self, agent_id: str, *, wait_s: float = PATIENCE_S / 2, claim_id: str | None = None) -> httpx.Response:
        return self.post(f"/agent/{agent_id}/claim", {"claimId": claim_id}, waitSeconds=wait_s)

    def claimed(self, agent_id: str) -> dict[str, Any]:
        answer = self.claim(agent_id)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def session(self, session_id: str, *, wait_s: float = 0.0) -> dict[str, Any]:
        return dict(self.get(f"/session/{session_id}", waitSeconds=wait_s).json())

    def ended(self, session_id: str) -> dict[str, Any]:
        found = self.session(session_id, wait_s=PATIENCE_S)
        assert found["endTime"] is not None, found
        return found

    def until_task(self, session_id: str, *statuses: str) -> dict[str, Any]:
        """Wait until the session's first task has one of these statuses."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            task = dict(self.session(session_id)["tasks"][0])
            if task["status"] in statuses:
                return task
            assert time.monotonic() < deadline, task
            time.sleep(POLL_S)


_JSON = {"Content-Type": "application/json"}


def one_task(capability: str, **fields: Any) -> dict[str, Any]:
    """A workflow of one task."""
    return {"id": name("flow"), "tasks": [{"taskId": "only", "agentCapability": capability, **fields}]}


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check that an answer is this problem, complete and in form; return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert set(document) - {"errors"} == {"type", "title", "status", "detail", "code"}
    assert document["type"] == "about:blank"
    assert document["title"] == HTTPStatus(status).phrase
    assert (document["status"], document["code"]) == (status, code)
    assert document["detail"].endswith(".")
    assert "Traceback" not in answer.text
    return document


def faults(answer: httpx.Response) -> dict[str, str]:
    """The faults of a 422, by path."""
    document = problem(answer, 422, "validation_failed")
    assert all(set(fault) == {"path", "message"} for fault in document["errors"])
    return {fault["path"]: fault["message"] for fault in document["errors"]}


@contextmanager
def gateway(data: Path, *options: str, port: int = 0, **variables: str) -> Iterator[tuple[GatewayProcess, Wire]]:
    """A server on a directory, and a client of it."""
    data.parent.mkdir(parents=True, exist_ok=True)
    with GatewayProcess(data, *options, port=port, **variables) as process:
        yield process, Wire(http=process.client())


def gone(process: subprocess.Popen[str]) -> None:
    """End a process whatever it does."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    process.communicate()
