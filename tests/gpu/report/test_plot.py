"""The picture of a warp's accesses: what is drawn where, and what its titles say."""

import inspect
import runpy
from contextlib import suppress

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.text import Text
from numba import cuda, float32, float64

from studylib import kernels
from studylib.gpu.check import check
from studylib.gpu.checks.traffic import passes, sectors
from studylib.gpu.report.picture import CONFLICT, FETCHED, Accesses, draw, verdict
from studylib.gpu.report.plot import plot
from studylib.kernels.stubs import mutated

TILE = 32
PADDED = TILE + 1
LANES = np.arange(32)


@cuda.jit
def naive(a, out):
    x, y = cuda.grid(2)
    out[x, y] = a[y, x]  # both


@cuda.jit
def unpadded(a, out):
    tile = cuda.shared.array((TILE, TILE), float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    tile[y, x] = a[y, x]
    cuda.syncthreads()
    out[y, x] = tile[x, y]  # back


@cuda.jit
def padded(a, out):
    tile = cuda.shared.array((TILE, PADDED), float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    tile[y, x] = a[y, x]
    cuda.syncthreads()
    out[y, x] = tile[x, y]  # back


@cuda.jit
def neighbours(a, out):
    i = cuda.grid(1)
    total = float32(0)
    for k in range(3):
        if 0 <= i + k - 1 < a.size:
            total += a[i + k - 1]  # reads
    if i < out.size:
        out[i] = total  # writes


@cuda.jit
def doubles(out):
    tile = cuda.shared.array(64, float64)
    x = cuda.threadIdx.x
    tile[2 * x] = float64(x)  # strided
    cuda.syncthreads()
    out[x] = tile[0]  # same


@cuda.jit
def either(a, b, out):
    i = cuda.grid(1)
    total = float32(0)
    for k in range(3):
        total += a[i] if k == 0 else b[i]  # from either
    out[i] = total


def line_of(kernel, mark):
    source, first = inspect.getsourcelines(kernel.py_func)
    return first + next(i for i, text in enumerate(source) if text.rstrip().endswith(f"# {mark}"))


def square(n=64):
    return np.zeros((n, n), np.float32)


def report_of(kernel, grid=(1, 1), block=(32, 32)):
    report = check(kernel, grid, block, square(), square())
    assert report.ok, report
    return report


def titles(figure):
    return [ax.get_title(loc="left") for ax in figure.axes[1:]]


def boxes(ax, **look):
    """Corners (column, row) of the rectangles that have a face or edge of this colour."""
    found = []
    for patch in ax.patches:
        if all(getattr(patch, f"get_{name}")() == to_rgba(colour) for name, colour in look.items()):
            found.append(patch.get_xy())
    return found


def labels(ax):
    return {text.get_text(): text.get_position() for text in ax.texts}


def test_naive_transpose_is_seen_to_be_uncoalesced():
    figure = plot(report_of(naive, (2, 2)), line_of(naive, "both"), warp=35)
    store, load = figure.axes[1:]
    assert titles(figure) == [
        "store out: 32 sectors a request, 12.5% of their bytes used: uncoalesced",
        "load a: 4 sectors a request: coalesced",
    ]
    assert len(boxes(store, facecolor=FETCHED)) == 32
    assert len(boxes(load, facecolor=FETCHED)) == 4
    # Warp 35 is the fourth of block (1, 0): row 3 of a, column 3 of out, from 32 on.
    assert labels(store) == {str(t): (3.5, t + 1.5) for t in LANES}
    assert [text.get_text() for text in store.get_yticklabels()][:2] == ["31", "35"]
    assert labels(load) == {str(t): (32 + t + 0.5, 1.5) for t in LANES}
    assert [text.get_text() for text in load.get_yticklabels()] == ["2", "3", "4"]
    assert "warp 35: block (1, 0), threads 96 to 127" in [text.get_text() for text in figure.texts]
    assert any("out[x, y] = a[y, x]" in text.get_text() for text in figure.texts)


def test_padding_takes_the_bank_conflict_away():
    worse = plot(report_of(unpadded), line_of(unpadded, "back"), warp=6)
    assert titles(worse)[1] == "load tile: 32-way bank conflict"
    assert boxes(worse.axes[2], edgecolor=CONFLICT) == [(6, 0)]
    assert {column for column, _ in labels(worse.axes[2]).values()} == {6.5}
    better = plot(report_of(padded), line_of(padded, "back"), warp=6)
    assert titles(better)[1] == "load tile: no bank conflict"
    assert boxes(better.axes[2], edgecolor=CONFLICT) == []
    assert {column for column, _ in labels(better.axes[2]).values()} == {lane + 0.5 for lane in LANES}


def test_the_costliest_line_is_drawn_by_default():
    assert titles(report_of(naive).plot())[0].startswith("store out: 32 sectors")
    assert titles(plot(report_of(unpadded)))[1] == "load tile: 32-way bank conflict"


def test_a_thread_alone_and_one_of_many_requests():
    report = check(neighbours, 2, 64, np.zeros(120, np.float32), np.zeros(120, np.float32))
    reads = line_of(neighbours, "reads")
    alone = plot(report, reads, warp=1, thread=5)
    assert titles(alone) == ["load a: 3 times, 3 elements"]
    assert labels(alone.axes[1]) == {"0": (4.5, 1.5), "1": (5.5, 1.5), "2": (6.5, 1.5)}
    assert not boxes(alone.axes[1], facecolor=FETCHED)
    last = plot(report, reads, warp=1, request=2)
    assert titles(last) == ["load a: 5 sectors a request, 80% of their bytes used"]
    assert any("request 2 of 0 to 2" in text.get_text() for text in last.texts)
    assert titles(plot(report, line_of(neighbours, "writes"), warp=3)) == ["store out: 3 sectors a request: coalesced"]


def test_each_access_counts_its_own_requests():
    report = check(either, 1, 32, *[np.zeros(32, np.float32)] * 2, np.zeros(32, np.float32))
    line = line_of(either, "from either")
    assert [title.split(":")[0] for title in titles(plot(report, line, request=0))] == ["load a", "load b"]
    assert [title.split(":")[0] for title in titles(plot(report, line, request=1))] == ["load b"]
    with pytest.raises(ValueError, match="requests 0 to 1"):
        plot(report, line, request=2)


def test_blocks_are_named_by_their_place_in_the_grid():
    figure = plot(report_of(naive, (1, 2)), warp=32 + 31)
    assert "warp 63: block (0, 1), threads 992 to 1023" in [text.get_text() for text in figure.texts]


def test_eight_byte_elements_and_one_element_for_all():
    report = check(doubles, 1, 32, np.zeros(32))
    assert titles(plot(report, line_of(doubles, "strided"))) == ["store tile: 2-way bank conflict"]
    assert titles(plot(report, line_of(doubles, "same"))) == [
        "store out: 8 sectors a request: coalesced",
        "load tile: no bank conflict (one element for all threads)",
    ]


def test_an_array_in_fortran_order_is_drawn_as_it_lies():
    report = check(naive, (2, 2), (32, 32), np.asfortranarray(square()), np.asfortranarray(square()))
    figure = plot(report, warp=1)
    assert titles(figure) == [
        "store out: 4 sectors a request: coalesced",
        "load a: 32 sectors a request, 12.5% of their bytes used: uncoalesced",
    ]
    assert len(boxes(figure.axes[2], facecolor=FETCHED)) == 32


@pytest.mark.parametrize("itemsize", [1, 2, 4, 8])
@pytest.mark.parametrize("stride", [0, 1, 2, 3, 4, 8, 16, 32, 33])
@pytest.mark.parametrize("lanes", [LANES, LANES[:7], LANES[20:], LANES[::3]], ids=len)
def test_costs_are_those_of_the_report(itemsize, stride, lanes):
    row, active = np.zeros((1, 32), int), np.zeros((1, 32), bool)
    row[0, lanes], active[0, lanes] = 5 + stride * lanes, True
    accesses = Accesses("shared", (5000,), itemsize, row[0, lanes], lanes)
    halves = np.split(row, max(1, itemsize // 4), axis=1), np.split(active, max(1, itemsize // 4), axis=1)
    # A half warp of 8-byte elements is a request of its own to the counter.
    assert accesses.words_by_bank().max() == max(passes(r, itemsize, a) for r, a in zip(*halves, strict=True))
    assert len(accesses.sectors) == sectors(row, itemsize, active)


def test_verdicts_name_the_number_of_sectors():
    def of(elements, first_byte=0):
        return verdict(Accesses("global", (4096,), 4, elements, LANES, first_byte))

    assert of(LANES) == "4 sectors a request: coalesced"
    assert of(LANES, 4) == "5 sectors a request, 80% of their bytes used"
    assert of(LANES * 2) == "8 sectors a request, 50% of their bytes used"
    assert of(LANES * 4) == "16 sectors a request, 25% of their bytes used: uncoalesced"
    assert of(LANES * 0) == "1 sector a request: one element for all threads"


def test_what_cannot_be_drawn():
    report = report_of(naive)
    with pytest.raises(ValueError, match=rf"lines that do: \[{line_of(naive, 'both')}\]"):
        plot(report, 1)
    with pytest.raises(ValueError, match="0 to 31"):
        plot(report, thread=32)
    with pytest.raises(ValueError, match="requests 0 to 0"):
        plot(report, request=1)
    with pytest.raises(ValueError, match="32 warps"):
        plot(report, warp=32)
    outside = check(neighbours, 2, 64, np.zeros(60, np.float32), np.zeros(60, np.float32))
    with pytest.raises(ValueError, match="warp 3 does not come to line"):
        plot(outside, line_of(neighbours, "writes"), warp=3)
    with pytest.raises(ValueError, match="thread 31 of warp 1 takes no part"):
        plot(outside, line_of(neighbours, "writes"), warp=1, thread=31)


def test_sliders_step_through_warps_and_requests(capsys):
    report = check(neighbours, 2, 64, np.zeros(60, np.float32), np.zeros(60, np.float32))
    sliders = plot(report, line_of(neighbours, "reads"), interactive=True)
    warp, request = sliders.children[:2]
    assert warp.max == 3
    sliders.update()
    assert request.max == 2
    assert "Figure" in capsys.readouterr().out
    warp.value = 3
    sliders.update()
    assert "warp 3 does not come to line" in capsys.readouterr().out


SHOWN = 800  # pixels that the picture is wide in JupyterLab on a screen of 1280


class Reported:
    """Stands for a kernel where an exercise launches it: keeps the report of the first launch."""

    def __init__(self, kernel):
        self.kernel, self.report = kernel, None

    def __getitem__(self, geometry):
        def launch(*arguments):
            self.report = self.report or check(self.kernel, *geometry, *arguments)

        return launch


def faults(figure):
    """What cannot be read: texts that intersect, leave the figure, or are smaller than 8 points as shown."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    scale = SHOWN / figure.get_figwidth() / 96  # a point on the screen is a 72nd of 96 pixels
    found = [f"{text.get_text()}: small" for text in texts if text.get_fontsize() * scale < 8]
    boxes = np.array([text.get_window_extent(renderer).extents for text in texts])
    within = (boxes[:, :2] >= 0).all(1) & (boxes[:, 2:] <= figure.bbox.extents[2:]).all(1)
    found += [f"{text.get_text()}: outside" for text, inside in zip(texts, within, strict=True) if not inside]
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    meet = ((low < boxes[None, :, 2:]) & (boxes[None, :, :2] < high)).all(2)
    pairs = np.argwhere(np.triu(meet, 1))
    return found + [f"{texts[i].get_text()} | {texts[j].get_text()}" for i, j in pairs]


def mutants_of(exercise, folder):
    """Those that fail by their accesses, which are drawn in ways that no solution needs."""
    for number, mutant in enumerate(exercise.mutants):
        if mutant.stage == "budget":
            path = folder / f"{exercise.name}{number}.py"
            path.write_text(mutated(exercise, mutant.old, mutant.new))
            yield runpy.run_path(str(path))[exercise.name]


@pytest.mark.parametrize("name", kernels.names())
def test_every_text_of_a_picture_can_be_read(name, tmp_path):
    exercise = kernels.load(name)
    case = next(c for c in exercise.cases(np.random.default_rng(0)) if c.title == exercise.budget.case)
    found = {}
    for kernel in [exercise.kernel, *mutants_of(exercise, tmp_path)]:
        reported = Reported(kernel)
        exercise.launch(reported, *case.inputs, *(np.zeros_like(array) for array in exercise.outputs(*case.inputs)))
        report = reported.report
        for line in sorted({access.line for access in report.accesses}):
            for thread in (None, 0):
                with suppress(ValueError):  # where warp 0 or its thread 0 takes no part
                    figure = plot(report, line, thread=thread)
                    found[f"{kernel.__name__} {line} {thread}"] = faults(figure)
    assert len(found) > 1
    assert {what: texts for what, texts in found.items() if texts} == {}


def test_numbers_and_rows_of_any_size_can_be_read():
    wide = Accesses("global", (3, 4, 1000, 4096), 4, LANES + 4096 * 11999, LANES)
    tall = Accesses("global", (5000000,), 4, LANES * 900 + 10**6, LANES * 40)
    shared = Accesses("shared", (900,), 4, LANES * 0, LANES)
    short = Accesses("shared", (900,), 2, LANES, LANES)
    spread = Accesses("global", (4, 64), 4, LANES * 2, LANES)
    panels = [("panel", accesses) for accesses in (wide, tall, shared, short, spread)]
    assert faults(draw(panels, ["heading"], ("request", 1241), costs=True)) == []
