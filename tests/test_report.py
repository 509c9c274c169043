"""What a person looks at: pictures, the measured receptive field, the page of a run."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ancestral import checkpoint, data, testing
from ancestral.likelihoods import Categorical, DiscretizedLogisticMixture, GaussianMixture
from ancestral.model import Model
from ancestral.report import write_report
from ancestral.report.contents import rate
from ancestral.report.draws import completed, labels_for, varied
from ancestral.report.field import Field, dependence, field_of, rectangle, walked
from ancestral.report.figures import bars, svg_of
from ancestral.report.known import known_part, picture_of
from ancestral.report.page import page, picture, section, table
from ancestral.report.pictures import PAPER, SMALLEST, UNKNOWN, beside, completions, in_rows, tiles
from ancestral.report.verify import agrees, column_findings, kinds_of, pixel_findings, sums, verified
from ancestral.report.words import citation, data_line, evaluation_rows, model_line, shown, summary_line
from ancestral.runs import Run, open_run


@pytest.fixture(scope="module")
def digits() -> data.Data:
    return data.load("digits")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, digits: data.Data) -> Run:
    """A run of a tiny class-conditional model with random weights."""
    torch.manual_seed(0)
    model = testing.tiny("gated-pixelcnn", shape=(1, 8, 8), likelihood=Categorical(17), classes=10)
    folder = tmp_path_factory.mktemp("runs") / "digits"
    checkpoint.save(model, folder, data=digits.describe(), training={"seed": 0})
    return open_run(folder)


def grey(value: int, size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.new("L", size, value)


# --- pictures -----------------------------------------------------------------------------------------------------


def test_tiles_are_enlarged_by_a_whole_factor() -> None:
    out = np.asarray(tiles([[grey(10), grey(20)], [grey(30), None]]))
    side = SMALLEST
    assert out.shape == (2 * side + 2, 2 * side + 2, 3)
    assert (out[:side, :side] == 10).all()
    assert (out[:side, side + 2 :] == 20).all()
    assert (out[side + 2 :, :side] == 30).all()
    assert (out[side + 2 :, side + 2 :] == PAPER).all()
    assert (out[:, side] == PAPER).all()
    assert tiles([[grey(1, (200, 100))]]).size == (200, 100)


def test_tiles_of_deep_and_coloured_pictures() -> None:
    deep = Image.fromarray(np.full((8, 8), 65535, np.uint16))
    red = Image.new("RGB", (8, 8), (255, 0, 0))
    out = np.asarray(tiles([[deep, red]], scale=1))
    assert out[0, 0].tolist() == [255, 255, 255]
    assert out[0, -1].tolist() == [255, 0, 0]


def test_a_row_for_each_class() -> None:
    pictures = [grey(value) for value in (50, 10, 51, 11, 12)]
    out = np.asarray(in_rows(pictures, [5, 1, 5, 1, 1]))[::66, ::66, 0]
    assert out.tolist() == [[10, 11, 12], [50, 51, PAPER]]
    assert np.asarray(in_rows(pictures))[::66, ::66, 0].tolist() == [[50, 10, 51], [11, 12, PAPER]]


def test_completions_show_what_was_known() -> None:
    known = known_part("top", 8, 8)
    out = completions([grey(100)], known, [[grey(7), grey(8)]])
    side = SMALLEST
    columns = [0, side + 12, 2 * side + 24, 3 * side + 26]
    assert out.size == (4 * side + 26, side)
    below = [out.getpixel((left, side - 1)) for left in columns]
    assert below == [(100,) * 3, UNKNOWN, (7,) * 3, (8,) * 3]
    assert out.getpixel((columns[1], 0)) == (100,) * 3
    assert beside([grey(0).convert("RGB")] * 2, gap=3).size == (19, 8)


@pytest.mark.parametrize(
    ("word", "rows"),
    [
        ("top", ["XXXXX", "XXXXX", ".....", "....."]),
        ("left", ["XX...", "XX...", "XX...", "XX..."]),
        ("center", [".....", ".XXX.", ".XXX.", "....."]),
    ],
)
def test_known_parts(word: str, rows: list[str]) -> None:
    assert known_part(word, 4, 5).tolist() == [[cell == "X" for cell in row] for row in rows]


def test_white_is_known_in_a_mask(tmp_path: Path) -> None:
    x = np.array([[0, 255, 100], [200, 0, 255]], np.uint8)
    Image.fromarray(x).save(tmp_path / "mask.png")
    assert known_part(str(tmp_path / "mask.png"), 2, 3).tolist() == [[False, True, False], [True, False, True]]
    with pytest.raises(ValueError, match="the mask is 3x2 pixels, it takes 3x3"):
        known_part(str(tmp_path / "mask.png"), 3, 3)


def test_a_picture_gets_the_levels_of_the_run(run: Run, tmp_path: Path) -> None:
    x = np.array([0, 60, 128, 255], np.uint8).repeat(16).reshape(8, 8)
    Image.fromarray(x).save(tmp_path / "x.png")
    levels = picture_of(tmp_path / "x.png", run)
    assert levels.shape == (1, 1, 8, 8)
    assert levels.unique().tolist() == [0, 4, 8, 16]
    recorded = run.config["data"] | {"levels": 4, "options": {"bits": 2}}
    few = picture_of(tmp_path / "x.png", run._replace(config=run.config | {"data": recorded}))
    assert few.unique().tolist() == [0, 2, 3]  # the top bits, as the data was read


def test_examples_of_every_class_in_turn(digits: data.Data) -> None:
    _, labels = varied(digits, 12)
    assert labels is not None
    assert labels.tolist() == [*range(10), 0, 1]


def test_completed_keeps_the_known_part(run: Run, digits: data.Data) -> None:
    x, labels = varied(digits, 2)
    known = known_part("left", 8, 8)
    out = completed(run, x, known, labels, n=3)
    assert out.shape == (2, 3, 1, 8, 8)
    assert bool((out[..., known] == x[:, None, :, known]).all())
    assert not torch.equal(out[:, 0], out[:, 1])
    labels = labels_for(run, 13)
    assert labels is not None
    assert labels.bincount().tolist() == [2, 2, 2, *[1] * 7]


# --- what a trained model sees ------------------------------------------------------------------------------------


@pytest.fixture
def small() -> Model:
    return testing.tiny("gated-pixelcnn", shape=(1, 12, 14), likelihood=Categorical(3))


def measured(model: Model, at: tuple[int, ...]) -> Field:
    x = torch.randint(3, (3, *model.shape))
    return field_of(model, x, None, at, walked(model, x).place)


def test_a_pixel_sees_what_is_declared(small: Model) -> None:
    field = measured(small, (0, 9, 7))
    assert torch.equal(field.seen, field.declared)
    assert not field.leaks.any()
    assert not field.blind.any()
    findings, numbers, _ = pixel_findings(field)
    assert [f.status for f in findings] == ["passed"] * 3
    assert numbers["receptive_field"]["seen"] == int(field.declared.sum())
    assert numbers["receptive_field"]["beyond_reach"] == 9 * 14 + 7 - int(field.declared.sum())
    assert "are beyond its reach" in findings[1].detail


def test_a_leak_is_found(small: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    at, x = (0, 5, 7), torch.randint(3, (3, *small.shape))
    place = walked(small, x).place
    monkeypatch.setattr("ancestral.walk.shift_down", lambda x: x)
    leaking = walked(small, x)
    assert leaking.difference > 1e-3
    assert agrees(leaking).status == "failed"
    findings, numbers, _ = pixel_findings(field_of(small, x, None, at, place))
    assert [f.status for f in findings] == ["failed", "failed", "passed"]
    assert numbers["receptive_field"]["leaks"] > 0


def test_a_blind_spot_is_found_within_reach_only() -> None:
    before = torch.arange(35).view(1, 5, 7) < 24  # (3, 3)
    strength = torch.zeros(1, 5, 7)
    strength[0, 1:4, 1:6] = before[0, 1:4, 1:6].float()
    strength[0, 2, 5] = 0
    field = Field((0, 3, 3), strength, strength > 0, before)
    assert field.blind.nonzero().tolist() == [[0, 2, 5]]
    kinds = kinds_of(field)
    assert kinds.tolist() == [
        [3, 3, 3, 3, 3, 3, 3],
        [3, 1, 1, 1, 1, 1, 3],
        [3, 1, 1, 1, 1, 2, 3],
        [3, 1, 1, 0, 4, 4, 4],
        [4, 4, 4, 4, 4, 4, 4],
    ]
    assert rectangle(strength > 0).sum() == 15


@pytest.mark.parametrize("likelihood", [Categorical(3), DiscretizedLogisticMixture(3), GaussianMixture(2)])
def test_change_and_gradient_see_the_same(likelihood: GaussianMixture) -> None:
    model = testing.tiny("made", shape=(1, 3, 3), likelihood=likelihood)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x = torch.randint(3, (8, 1, 3, 3))
    x = x.float() if likelihood.levels is None else x
    field = field_of(model, x, None, (0, 1, 2), walked(model, x).place)
    matrix = dependence(model, x, None)
    assert torch.equal(field.seen.flatten(), matrix[5] > 0)
    assert field.seen.flatten().tolist() == field.declared.flatten().tolist()


def test_columns_depend_on_earlier_ones() -> None:
    model = testing.tiny("made", shape=(4,), likelihood=GaussianMixture(2))
    x = torch.randn(5, 4)
    matrix, place = dependence(model, x, None), walked(model, x).place
    findings, numbers, _ = column_findings(matrix, place, "abcd")
    assert [f.status for f in findings] == ["passed", "passed"]
    assert numbers["dependence"]["pairs"] == 6
    findings, numbers, _ = column_findings(matrix.t(), place, "abcd")
    assert findings[0].status == "failed"
    assert numbers["dependence"]["leaks"] > 0


def test_sums_and_walks_of_a_trained_model(run: Run) -> None:
    x = torch.randint(17, (2, 1, 8, 8))
    walk = walked(run.model, x, torch.tensor([1, 2]))
    assert walk.place.flatten().tolist() == list(range(64))
    assert sums(walk).status == agrees(walk).status == "passed"
    assert sums(walk._replace(log_sum=0.01)).status == "failed"
    assert sums(walk._replace(log_sum=None)).status == "not applicable"
    assert agrees(walk._replace(difference=0.1)).status == "failed"


def test_verified_without_its_data(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ancestral.testing.outcomes", lambda model: [])
    gone = run._replace(config=run.config | {"data": run.config["data"] | {"source": "gone.npz"}})
    verdict = verified(gone)
    assert verdict.passed
    assert "samples of the model" in verdict.examples
    assert verdict.picture is not None
    assert verdict.picture.startswith(b"\x89PNG")


# --- words --------------------------------------------------------------------------------------------------------

EVALUATION = {
    "nats": 73.912,
    "nats_se": 0.531,
    "bits_per_dim": 1.6661,
    "bits_per_dim_se": 0.0119,
    "split": "test",
    "count": 360,
    "examples": 360,
    "source": "digits",
    "exact": True,
    "given": "the label",
    "label_averaged": {"nats": 78.2, "nats_se": 0.5, "bits_per_dim": 1.763, "bits_per_dim_se": 0.012},
    "ensemble": None,
    "masks": None,
    "baselines": {
        "uniform": {"nats": 181.3, "bits_per_dim": 4.087},
        "histogram": {"nats": 107.9, "bits_per_dim": 2.433},
    },
}


def test_evaluation_rows() -> None:
    assert evaluation_rows("made", EVALUATION) == [
        ("model", "bits/dim", "nats"),
        ("made, given the label", "1.666 ± 0.012", "73.91 ± 0.53"),
        ("made, given nothing: p(x|y) averaged over y", "1.763 ± 0.012", "78.20 ± 0.50"),
        ("baseline: histogram", "2.433", "107.90"),
        ("baseline: uniform", "4.087", "181.30"),
    ]
    assert summary_line(EVALUATION) == "all 360 examples of the test part of digits, exact log-likelihood"


def test_evaluation_of_continuous_data_has_no_bits() -> None:
    nothing = {"bits_per_dim": None, "bits_per_dim_se": None}
    figures = {"given": None, "label_averaged": None, "baselines": {"gaussian": {"nats": 0.4, "bits_per_dim": None}}}
    ensemble = {"nats": 1.0, "nats_se": 0.1, **nothing}
    rows = evaluation_rows("made", EVALUATION | nothing | figures | {"ensemble": ensemble, "masks": 16})
    assert rows[0] == ("model", "nats")
    assert rows[2] == ("made, p(x) averaged over 16 masks", "1.00 ± 0.10")
    assert rows[3] == ("baseline: gaussian", "0.40")
    bound = summary_line(EVALUATION | {"exact": False, "count": 100})
    assert bound == "100 of 360 examples of the test part of digits, an upper bound on -log p(x)"


def test_lines(digits: data.Data, run: Run) -> None:
    assert data_line(digits).endswith("examples 1 x 8 x 8 of 17 levels, 10 classes")
    assert re.match(
        r"gated-pixelcnn: [\d,]+ parameters; likelihood=Categorical\(levels=17\), ",
        model_line("gated-pixelcnn", run.model),
    )
    assert [shown(value) for value in ((3, 4), None, False, 0.5)] == ["3,4", "null", "false", "0.5"]
    assert [rate(value) for value in (1684.0, 99.96, 0.01234)] == ["1,680", "100", "0.0123"]


def test_every_model_cites_its_paper() -> None:
    from ancestral.models import MODELS

    for kind in MODELS.values():
        paper = citation(kind)
        assert re.fullmatch(r"\d{4}\.\d{4,5}", paper.arxiv)
        assert paper.title
        assert paper.authors


# --- the page -----------------------------------------------------------------------------------------------------


class Reader(HTMLParser):
    """Collects the text, what is loaded, and tags that are not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.loaded: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.loaded += [str(named[key]) for key in ("src", "srcset", "data", "xlink:href") if key in named]
        self.loaded += [str(named["href"])] if "href" in named and tag != "a" else []
        self.ids += [str(named["id"])] if "id" in named else []
        assert tag not in ("script", "iframe", "object")
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in ("meta", "img", "br", "link"):
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text("utf-8"))
    assert reader.open == []
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in reader.loaded)
    return reader


def test_report_of_pictures(run: Run) -> None:
    checkpoint.write_json(run.folder / "evaluation-test.json", EVALUATION)
    checkpoint.write_json(run.folder / "evaluation-test-a.json", EVALUATION | {"source": "a.npz"})
    finding = {"name": "no leak", "status": "passed", "detail": "no later pixels are seen"}
    checkpoint.write_json(run.folder / "verify.json", {"trained": [finding], "contract": [finding]})
    grey(0).save(run.folder / "verify.png")
    records = [{"step": s, "split": "train", "bits_per_dim": 4 / s, "examples_per_second": 123.0} for s in (1, 2, 3)]
    (run.folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records) + '{"st')
    reader = read(write_report(run))
    text = " ".join(reader.text)
    for words in ("1.666 ± 0.012", "given the label", "exact log-likelihood", "Conditional Image Generation"):
        assert words in text
    for words in ("no later pixels are seen", "bits of a pixel", "parallel passes", "123", "Categorical(levels=17)"):
        assert words in text
    assert text.index("part of digits") < text.index("part of a.npz")
    assert len(reader.loaded) >= 3
    marks = [name for name in reader.ids if re.match(r"[mp][0-9a-f]{10}", name)]
    assert marks
    assert len(marks) == len(set(marks))
    style = (run.folder / "report.html").read_text()
    assert "prefers-color-scheme: dark" in style
    assert "@import" not in style


def test_report_of_a_table_that_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "a<b.csv"
    np.savetxt(path, np.random.default_rng(0).normal(size=(60, 2)), delimiter=",", header="x&y,z", comments="")
    model = testing.tiny("made", shape=(2,), likelihood=GaussianMixture(2))
    checkpoint.save(model, tmp_path / "run", data=data.load(path).describe())
    text = " ".join(read(write_report(open_run(tmp_path / "run"))).text)
    assert "a<b.csv" in text
    assert "x&y" in text
    assert "Where the nats are" in text
    assert "Not evaluated yet" in text
    assert "Samples" not in text
    path.unlink()
    text = " ".join(read(write_report(open_run(tmp_path / "run"))).text)
    assert "cannot be read" in text
    assert "Where the nats are" not in text


def test_parts_of_a_page_are_escaped() -> None:
    assert "&lt;b&gt;" in table(("<b>",), [("<i>",)])
    assert "&lt;i&gt;" in table(("<b>",), [("<i>",)])
    assert section("nothing", "", "") == ""
    assert "&lt;t&gt;" in page("<t>", "", [], "end")
    assert 'alt="a &quot;b&quot;"' in picture(b"", "caption", 'a "b"')


def test_figures_take_the_ink_of_the_page() -> None:
    drawing = svg_of(bars(["a", "b"], [1.0, 2.0], "bits"), "one")
    assert drawing.startswith("<svg")
    assert "currentColor" in drawing
    assert svg_of(bars(["a", "b"], [1.0, 2.0], "bits"), "one") == drawing
