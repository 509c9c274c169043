"""Damaged files: what is whole comes back, the rest is named, and nothing wrong is ever called right."""

import io
import json
import random
import resource
import struct
import zlib
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ancestral.codec import Damaged, Entry, Lost, Reader, Writer, chunks, compress, decompress
from ancestral.codec.container import STORED
from ancestral.codec.framing import END, FIELDS, MARKER, USUAL, Frames, header, inflated, read_header, shrunk
from ancestral.codec.listing import Part
from ancestral.codec.numbers import numbers
from ancestral.likelihoods import Categorical
from ancestral.model import Model
from ancestral.testing import tiny

FUZZED = 5000
PROPERTY = settings(max_examples=60, deadline=None, database=None, derandomize=True)
Found = tuple[Entry, Tensor] | tuple[str, bytes]


def made(seed: int = 1) -> Model:
    torch.manual_seed(seed)
    return tiny("made", shape=(3,), likelihood=Categorical(levels=4))


MODEL = made()


def contents(seed: int, model: Model = MODEL) -> list[Found]:
    torch.manual_seed(seed)
    sizes = [3, 3, 2, 3, 20, 3, 3, 1, 3, 3]
    found: list[Found] = [
        (Entry(f"{i}", i % 3, (n,)), torch.randint(model.likelihood.levels or 2, (n,))) for i, n in enumerate(sizes)
    ]
    return [*found[:4], ("plain", MARKER + bytes([seed]) * 40 + MARKER), *found[4:]]


def file_of(found: list[Found], model: Model = MODEL, **choice: object) -> bytes:
    file = io.BytesIO()
    with Writer(file, model, examples=3, info={"a": 1}, verify=False, **choice) as writer:
        for name, value in found:
            if isinstance(name, str):
                writer.add_plain(name, value)
            else:
                writer.add(name, value)
    return file.getvalue()


FIRST, SECOND = contents(1), contents(2)
FILE, OTHER = file_of(FIRST, salt=11), file_of(SECOND, salt=12)
LATER, ALIEN = file_of(FIRST, salt=13), file_of(contents(3, made(2)), made(2), salt=14)
HEAD = FILE.index(MARKER)


def same(one: Found, other: Found) -> bool:
    return one[0] == other[0] and (
        one[1] == other[1]
        if isinstance(one[1], bytes) or isinstance(other[1], bytes)
        else torch.equal(one[1], other[1])
    )


def check(data: bytes, wanted: list[Found] = FIRST, honest: bool = True) -> list[Lost] | None:
    """Read a damaged file; return what is lost, or None where it is refused. One that is forged may claim more."""
    left, lost, came = list(wanted), [], 0
    try:
        reader = Reader(io.BytesIO(data), MODEL)
        if reader.repaired and reader.frames.salt == 12:  # what is left of the header is none, the end is OTHER's
            wanted, left = SECOND, list(SECOND)
        for each in reader:
            if isinstance(each, Lost):
                assert "\n" not in each.reason
                lost.append(each)
                continue
            while left and not same(left[0], each):
                left.pop(0)
            assert left, f"{each} is not what was written, or comes twice"
            left.pop(0)
            came += 1
    except ValueError as refused:
        return None if len(str(refused).splitlines()) == 1 else pytest.fail(f"not one line: {refused}")
    assert came == len(wanted) or lost
    assert not honest or came + sum(each.entries for each in lost) <= len(wanted)
    return lost


def bodies(data: bytes) -> list[bytes]:
    """What is in the chunks of a whole file."""
    file = io.BytesIO(data)
    return [chunk.body for chunk in Frames(file, read_header(file)[0]["salt"])]


def chunk_places(data: bytes) -> list[int]:
    """Where chunks begin, and the end."""
    places = [HEAD]
    for body in bodies(data):
        places.append(places[-1] + len(MARKER) + FIELDS.size + 4 + len(body) + 4)
    return places


def sealed(fields: bytes, body: bytes, salt: int) -> bytes:
    """A chunk with checksums that are right, whatever it says."""
    seal = zlib.crc32(fields, salt)
    return MARKER + fields + struct.pack("<I", seal) + body + struct.pack("<I", zlib.crc32(body, seal))


def test_a_whole_file_is_whole() -> None:
    assert check(FILE) == []
    assert check(OTHER, SECOND) == []


def test_one_byte_costs_one_chunk() -> None:
    places = chunk_places(FILE)
    for number, (begin, end) in enumerate(pairwise(places)):
        for at in range(begin, end, 5):
            lost = check(FILE[:at] + bytes([FILE[at] ^ 4]) + FILE[at + 1 :])
            assert lost
            assert lost[0].chunk == number
            assert len(lost) <= 2  # a picture that goes on in another chunk is told by its name there
            if number < len(places) - 2:
                assert f"chunk {number} is damaged or missing" in lost[0].reason


def test_entries_that_are_lost_are_counted() -> None:
    places = chunk_places(FILE)
    for number in range(len(places) - 2):
        data = FILE[: places[number]] + FILE[places[number + 1] :]
        lost, came = check(data), 0
        for each in Reader(io.BytesIO(data), MODEL):
            came += not isinstance(each, Lost)
        assert lost
        assert came + sum(each.entries for each in lost) == len(FIRST)


@pytest.mark.usefixtures("decoded_once")
def test_a_damaged_header_costs_nothing() -> None:
    for at in range(HEAD):
        for bit in (0, 3, 7):
            assert check(FILE[:at] + bytes([FILE[at] ^ 1 << bit]) + FILE[at + 1 :]) == []
    rng = random.Random(3)
    for begin, end in [(0, HEAD), (0, 9), (30, HEAD), (8, 12)]:
        for new in (bytes(end - begin), b"\xff" * (end - begin), rng.randbytes(end - begin)):
            assert check(FILE[:begin] + new + FILE[end:]) == []
    reader = Reader(io.BytesIO(bytes(HEAD) + FILE[HEAD:]), MODEL)
    assert (reader.repaired, reader.info) == (True, {"a": 1})
    assert not Reader(io.BytesIO(FILE), MODEL).repaired


@pytest.mark.usefixtures("decoded_once")
def test_a_damaged_copy_of_the_header_costs_nothing() -> None:
    for at in range(chunk_places(FILE)[-2], len(FILE)):
        (lost,) = check(FILE[:at] + bytes([FILE[at] ^ 16]) + FILE[at + 1 :])
        assert lost.entries == 0
        assert "end damaged" in lost.reason


def test_a_damaged_header_and_a_chunk_cost_the_chunk() -> None:
    for number, at in enumerate(chunk_places(FILE)[:-2]):
        data = b"no" + FILE[2 : at + 30] + bytes([FILE[at + 30] ^ 1]) + FILE[at + 31 :]
        lost = check(data)
        assert lost
        assert lost[0].chunk == number


def test_no_copy_but_its_own_is_taken() -> None:
    inner = file_of(SECOND, salt=12)
    data = file_of([("inner.anc", inner), *FIRST], salt=11, level=0)
    wrong = b"\0" + data[1:]
    assert check(wrong, [("inner.anc", inner), *FIRST]) == []
    end = data.index(inner) + len(inner)
    broken = b"\0" + FILE[1:]
    for refused in (wrong[:end], wrong[:-1], broken[:-5], broken + b"\0", broken + inner, b"P" + FILE, FILE[1:]):
        with pytest.raises(ValueError, match="does not begin like one"):
            Reader(io.BytesIO(refused), MODEL)
    assert check(inner[:-3] + FILE, SECOND)


def test_a_copy_that_claims_anything_is_not_taken() -> None:
    text = json.dumps(read_header(io.BytesIO(FILE))[0]).encode()
    at, copies, number = chunk_places(FILE)[-2], [], len(bodies(FILE)) - 1
    for place, version, words in [(at, 2, text), (at - 1, 1, text), (at, 1, b"[]"), (at, 1, b"["), (2**80, 1, text)]:
        copies.append(numbers([place]) + shrunk(bytes([version]) + words, known=USUAL))
    copies += [b"", b"\xff" * 20, numbers([at]) + shrunk(b"", known=USUAL), numbers([at]) + shrunk(bytes(2**22))]
    for salt in (-1, 2**32, 0.5, None, "11", 12):
        words = json.dumps({**json.loads(text), "salt": salt}).encode()
        copies.append(numbers([at]) + shrunk(bytes([1]) + words, known=USUAL))
    for copy in copies:
        end = sealed(FIELDS.pack(END, number, 11, len(copy)), copy, 11)
        assert check(b"\0" + FILE[1:at] + end) is None
        assert check(FILE[:at] + end) is not None
    whole = numbers([at]) + shrunk(bytes([1]) + text, known=USUAL)
    assert check(b"\0" + FILE[1:at] + sealed(FIELDS.pack(END, number, 11, len(whole)), whole, 11)) == []


def test_the_copy_of_the_header_is_small() -> None:
    file = io.BytesIO()
    with Writer(file, MODEL, info={"sets": []}, salt=4123456789) as writer:
        writer.add(*FIRST[0])
    assert len(bodies(file.getvalue())[-1]) < 80
    assert writer.totals.bytes == len(file.getvalue())


def test_truncation_is_noticed_everywhere() -> None:
    for size in range(0, len(FILE), 3):
        lost = check(FILE[:size])
        assert lost is None or "cut off" in lost[-1].reason


def test_chunks_of_another_file_are_not_taken() -> None:
    places, others = chunk_places(FILE), chunk_places(OTHER)
    for number in range(len(places) - 1):
        part = OTHER[others[number] : others[number + 1]]
        assert check(FILE[: places[number]] + part + FILE[places[number + 1] :])
        assert check(FILE[: places[number]] + part + FILE[places[number] :]) == []  # nothing of it is missing
    assert check(FILE + OTHER)
    assert check(FILE + FILE)


def test_chunks_in_another_order_are_not_taken_twice() -> None:
    a, b, c, d = chunk_places(FILE)[:4]
    lost = check(FILE[:a] + FILE[b:c] + FILE[a:b] + FILE[c:])
    assert lost
    assert lost[0].chunk == 0
    assert check(FILE[:d] + FILE[a:]) == []


def test_a_file_inside_of_another_is_not_read() -> None:
    inner = file_of(SECOND, salt=12)
    found: list[Found] = [("inner.anc", inner + bytes(random.Random(0).randbytes(300))), *FIRST]
    data = file_of(found, salt=11, level=0)
    at = data.index(inner) + 5
    assert MARKER in data[at:]
    lost = check(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], found)
    assert lost == [Lost(0, "chunk 0 is damaged or missing", 1)]


def test_markers_in_the_way_do_not_take_for_ever() -> None:
    fields = FIELDS.pack(101, 0, 0, 2**18)
    heads = sealed(fields, b"", 11)[:-4] * 20000
    data = FILE[:HEAD] + heads
    read = 0

    class Counting(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            nonlocal read
            found = super().read(size)
            read += len(found)
            return found

    assert all(isinstance(each, Lost) for each in Reader(Counting(data), MODEL))
    assert read < 12 * len(data)


def test_deflated_bombs_are_refused() -> None:
    bomb = shrunk(bytes(2**24))
    with pytest.raises(Damaged):
        inflated(bomb, 1000)
    for wrong in (b"", bomb[:-3], b"\xff" * 9, shrunk(b"a") + b"b"):
        with pytest.raises(Damaged):
            inflated(wrong, 2**25)


def test_headers_that_claim_anything_are_refused() -> None:
    file = io.BytesIO(FILE)
    values, _ = read_header(file)
    for changes in [
        {"examples": 2**40},
        {"examples": -1},
        {"examples": "3"},
        {"salt": 2**32},
        {"salt": None},
        {"portable": 1},
        {"info": []},
        {"model": 3},
        {"model": "0" * 64},
        {"portable": False, "arithmetic": []},
    ]:
        lost = check(header({**values, **changes}) + FILE[HEAD:])
        assert lost is None or changes == {"portable": False, "arithmetic": []}
    for text in (b"[]", b"[" * 100000, b"1", b"{", b"\xff", b"9" * 10000):
        head = FILE[:8] + struct.pack("<I", len(text)) + text
        with pytest.raises(ValueError, match="header is damaged"):
            Reader(io.BytesIO(head + struct.pack("<I", zlib.crc32(head))), MODEL)


def flipped(data: bytes, rng: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 20])):
        found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
    return bytes(found)


def beheaded(data: bytes, rng: random.Random) -> bytes:
    """A header of which some is something else."""
    a, b = sorted(rng.randrange(HEAD + 1) for _ in range(2))
    return data[:a] + rng.choice([bytes(b - a), rng.randbytes(b - a)]) + data[b:]


def cut_out(data: bytes, rng: random.Random) -> bytes:
    a, b = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return rng.choice([data[:a], data[:a] + data[b:], data[:b] + data[a:], data[:a] + rng.randbytes(b - a) + data[b:]])


def spliced(data: bytes, rng: random.Random) -> bytes:
    other = rng.choice([OTHER, LATER, ALIEN])
    a, b = sorted(rng.choice([rng.randrange(HEAD, len(data)), *chunk_places(data)]) for _ in range(2))
    c = min(rng.choice([a, rng.randrange(len(other))]), len(other))
    return data[:a] + other[c : c + b - a] + data[rng.choice([a, b]) :]


def forged(data: bytes, rng: random.Random) -> bytes:
    """Chunks whose checksums of bytes are right, and which say what was never written."""
    places = chunk_places(data)
    number = rng.randrange(len(places) - 1)
    begin, end = places[number], places[number + 1]
    fields = list(FIELDS.unpack_from(data, begin + len(MARKER)))
    body = data[begin + len(MARKER) + FIELDS.size + 4 : end - 4]
    if rng.random() < 0.3:
        which = rng.randrange(4)
        fields[which] = rng.choice([0, 1, 255, 2**28, 2**32 - 1, rng.randrange(2**32)]) % (256 if which == 0 else 2**32)
    elif body:
        body = rng.choice([flipped, cut_out])(body, rng)
        fields[3] = len(body)
    return data[:begin] + sealed(FIELDS.pack(*fields), body, 11) + data[end:]


def absurd(data: bytes, rng: random.Random) -> bytes:
    place = rng.choice([8, *(at + len(MARKER) + FIELDS.size - 4 for at in chunk_places(data)[:-1])])
    return data[:place] + struct.pack("<I", rng.choice([0, 2**31, 2**32 - 1, rng.randrange(2**32)])) + data[place + 4 :]


def versioned(data: bytes, rng: random.Random) -> bytes:
    file = io.BytesIO(data)
    values, _ = read_header(file)
    head = bytearray(header({**values, rng.choice([*values]): rng.choice([None, -1, 2**70, "", [], {}, "é", 0.5])}))
    if rng.random() < 0.5:
        head[7] = rng.randrange(256)
    head[-4:] = struct.pack("<I", zlib.crc32(head[:-4]))
    return bytes(head) + data[HEAD:]


@pytest.fixture
def decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks that are as they were, most of all, are decoded only once; all others each time."""
    decode, whole, known = chunks.decode, set(bodies(FILE)), {}

    def once(model: Model, body: bytes, examples: int) -> object:
        key = body, model.dtype, examples
        if body not in whole:
            return decode(model, body, examples)
        if key not in known:
            known[key] = decode(model, body, examples)
        return known[key]

    monkeypatch.setattr(chunks, "decode", once)


@pytest.mark.usefixtures("decoded_once")
def test_five_thousand_damaged_files() -> None:
    rng, refused, hurt = random.Random(5), 0, 0
    damages: list[Callable[[bytes, random.Random], bytes]] = [
        flipped,
        beheaded,
        cut_out,
        spliced,
        forged,
        absurd,
        versioned,
    ]

    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for turn in range(FUZZED):
        data = damages[turn % len(damages)](FILE, rng)
        more = rng.random() < 0.2 and len(data) > 0
        data = flipped(data, rng) if more else data
        lost = check(data, honest=damages[turn % len(damages)] is not forged)
        assert more or damages[turn % len(damages)] is not beheaded or lost == []
        refused += lost is None
        hurt += bool(lost)
    assert check(ALIEN) is None
    assert refused > FUZZED / 20
    assert hurt > FUZZED / 3
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 200_000  # KiB


@pytest.mark.parametrize("name", ["hierarchical-vae", "pixelcnn++", "pixel-vae"])
def test_forged_streams_of_other_models(name: str) -> None:
    model, rng = tiny(name), random.Random(7)
    x = model.sample(9)
    file = io.BytesIO()
    with Writer(file, model, verify=False, salt=11) as writer:
        for example in x:
            writer.add(Entry("", None, model.shape), example)
    data = file.getvalue()
    begin = data.index(MARKER)
    kind, number, before, length = FIELDS.unpack_from(data, begin + len(MARKER))
    start = begin + len(MARKER) + FIELDS.size + 4
    body, rest = data[start : start + length], data[start + length + 4 :]
    for _ in range(100):
        wrong = rng.choice([flipped, cut_out])(body, rng)
        chunk = sealed(FIELDS.pack(kind, number, before, len(wrong)), wrong, 11)
        found = list(Reader(io.BytesIO(data[:begin] + chunk + rest), model))
        lost = [each for each in found if isinstance(each, Lost)]  # nothing, where the last bits of a coder are others
        assert lost or all(torch.equal(each[1], known) for each, known in zip(found, x, strict=True))


def test_forged_chunks_without_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, x = random.Random(9), torch.randint(4, (9, 3))
    with monkeypatch.context() as failing:
        failing.setattr(chunks, "unpack", lambda *given: given[3] + 9)
        data = compress(MODEL, x)
    salt, (body, _) = read_header(io.BytesIO(data))[0]["salt"], bodies(data)
    begin = data.index(MARKER)
    kind, *_ = FIELDS.unpack_from(data, begin + len(MARKER))
    assert kind == STORED
    end = begin + len(MARKER) + FIELDS.size + 4 + len(body) + 4
    nothing = struct.pack("<I", zlib.crc32(bytes(3))) + numbers([len(shrunk(bytes(3)))]) + shrunk(bytes(3))
    above = chunks.stored(MODEL, [Part(Entry("", None, (3,)), None, 0, 1)], torch.tensor([[0, 4, 0]]), 9).body
    wrongs = [nothing + shrunk(b""), nothing + shrunk(b"more"), above]
    wrongs += [rng.choice([flipped, cut_out])(body, rng) for _ in range(300)]
    for number, wrong in enumerate(wrongs):
        chunk = sealed(FIELDS.pack(STORED, 0, 0, len(wrong)), wrong, salt)
        found = list(Reader(io.BytesIO(data[:begin] + chunk + data[end:]), MODEL))
        lost = [each for each in found if isinstance(each, Lost)]
        assert lost or (number > 2 and all(torch.equal(each[1], known) for each, known in zip(found, x, strict=True)))


@PROPERTY
@given(st.binary(max_size=300))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (any of them)
        decompress(MODEL, data)
    assert check(FILE[:HEAD] + data) is not None


@PROPERTY
@given(st.integers(0, len(FILE)), st.integers(0, 200), st.binary(max_size=100))
def test_any_edit_is_noticed(at: int, length: int, new: bytes) -> None:
    check(FILE[:at] + new + FILE[at + length :])


NAMES = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=20)


@PROPERTY
@given(
    st.lists(st.tuples(NAMES, st.none() | st.integers(0, 2**31 - 1), st.lists(st.integers(0, 3), min_size=1))),
    st.integers(1, 9),
    st.booleans(),
)
def test_any_entries_come_back(entries: list[tuple[str, int | None, list[int]]], examples: int, portable: bool) -> None:
    file = io.BytesIO()
    with Writer(file, MODEL, examples=examples, portable=portable) as writer:
        for name, label, levels in entries:
            writer.add(Entry(name, label, (len(levels),)), torch.tensor(levels))
    found = [(*entry[:2], levels.tolist()) for entry, levels in Reader(io.BytesIO(file.getvalue()), MODEL)]
    assert found == entries


@PROPERTY
@given(st.integers(0, 5).flatmap(lambda n: st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), max_size=n)))
def test_any_batch_comes_back(levels: list[list[int]]) -> None:
    x = torch.tensor(levels, dtype=torch.long).view(-1, 3)
    assert torch.equal(decompress(MODEL, compress(MODEL, x)), x)
