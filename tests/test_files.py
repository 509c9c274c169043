"""Files are written whole or not at all, through no name that somebody else could have prepared."""

import contextlib
import os
import stat
from pathlib import Path

import pytest

from ancestral.files import replacing


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x"
    for content in (b"one", b"another"):
        with replacing(path) as part:
            part.write_bytes(content)
        assert path.read_bytes() == content
    with contextlib.suppress(KeyError), replacing(path) as part:
        part.write_bytes(b"half")
        raise KeyError
    assert path.read_bytes() == b"another"
    assert list(path.parent.iterdir()) == [path]


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    with replacing(tmp_path / "x") as part:
        part.write_bytes(b"")
    (tmp_path / "y").write_bytes(b"")
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == stat.S_IMODE((tmp_path / "y").stat().st_mode)


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / ".x.part").symlink_to(tmp_path / "precious")
    with replacing(tmp_path / "x") as part, replacing(tmp_path / "x") as other:
        assert part != other
        part.write_bytes(b"x")
        other.write_bytes(b"y")
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert not (tmp_path / "x").is_symlink()


def test_it_is_said_what_could_not_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing") as found, replacing(tmp_path / "x"):
        (tmp_path / "missing").read_bytes()
    assert "cannot write" not in str(found.value)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="cannot write"), replacing(tmp_path / "file" / "x"):
        pass
