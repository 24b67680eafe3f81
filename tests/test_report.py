from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from gonogo.dataset import Dataset, Split
from gonogo.evaluate import Curve, Rate, evaluate
from gonogo.images import encode_png
from gonogo.report import phrases, svg, write_report
from gonogo.report.pictures import thumbnails
from gonogo.schema import Box, Frame, Label, State, Verdict
from judged_data import BrightnessJudge, add_marked, make_dataset, operating_point

GOOD, BAD = Label.GOOD, Label.BAD
POINT = operating_point(100, 150)
VOID = {"meta", "img", "br", "rect", "line", "circle", "polyline"}


class Page(HTMLParser):
    """Checks that tags close in order; collects texts, attributes and pictures."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(html)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "img":
            assert {"src", "alt"} <= {name for name, _ in attrs}
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.text += " " * (tag in {"td", "th"})

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data

    @property
    def sentence(self) -> str:
        return " ".join(self.text.split())


def mixed(root: Path, *, split: Split = Split.TEST) -> Dataset:
    pictures = {f"good/{i}.png": (GOOD, 10 + i) for i in range(9)} | {f"bad/{i}.png": (BAD, 180 + i) for i in range(9)}
    pictures |= {"good/rejected.png": (GOOD, 170), "bad/escaped.png": (BAD, 12), "bad/unsure.png": (BAD, 120)}
    return make_dataset(root, pictures, defects={"bad/escaped.png": "crack", "bad/0.png": "hole"}, split=split)


def report_on(dataset: Dataset, judge: BrightnessJudge, path: Path) -> Page:
    evaluation = evaluate(judge, dataset, [Split.TEST])
    write_report(evaluation, judge, dataset, path)
    return Page(path.read_text())


@pytest.fixture
def page(tmp_path: Path) -> Page:
    dataset = add_marked(
        mixed(tmp_path / "tiles"), "marked.png", score=200, hot_cell=(3, 4), mask=Box(x1=32, y1=24, x2=40, y2=32)
    )
    return report_on(dataset, BrightnessJudge(POINT), tmp_path / "report.html")


def test_the_report_needs_nothing_beside_itself(page: Page) -> None:
    sources = [value for _, name, value in page.attributes if name in {"src", "href", "srcset", "data", "poster"}]
    assert len(sources) > 10
    assert all(source.startswith("data:image/") for source in sources)
    assert not [tag for tag, _, _ in page.attributes if tag in {"script", "link", "iframe"}]
    policy = next(value for _, name, value in page.attributes if name == "content" and "default-src" in value)
    assert "default-src 'none'" in policy


def test_the_headline_tells_escapes_and_what_they_prove(page: Page) -> None:
    bound = phrases.percent_up(Rate(count=1, of=12).at_most)
    assert f"Of 12 bad parts 1 was passed; with 95\u202f% confidence at most {bound}" in page.text
    assert "Of 10 good parts 1 was rejected." in page.sentence


def test_the_worst_mistakes_are_shown_by_name(page: Page) -> None:
    mistakes = page.sentence.split("Bad parts that were passed (1)")[1].split("Typical")[0]
    assert "bad/escaped.png" in mistakes
    assert "good/rejected.png" in mistakes
    assert "bad/unsure.png" in mistakes


def test_promise_kinds_localisation_and_origin_are_all_there(page: Page) -> None:
    for text in (
        "At most 5\u202f% of bad parts are passed",
        "crack",
        "hole",
        "unnamed",
        "5e5e5e",
        "go below 100.0000",
    ):
        assert text in page.text
    assert "all marked 1 100 %" in page.sentence


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    name = "<img src=x onerror=alert(1)>.png"
    dataset = make_dataset(
        tmp_path / "<script>x", {name: (BAD, 10), "g.png": (GOOD, 10)}, defects={name: "\"><svg onload='x'>{{7*7}}"}
    )
    judge = BrightnessJudge(POINT)
    judge.path = Path("<b>bold</b>.inspector")
    page = report_on(dataset, judge, tmp_path / "report.html")
    assert name in page.text
    assert "{{7*7}}" in page.text
    assert not [a for a in page.attributes if a[0] == "script" or a[1].startswith("on")]
    assert "<b>" not in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("point", "text"),
    [
        (None, "no operating point"),
        (operating_point(-math.inf, 150), "Not certified. 12 bad calibration parts cannot show"),
        (operating_point(100, math.inf), "Not certified. 12 good calibration parts cannot show"),
        (operating_point(-math.inf, math.inf), "47 more are needed"),
    ],
)
def test_a_gauge_that_cannot_promise_says_so(tmp_path: Path, point: object, text: str) -> None:
    page = report_on(mixed(tmp_path / "tiles"), BrightnessJudge(point), tmp_path / "r.html")  # type: ignore[arg-type]
    assert text in page.sentence


def test_a_gauge_that_passes_nothing_boasts_of_no_escapes(tmp_path: Path) -> None:
    page = report_on(mixed(tmp_path / "tiles"), BrightnessJudge(None), tmp_path / "r.html")
    assert "This inspector passes no parts yet" in page.sentence
    assert "none was passed" not in page.sentence
    assert "Bad parts with the lowest scores" in page.sentence


@pytest.mark.parametrize(("label", "score"), [(GOOD, 10), (BAD, 10), (BAD, 200), (GOOD, 255)])
def test_a_single_part_makes_a_report_too(tmp_path: Path, label: Label, score: int) -> None:
    dataset = make_dataset(tmp_path / "one", {"only.png": (label, score)})
    page = report_on(dataset, BrightnessJudge(POINT), tmp_path / "r.html")
    assert ("There were no bad parts" in page.sentence) == (label is GOOD)


def test_pictures_that_could_not_be_judged_are_listed_with_their_reason(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "d", {"dark.png": (BAD, 255), "cut.png": (GOOD, 3), "g.png": (GOOD, 10)})
    (dataset.root / "cut.png").write_bytes((dataset.root / "cut.png").read_bytes()[:45])
    page = report_on(dataset, BrightnessJudge(POINT), tmp_path / "r.html")
    listed = page.sentence.split("Pictures that could not be judged (2)")[1]
    assert "dark.png the network gave no finite score" in listed
    assert "cut.png" in listed


def test_figures_on_parts_the_gauge_has_seen_carry_a_warning(tmp_path: Path) -> None:
    dataset = mixed(tmp_path, split=Split.CALIBRATE)
    evaluation = evaluate(BrightnessJudge(POINT), dataset, [Split.CALIBRATE])
    assert any("calibrate" in warning for warning in phrases.warnings(evaluation))


def test_a_test_that_contradicts_the_promise_is_called_out(tmp_path: Path) -> None:
    escaping = {f"b{i}.png": (BAD, 10) for i in range(6)} | {f"c{i}.png": (BAD, 200) for i in range(6)}
    kept = evaluate(BrightnessJudge(POINT), mixed(tmp_path / "kept"))
    broken = evaluate(BrightnessJudge(POINT), make_dataset(tmp_path / "broken", escaping))
    assert not phrases.warnings(kept)
    assert "6 of 12 bad parts were passed" in phrases.warnings(broken)[0]


def test_an_interrupted_report_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, judge = mixed(tmp_path / "tiles"), BrightnessJudge(POINT)
    evaluation = evaluate(judge, dataset)

    def stop(_frame: Frame) -> Verdict:
        raise KeyboardInterrupt

    monkeypatch.setattr(judge, "inspect", stop)
    with pytest.raises(KeyboardInterrupt):
        write_report(evaluation, judge, dataset, tmp_path / "out" / "report.html")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (None, phrases.UNDEFINED),
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.0323, "3.2 %"),
        (0.0004, "0.04 %"),
        (1e-7, "<0.01 %"),
        (0.99951, "99.95 %"),
    ],
)
def test_a_share_is_printed_so_that_only_nothing_reads_as_nothing(share: float | None, text: str) -> None:
    assert phrases.percent(share).replace("\u202f", " ") == text


def test_a_printed_bound_never_promises_more_than_was_proven() -> None:
    for share in np.linspace(0.0001, 0.9999, 997):
        printed = float(phrases.percent_up(float(share)).removesuffix("\u202f%")) / 100
        assert share - 1e-8 <= printed < share + 0.00101


def test_a_single_bad_part_among_thousands_of_good_ones_stays_visible(rng: np.random.Generator) -> None:
    drawn = svg.histogram(rng.normal(size=5000), np.append(rng.normal(size=4000), 9.0), POINT, title="t")
    heights = [float(h) for h in re.findall(r'class="bad"[^>]* height="([\d.]+)"', drawn)]
    assert min(heights) >= 2


@pytest.mark.parametrize("point", [None, POINT, operating_point(-math.inf, 150), operating_point(-math.inf, math.inf)])
def test_every_histogram_is_drawn_with_finite_numbers(point: object) -> None:
    for good, bad in (([1.0], []), ([], [-3e4, 3e4]), ([0.0, 0.0], [0.0]), ([-1e-9], [1e-9])):
        drawn = svg.histogram(np.array(good), np.array(bad), point, title="t")  # type: ignore[arg-type]
        assert "nan" not in drawn
        assert "inf" not in drawn
        Page(f"<p>{drawn}</p>")


def test_labels_inside_plots_are_escaped() -> None:
    line = Curve(x=np.array([0.0, 1.0]), y=np.array([0.0, 1.0]))
    drawn = svg.curve(line, [], x_label="<x>", y_label="a&b", title='"><script>', chance=line)
    assert "<script>" not in drawn
    assert "<x>" not in drawn
    bar = svg.stacked_bar([svg.Segment(count=1, style="go", name="<i>")])
    assert "<i>" not in bar


@pytest.mark.parametrize("size_hw", [(2000, 3000), (3, 900), (900, 3), (1, 1)])
def test_pictures_of_any_shape_become_small_ones(size_hw: tuple[int, int], rng: np.random.Generator) -> None:
    frame = rng.integers(0, 255, (*size_hw, 3), dtype=np.uint8)
    mask = np.zeros(size_hw, bool)
    mask[: size_hw[0] // 2 + 1, :1] = True
    verdict = Verdict(
        state=State.NO_GO, score=1.0, reason="", region=Box.whole(frame), heatmap=np.ones((7, 7), np.float32)
    )
    scale = BrightnessJudge(POINT).heat_scale
    for small in thumbnails(frame, verdict, mask, scale):
        assert max(small.shape[:2]) == 360
        assert len(encode_png(small)) > 0


def test_a_hairline_defect_keeps_its_outline() -> None:
    frame = np.full((1800, 1800, 3), 90, np.uint8)
    mask = np.zeros((1800, 1800), bool)
    mask[900, 300:1500] = True
    fault = Verdict(state=State.FAULT, score=None, reason="")
    marked, _ = thumbnails(frame, fault, mask, BrightnessJudge(POINT).heat_scale)
    assert (marked[175:185] != 90).any(axis=(0, 2)).sum() > 200
