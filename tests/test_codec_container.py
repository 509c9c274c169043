"""Compressed files: what they hold and give back, tiles, what is refused, and what a picture costs."""

import io
import re

import pytest
import torch
from torch import Tensor

from ancestral.codec import Damaged, Entry, Lost, Reader, Writer, chunks, compress, decompress, payload
from ancestral.codec.fingerprint import fingerprint
from ancestral.codec.numbers import Taken, numbers, table
from ancestral.codec.tiles import cut, joined, padding, tiles_of
from ancestral.likelihoods import Categorical, DiscretizedLogisticMixture
from ancestral.model import Model
from ancestral.models import MODELS
from ancestral.models.latent import LatentVariables
from ancestral.testing import tiny

EXACT = [name for name, kind in MODELS.items() if not issubclass(kind, LatentVariables)]


def made(seed: int = 1, levels: int = 4) -> Model:
    torch.manual_seed(seed)
    return tiny("made", likelihood=Categorical(levels=levels))


def several(model: Model, n: int = 20) -> list[tuple[Entry, Tensor]]:
    return [(Entry(f"a/{i}.png", i % 3, model.shape), x) for i, x in enumerate(model.sample(n))]


def file_of(model: Model, entries: list[tuple[Entry, Tensor]], **choice: object) -> bytes:
    file = io.BytesIO()
    with Writer(file, model, **choice) as writer:
        for entry, levels in entries:
            writer.add(entry, levels)
    return file.getvalue()


def same(found: object, wanted: tuple[Entry, Tensor]) -> bool:
    return isinstance(found, tuple) and found[0] == wanted[0] and torch.equal(found[1], wanted[1])


@pytest.mark.parametrize("size", [(5,), (2, 7), (3, 4, 5), (1, 1, 1)])
def test_tiles_are_put_together_again(size: tuple[int, ...]) -> None:
    for factor in (0.4, 1, 1.3, 2, 3.5):
        shape = tuple(max(1, int(side * factor)) for side in size)
        shape = shape if len(size) == 1 else (size[0], *shape[1:])
        x = torch.randint(1, 100, shape)
        tiles = cut(x, size)
        assert tiles.shape == (tiles_of(shape, size), *size)
        assert torch.equal(joined(tiles, shape), x)
        assert torch.equal(padding(shape, size, 0, len(tiles)), tiles == 0)


def test_tiles_are_in_raster_order() -> None:
    x = torch.arange(12).view(1, 3, 4)
    assert cut(x, (1, 2, 2)).flatten(1).tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 0, 0], [10, 11, 0, 0]]


@pytest.mark.parametrize("examples", [1, 3, 64])
@pytest.mark.parametrize("name", EXACT)
def test_entries_of_any_size_come_back(name: str, examples: int) -> None:
    model = tiny(name)
    entries = []
    for i, factor in enumerate((1, 0.5, 2.5, 0.3, 1.7, 1)):
        axes = [max(1, int(side * factor)) for side in model.shape]
        shape = tuple(axes) if len(axes) == 1 else (model.shape[0], *axes[1:])
        entries.append((Entry(f"ä/{i}", None, shape), torch.randint(2, shape)))
    found = list(Reader(io.BytesIO(file_of(model, entries, examples=examples)), model))
    assert all(map(same, found, entries))
    assert len(found) == len(entries)


def test_padding_costs_nothing() -> None:
    model = tiny("pixelcnn", shape=(1, 16, 16), likelihood=Categorical(levels=256))
    sizes = []
    for side in (2, 16):
        file = io.BytesIO()
        with Writer(file, model) as writer:
            for _ in range(20):
                writer.add(Entry("", None, (1, side, side)), torch.randint(256, (1, side, side)))
        sizes.append(writer.totals.streams)
    assert sizes[0] < sizes[1] / 50


def test_everything_comes_back_in_order() -> None:
    model, entries = made(), several(made())
    file, info = io.BytesIO(), {"kind": "pictures", "names": ["ä"], "rate": 1.5, "none": None}
    with Writer(file, model, info=info, examples=7) as writer:
        for i, (entry, levels) in enumerate(entries):
            writer.add(entry, levels)
            if i in (6, 9):
                writer.add_plain(f"b/{i}.txt", bytes(range(256)) * i)
    totals = writer.close()
    reader = Reader(io.BytesIO(file.getvalue()), model)
    assert (reader.info, reader.portable) == (info, True)
    for _ in range(2):
        found = list(reader)
        stored = [each for each in found if isinstance(each[1], bytes)]
        assert stored == [(f"b/{i}.txt", bytes(range(256)) * i) for i in (6, 9)]
        assert [each[0] for each in found].index("b/6.txt") == 7
        assert all(map(same, [each for each in found if not isinstance(each[1], bytes)], entries))
    assert (totals.entries, totals.files, totals.values, totals.bytes) == (20, 2, 120, len(file.getvalue()))
    assert totals.to_json()["bytes"] == totals.bytes
    assert totals.plain < 600


def test_names_that_are_not_unicode_come_back() -> None:
    model = made()
    name = b"a\xff\n.png".decode("utf-8", "surrogateescape")
    entries = [(entry._replace(name=name), x) for entry, x in several(model, 2)]
    assert all(map(same, Reader(io.BytesIO(file_of(model, entries)), model), entries))


def test_a_picture_costs_few_bytes_of_its_own() -> None:
    model, file = made(), io.BytesIO()
    with Writer(file, model) as writer:
        for x in model.sample(640):
            writer.add(Entry("", None, model.shape), x)
    totals = writer.totals
    assert totals.chunks == 10
    assert totals.framing + totals.names <= 640  # a byte each
    assert totals.framing + totals.names + totals.header <= 4 * 640


def test_files_are_the_same_again() -> None:
    model, entries = made(), several(made())
    assert file_of(model, entries, salt=7) == file_of(model, entries, salt=7)
    assert file_of(model, entries) != file_of(model, entries)
    assert compress(model, entries[0][1][None]) == compress(model, entries[0][1][None])


def test_another_model_is_refused() -> None:
    data = file_of(made(), several(made()))
    for other in (made(2), made(1, 5), tiny("pixelcnn")):
        with pytest.raises(ValueError, match="compressed with another model"):
            Reader(io.BytesIO(data), other)
    assert fingerprint(made()) == fingerprint(made().double())


def test_other_files_and_versions_are_refused() -> None:
    model, data = made(), file_of(made(), several(made()))[:-1]  # without a copy of the header at the end
    for wrong, message in [
        (b"", "no compressed file"),
        (b"PK\3\4" + data, "no compressed file"),
        (data[:9], "cut off in its header"),
        (data[:60], "header is damaged"),
        (data[:7] + b"\x07" + data[8:], "version 7 of the format; this library reads version 1"),
        (data[:8] + b"\xff" * 4 + data[12:], "header is damaged"),
        (data[:40] + b"!" + data[41:], "header is damaged"),
    ]:
        with pytest.raises(ValueError, match=message) as refused:
            Reader(io.BytesIO(wrong), model)
        assert "\n" not in str(refused.value)


def test_other_arithmetic_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model, entries = made(), several(made())
    data = file_of(model, entries, portable=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    assert all(map(same, Reader(io.BytesIO(data), model), entries))  # it is tried
    decode = payload.unpack
    monkeypatch.setattr(chunks, "unpack", lambda *given: decode(*given).roll(1, 0))
    with pytest.raises(ValueError, match=re.escape("it was written with threads 1 (here 7)")):
        list(Reader(io.BytesIO(data), model))


def test_other_values_of_a_portable_file_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    model, decode = made(), payload.unpack
    data = file_of(model, several(model), examples=10)
    monkeypatch.setattr(chunks, "unpack", lambda *given: decode(*given).roll(1, 0))
    first, second = Reader(io.BytesIO(data), model)
    assert isinstance(first, Lost)
    assert first == Lost(0, "chunk 0: its values are not those that were written", 10)
    assert second == Lost(1, "chunk 1: its values are not those that were written", 10)


@pytest.mark.parametrize("levels", [4, 300, 65536])
def test_what_does_not_decode_is_stored_without_the_model(levels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    likelihood = Categorical(levels) if levels < 4096 else DiscretizedLogisticMixture(levels)
    model, decode, file = tiny("made", likelihood=likelihood), payload.unpack, io.BytesIO()
    entries = [(Entry(f"a/{i}.png", i, (n,)), torch.randint(levels, (n,))) for i, n in enumerate((6, 6, 2, 40, 9, 6))]
    entries.append((Entry("top", None, (1,)), torch.tensor([levels - 1])))
    failing = iter([False, True, True, False, True])
    monkeypatch.setattr(chunks, "unpack", lambda *given: decode(*given) ^ next(failing))
    with Writer(file, model, examples=3, info={"a": 1}) as writer:
        for entry, x in entries:
            writer.add(entry, x)
    monkeypatch.undo()
    totals = writer.totals
    assert totals.fallbacks == {"its values are not those that were written": 3}
    assert totals.chunks == 5
    assert 0 < totals.levels < totals.bytes == len(file.getvalue())
    found = list(Reader(io.BytesIO(file.getvalue()), model))
    assert all(map(same, found, entries))
    assert len(found) == len(entries)


def test_levels_that_are_stored_are_deflated_and_small(monkeypatch: pytest.MonkeyPatch) -> None:
    model, file = made(), io.BytesIO()
    monkeypatch.setattr(chunks, "unpack", lambda *given: given[3] + 1)
    with Writer(file, model, verify=True) as writer:
        for _ in range(64):
            writer.add(Entry("", None, (6,)), torch.full((6,), 3))
    assert writer.totals.levels < 16
    assert (writer.totals.streams, writer.totals.given) == (0, 0)
    with Writer(file, model, verify=False) as writer:
        writer.add(Entry("", None, (6,)), torch.full((6,), 3))
    assert writer.totals.fallbacks == {}


def test_a_model_without_numbers_loses_nothing() -> None:
    for name in ("made", "hierarchical-vae"):
        model, file = tiny(name), io.BytesIO()
        x = [torch.randint(2, model.shape) for _ in range(5)]
        for weights in model.parameters():
            weights.data.fill_(torch.nan)
        with Writer(file, model) as writer:
            for each in x:
                writer.add(Entry("", None, model.shape), each)
        assert [len(reason.splitlines()) for reason in writer.totals.fallbacks] in ([], [1])
        for found, each in zip(Reader(io.BytesIO(file.getvalue()), model), x, strict=True):
            assert torch.equal(found[1], each)


def test_an_exception_leaves_no_end() -> None:
    model, file = made(), io.BytesIO()
    entries = several(model)
    writer = Writer(file, model, examples=5)
    for entry, x in entries[:12]:
        writer.add(entry, x)
    writer.__exit__(KeyError)
    *found, lost = Reader(io.BytesIO(file.getvalue()), model)
    assert all(map(same, found, entries))
    assert len(found) == 10
    assert isinstance(lost, Lost)
    assert "cut off" in lost.reason


@pytest.mark.parametrize(
    ("entry", "levels", "message"),
    [
        (Entry("n", None, (5,)), torch.zeros(6), r"n: levels must have the shape of the entry, \(5,\), got \(6,\)"),
        (Entry("n", -1, (6,)), torch.zeros(6), "n: label must be from 0 to 2147483647, got -1"),
        (Entry("n\0", None, (6,)), torch.zeros(6), "a name must have at most 4096 bytes and no NUL"),
        (Entry("n" * 4097, None, (6,)), torch.zeros(6), "a name must have at most 4096 bytes"),
        (Entry("n", None, (0,)), torch.zeros(0), "at least one value"),
        (Entry("n", None, (6,)), torch.full((6,), 4), "x must hold levels from 0 to 3"),
        (Entry("n", None, (6,)), torch.full((6,), torch.nan), "x must be finite"),
    ],
)
def test_wrong_entries_are_refused(entry: Entry, levels: Tensor, message: str) -> None:
    model, file = made(), io.BytesIO()
    good = several(model)
    with Writer(file, model) as writer:
        writer.add(*good[0])
        with pytest.raises(ValueError, match=message):
            writer.add(entry, levels)
        writer.add(*good[1])
    assert all(map(same, Reader(io.BytesIO(file.getvalue()), model), good))


def test_wrong_choices_are_refused() -> None:
    for choice, message in [
        ({"examples": 0}, "examples must be an integer of at least 1, got 0"),
        ({"examples": 2**17}, "examples must be at most 4096"),
        ({"info": {"a": torch.zeros(1)}}, "info must be JSON"),
        ({"info": {"a": float("nan")}}, "JSON"),
        ({"info": {"a": "a" * 2**20}}, "info must have at most 1048576 bytes"),
    ]:
        with pytest.raises(ValueError, match=message):
            Writer(io.BytesIO(), made(), **choice)
    with pytest.raises(ValueError, match="label must be from 0 to 2, got 3"):
        Writer(io.BytesIO(), tiny("made", classes=3)).add(Entry("", 3, (6,)), torch.zeros(6))


def test_more_than_a_batch_is_no_tensor() -> None:
    model = made()
    data = file_of(model, [(Entry("", None, (n,)), torch.zeros(n)) for n in (6, 7)])
    with pytest.raises(ValueError, match="more than a batch"):
        decompress(model, data)


def test_numbers_are_taken_as_they_were() -> None:
    values = [0, 1, 127, 128, 2**31, 2**62]
    assert Taken(numbers(values)).numbers(6, 2**62) == values
    given = torch.tensor([[0, 5, 6, 300], [7, 0, 2, 1]])
    taken = Taken(table(given))
    index = taken.ascending(301)
    assert [index, taken.numbers(4, 7)] == given.tolist()
    taken.end()
    for wrong in (b"", b"\xff" * 30, b"\x81", numbers([2**40]), numbers([3, 0, 0, 1]), numbers([2, 200, 150])):
        with pytest.raises(Damaged):
            Taken(wrong).ascending(300)
