"""Where a command writes: whole files, the files that links lead to, and what is no file at all."""

import os
import resource
from pathlib import Path

import pytest
from click.testing import CliRunner

from opscore.gateway.commands.cli import main
from opscore.gateway.commands.failures import Failed
from opscore.gateway.commands.output_file import written


def test_what_fails_half_way_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(ZeroDivisionError), written(tmp_path / "file") as out:
        out.write(b"%d" % (1 // 0))
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("file", "old")]


def test_a_file_that_a_link_leads_to_is_replaced_and_the_link_is_not(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("file")
    for content in (b"first", b"second"):
        with written(tmp_path / "link") as out:
            out.write(content)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "file").read_bytes() == content


def test_what_is_no_file_is_written_to_also_through_a_link(tmp_path: Path) -> None:
    outlet, inlet = os.pipe()
    (tmp_path / "link").symlink_to(f"/dev/fd/{inlet}")
    for anew in (False, True):
        with written(tmp_path / "link", anew=anew) as out:
            out.write(b"went through")
        assert os.read(outlet, 100) == b"went through"
    assert [each.name for each in tmp_path.iterdir()] == ["link"]
    for end in (outlet, inlet):
        os.close(end)


def test_a_file_that_has_to_be_new_is_refused_where_there_is_one(tmp_path: Path) -> None:
    with written(tmp_path / "file", anew=True) as out:
        out.write(b"whole")
    with pytest.raises(Failed, match="exists; name a file that does not exist"), written(tmp_path / "file", anew=True):
        pass
    assert (tmp_path / "file").read_bytes() == b"whole"


def test_a_file_that_can_not_be_written_is_named_as_it_was_given(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    with pytest.raises(Failed, match=f"{nowhere} is not a directory; create it first"), written(nowhere / "file"):
        pass
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(Failed, match="/file can't be written: File too large"), written(tmp_path / "file") as out:
            out.write(b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_a_drawing_never_takes_the_place_of_its_workflow(tmp_path: Path) -> None:
    text = '{"id": "w", "tasks": []}'
    (tmp_path / "w.json").write_text(text)
    (tmp_path / "link").symlink_to("w.json")
    for output in ("w.json", "link"):
        done = CliRunner().invoke(
            main, ["workflow", "graph", str(tmp_path / "w.json"), "--output", str(tmp_path / output)]
        )
        assert done.exit_code == 2
        assert "is the workflow itself; name another file" in done.output
    assert (tmp_path / "w.json").read_text() == text
