import errno
import json
import logging
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from opscore.gateway.keys.key_file import FILE_NAME
from opscore.gateway.keys.keys import KeyRing, KeysError, Principal, Scope, parse_scope

ADMIN, OPERATOR, AGENT, VIEWER = Scope.ADMIN, Scope.OPERATOR, Scope.AGENT, Scope.VIEWER


class Watch:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def rewrite(directory: Path, text: str) -> None:
    file = directory / FILE_NAME
    file.write_text(text)
    file.chmod(0o600)


def test_a_created_key_authenticates_with_its_scope_and_name(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    viewer = ring.create("dashboard", "viewer")
    agent = ring.create("seven", "agent:a7")
    assert ring.authenticate(viewer) == Principal(name="dashboard", scope=VIEWER)
    assert ring.authenticate(agent) == Principal(name="seven", scope=AGENT, agent_id="a7")


def test_keys_outlive_the_process_and_are_never_stored_as_they_are(tmp_path: Path) -> None:
    token = KeyRing(tmp_path).create("ci", "operator")
    assert KeyRing(tmp_path).authenticate(token) == Principal(name="ci", scope=OPERATOR)
    text = (tmp_path / FILE_NAME).read_text()
    assert token.split("_", 2)[2] not in text
    assert token not in text


def test_two_keys_are_never_alike(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    tokens = {ring.create("n", "agent") for _ in range(20)}
    assert len(tokens) == len({key.id for key in ring.list()}) == 20
    assert all(len(token.split("_", 2)[2]) >= 43 for token in tokens)


@pytest.mark.parametrize(
    "change", ["", "x", "opscore_", "opscore__", "opscore_00000000_x", "Ω", "\udcff", "a" * 100_000]
)
def test_a_token_that_was_never_given_out_is_nobodys(tmp_path: Path, change: str) -> None:
    ring = KeyRing(tmp_path, configured="configured-key")
    ring.create("ci", "operator")
    assert ring.authenticate(change) is None


def test_a_token_with_one_character_changed_is_nobodys(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    token = ring.create("ci", "operator")
    for position in range(len(token)):
        other = "A" if token[position] != "A" else "B"
        assert ring.authenticate(token[:position] + other + token[position + 1 :]) is None


def test_the_configured_key_has_every_scope_and_is_not_in_the_file(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path, configured="configured-key")
    principal = ring.authenticate("configured-key")
    assert principal is not None
    assert all(principal.allows(scope, about) for scope in Scope for about in (None, "a7"))
    assert ring.list() == ()
    assert not (tmp_path / FILE_NAME).exists()


def test_a_configured_key_that_has_a_lesser_scope_in_the_file_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ring = KeyRing(tmp_path)
    admin, viewer = ring.create("first", "admin"), ring.create("dashboard", "viewer")
    for harmless in (None, "another-key", admin):
        KeyRing(tmp_path, configured=harmless)
    assert caplog.messages == []
    KeyRing(tmp_path, configured=viewer)
    [said] = caplog.messages
    assert said.startswith(f"OPSCORE_API_KEY is key {viewer.split('_')[1]} (dashboard) of scope viewer; ")
    assert said.endswith("as the server's own key it has every scope, also when it is revoked")


def test_an_empty_configured_key_opens_nothing(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path, configured="")
    assert ring.authenticate("") is None
    assert not ring.any()


@pytest.mark.parametrize(
    ("principal", "anything", "about_a7", "about_a8"),
    [
        (Principal(name="n", scope=ADMIN), set(Scope), set(Scope), set(Scope)),
        (Principal(name="n", scope=OPERATOR), *[{OPERATOR, AGENT, VIEWER}] * 3),
        (Principal(name="n", scope=AGENT), {AGENT}, {AGENT, VIEWER}, {AGENT, VIEWER}),
        (Principal(name="n", scope=AGENT, agent_id="a7"), set(), {AGENT, VIEWER}, set()),
        (Principal(name="n", scope=VIEWER), *[{VIEWER}] * 3),
    ],
    ids=["admin", "operator", "agent", "agent:a7", "viewer"],
)
def test_what_each_scope_allows_is_this_table(
    principal: Principal, anything: set[Scope], about_a7: set[Scope], about_a8: set[Scope]
) -> None:
    assert {scope for scope in Scope if principal.allows(scope)} == anything
    assert {scope for scope in Scope if principal.allows(scope, "a7")} == about_a7
    assert {scope for scope in Scope if principal.allows(scope, "a8")} == about_a8


@pytest.mark.parametrize("text", ["", "root", "Admin", "agent:", "viewer:a7", "admin:", ":a7", "agent :a7"])
def test_a_scope_that_does_not_exist_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(KeysError, match="is not a scope: expected admin, operator, agent, agent:<id> or viewer"):
        KeyRing(tmp_path).create("n", text)
    assert not (tmp_path / FILE_NAME).exists()


@pytest.mark.parametrize(
    ("agent_id", "why"),
    [
        ("a/b", 'contains "/"'),
        ("..", r'is "\." or "\.\."'),
        (" ", "is empty or blank"),
        ("a\n", "contains control characters"),
        ("\udcff", "half of a surrogate pair"),
        ("ä" * 65, "has more than 128 bytes"),
    ],
)
def test_a_key_of_an_agent_that_can_not_be_is_refused(tmp_path: Path, agent_id: str, why: str) -> None:
    with pytest.raises(KeysError, match=f"is not a scope: no agent can have an id that .*{why}"):
        KeyRing(tmp_path).create("n", f"agent:{agent_id}")
    assert not (tmp_path / FILE_NAME).exists()
    assert KeyRing(tmp_path).create("n", "agent:" + "ä" * 64)


def test_a_key_that_an_earlier_release_made_of_such_an_agent_is_read(tmp_path: Path) -> None:
    token = KeyRing(tmp_path).create("n", "agent:a-b")
    rewrite(tmp_path, (tmp_path / FILE_NAME).read_text().replace("a-b", "a/b"))
    assert KeyRing(tmp_path).authenticate(token) == Principal(name="n", scope=AGENT, agent_id="a/b")


def test_an_agents_id_may_hold_colons() -> None:
    assert parse_scope("agent:urn:x:7") == (AGENT, "urn:x:7")


@pytest.mark.parametrize("name", ["", "  ", "x" * 129])
def test_a_key_without_a_usable_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(KeysError, match="needs a name of 1 to 128 characters"):
        KeyRing(tmp_path).create(name, "viewer")


def test_keys_are_listed_oldest_first_without_anything_that_opens(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    tokens = [ring.create(f"key {number}", "agent") for number in range(3)]
    listed = ring.list()
    assert [key.name for key in listed] == ["key 0", "key 1", "key 2"]
    assert all(key.created_at.endswith("Z") and key.scope == "agent" for key in listed)
    assert not any(token.split("_", 2)[2] in repr(listed) for token in tokens)


def test_a_revoked_key_opens_nothing_and_the_others_stay(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    gone, stays = ring.create("gone", "agent"), ring.create("stays", "agent")
    assert ring.revoke(ring.list()[0].id).name == "gone"
    for each in (ring, KeyRing(tmp_path)):
        assert each.authenticate(gone) is None
        assert each.authenticate(stays) is not None


def test_revoking_a_key_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(KeysError, match="There is no key 'deadbeef'"):
        KeyRing(tmp_path).revoke("deadbeef")


def test_a_running_server_notices_changes_at_most_a_second_later(tmp_path: Path) -> None:
    watch = Watch()
    server = KeyRing(tmp_path, monotonic=watch)
    token = KeyRing(tmp_path).create("new", "agent")
    watch.now_s = 0.9
    assert server.authenticate(token) is None
    watch.now_s = 1.0
    assert server.authenticate(token) is not None
    KeyRing(tmp_path).revoke(KeyRing(tmp_path).list()[0].id)
    watch.now_s = 2.0
    assert server.authenticate(token) is None
    assert not server.any()


def test_deleting_the_file_revokes_every_key(tmp_path: Path) -> None:
    watch = Watch()
    server = KeyRing(tmp_path, monotonic=watch)
    token = server.create("ci", "agent")
    (tmp_path / FILE_NAME).unlink()
    watch.now_s = 1.0
    assert server.authenticate(token) is None


def test_a_file_damaged_under_a_running_server_keeps_the_keys_and_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watch = Watch()
    server = KeyRing(tmp_path, monotonic=watch)
    token = server.create("ci", "agent")
    rewrite(tmp_path, '{"keys": [')
    with caplog.at_level(logging.ERROR):
        for now_s in (1.0, 2.0, 3.0):
            watch.now_s = now_s
            assert server.authenticate(token) is not None
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "is damaged" in caplog.text
    assert token not in caplog.text


def without(directory: Path, name: str) -> str:
    """The file as it is once that key is taken out by hand."""
    document = json.loads((directory / FILE_NAME).read_text())
    return json.dumps({**document, "keys": [key for key in document["keys"] if key["name"] != name]})


def test_a_key_taken_out_by_an_editor_opens_nothing_once_the_file_is_made_safe_as_the_log_advises(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watch = Watch()
    server = KeyRing(tmp_path, monotonic=watch)
    stays, leaked = server.create("stays", "agent"), server.create("leaked", "agent")
    rewrite(tmp_path, without(tmp_path, "leaked"))
    (tmp_path / FILE_NAME).chmod(0o664)
    for watch.now_s in (1.0, 2.0):
        assert server.authenticate(leaked) is not None
    assert caplog.text.count("chmod 600") == 1
    (tmp_path / FILE_NAME).chmod(0o600)
    watch.now_s = 3.0
    assert server.authenticate(leaked) is None
    assert server.authenticate(stays) is not None


def test_a_revoked_key_opens_nothing_although_the_file_could_not_be_read_at_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch()
    server = KeyRing(tmp_path, monotonic=watch)
    token = server.create("ci", "agent")
    KeyRing(tmp_path).revoke(server.list()[0].id)
    with monkeypatch.context() as shortage:
        shortage.setattr(Path, "open", out_of_descriptors)
        for watch.now_s in (1.0, 2.0):
            assert server.authenticate(token) is not None
    assert caplog.text.count("Too many open files") == 1
    watch.now_s = 3.0
    assert server.authenticate(token) is None


def out_of_descriptors(*_: object) -> None:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def test_a_fault_of_the_file_that_comes_back_is_logged_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    watch = Watch()
    server = KeyRing(tmp_path, monotonic=watch)
    server.create("ci", "agent")
    for watch.now_s, mode in ((1.0, 0o620), (2.0, 0o600), (3.0, 0o620)):
        (tmp_path / FILE_NAME).chmod(mode)
        server.any()
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"keys": [{"id": "x"}]}',
        '{"keys": [{"id": 1, "name": "n", "scope": "agent", "sha256": "00", "created_at": ""}]}',
        '{"keys": {"id": "x"}}',
        '{"keys": ["x"]}',
        pytest.param("[" * 100_000, id="nests too deeply"),
    ],
)
def test_a_damaged_file_is_refused_when_a_server_starts(tmp_path: Path, text: str) -> None:
    rewrite(tmp_path, text)
    with pytest.raises(KeysError, match=r"keys\.json is damaged.*: restore it, or delete it to start over\."):
        KeyRing(tmp_path)


def test_a_file_of_another_version_is_refused_by_name(tmp_path: Path) -> None:
    rewrite(tmp_path, '{"version": 2, "keys": []}')
    with pytest.raises(KeysError, match="is of version 2; this opscore reads 1"):
        KeyRing(tmp_path)


def test_a_scope_that_does_not_exist_in_the_file_is_refused(tmp_path: Path) -> None:
    KeyRing(tmp_path).create("ci", "agent")
    text = (tmp_path / FILE_NAME).read_text()
    rewrite(tmp_path, text.replace('"agent"', '"root"'))
    with pytest.raises(KeysError, match="'root' is not a scope"):
        KeyRing(tmp_path)


def test_only_its_owner_can_read_the_file_whatever_the_umask(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        KeyRing(tmp_path).create("ci", "agent")
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600


def test_a_file_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    KeyRing(tmp_path).create("ci", "agent")
    (tmp_path / FILE_NAME).chmod(0o666)
    with pytest.raises(KeysError, match="chmod 600"):
        KeyRing(tmp_path)


def test_creating_leaves_nothing_but_the_file_and_makes_the_directory(tmp_path: Path) -> None:
    KeyRing(tmp_path / "new" / "store").create("ci", "agent")
    assert [file.name for file in (tmp_path / "new" / "store").iterdir()] == [FILE_NAME]


def test_a_directory_that_cannot_be_used_is_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KeysError, match=r"file.* cannot be (used|accessed): "):
        KeyRing(tmp_path / "file").create("ci", "agent")


def test_the_first_key_is_made_only_where_there_is_none(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    token = ring.create_first()
    assert token is not None
    assert ring.authenticate(token) == Principal(name="first", scope=ADMIN)
    assert ring.create_first() is None
    assert KeyRing(tmp_path, configured="k").create_first() is None
    assert KeyRing(tmp_path / "other", configured="k").create_first() is None


def test_processes_that_create_keys_at_the_same_time_lose_none(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from opscore.gateway.keys.keys import KeyRing\n"
        "ring = KeyRing(Path(sys.argv[1]))\n"
        "for number in range(8): print(ring.create(f'{sys.argv[2]}-{number}', 'agent'))"
    )

    def create_some(name: str) -> list[str]:
        command = [sys.executable, "-c", program, str(tmp_path), name]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()

    with ThreadPoolExecutor() as pool:
        tokens = [token for part in pool.map(create_some, ["a", "b", "c"]) for token in part]
    ring = KeyRing(tmp_path)
    assert len(tokens) == len(json.loads((tmp_path / FILE_NAME).read_text())["keys"]) == 24
    assert all(ring.authenticate(token) for token in tokens)
