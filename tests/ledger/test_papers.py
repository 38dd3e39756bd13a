"""Every row of the ledger agrees with its claim, and the survey has printed errors and counted costs."""

import re
import shutil
from functools import cache

import pytest
import torch
from toy import HEAD, NET, entry

from studylib import ledger, mec, nets
from studylib.costs import count
from studylib.ledger import files

X_NETS = "README of drimpossible/Deep-Expander-Networks"
SHIFT = "README of alvinwan/shiftresnet-cifar"
BENCHMARK = "test/blocksparse_matmul_bench.py"


@cache
def checked(paper: str) -> ledger.Checked:
    return ledger.check(paper)


ROWS = [(paper, i, row) for paper in ledger.papers() for i, row in enumerate(ledger.load(paper).rows)]


def readable(paper: str, i: int, row: ledger.Row) -> str:
    return re.sub(r"[^\w.%+-]+", "_", f"{paper}-{i + 1}-{row.where}-{row.what}")


@pytest.mark.parametrize(("paper", "i"), [pytest.param(*row[:2], id=readable(*row)) for row in ROWS])
def test_row_agrees_with_its_claim(paper, i):
    row = checked(paper).rows[i]
    assert row.agrees_with_claim, (
        f"{paper}.toml, row {i + 1} ({row.where}: {row.what}) prints {row.printed}, "
        f"{row.compute} gives {row.computed}: "
        f"that {row.verdict}, but the file claims {row.claimed!r}"
    )


def test_this_weeks_papers_are_there():
    papers = {"alexnet", "vgg", "googlenet", "resnet", "densenet", "xception", "mobilenet", "deep_compression"}
    papers |= {"capsnet", "deeplabv3", "pspnet"}
    papers |= {"resnext"}
    papers |= {"fractalnet", "mec"}
    papers |= {"xnor_net", "low_rank_sparse", "senet", "shufflenet", "igc", "mobilenet_v2"}
    papers |= {"expander", "shift", "block_sparse"}
    assert papers <= set(ledger.papers())
    assert all(checked(paper).ok and str(checked(paper)) for paper in papers)


@pytest.mark.parametrize(
    ("paper", "where", "what", "printed", "computed", "verdict"),
    [
        ("mobilenet", "Table 1", "side of the maps behind", "7", "4", "does not reproduce"),
        ("mobilenet", "Table 2", "first convolution", "1.19%", "1.9056%", "does not reproduce"),
        ("mobilenet", "Table 4", "full convolutions", "4866M", "4,867.29M", "does not reproduce"),
        ("mobilenet", "Table 7", "MobileNet-192", "418M", "418.12M", "reproduces"),
        ("googlenet", "Table 1, convolution 7x7/2", "multiply-adds, as a depthwise", "34M", "34.02M", "reproduces"),
        ("googlenet", "Table 1, inception (3a)", "weights", "159K", "159.50K", "truncates"),
        ("googlenet", "Table 1, inception (4c)", "weights", "463K", "497.50K", "does not reproduce"),
        ("googlenet", "Table 1, inception (5a)", "multiply-adds", "54M", "51.08M", "does not reproduce"),
        (
            "resnet",
            "SENet, Table 2",
            "multiply-adds of ResNet-50, stride in the first",
            "3.86G",
            "3.8580G",
            "reproduces",
        ),
        ("resnet", "ResNeXt, Table 1", "parameters", "25.5M", "25.557M", "truncates"),
        ("densenet", "Table 2", "parameters, DenseNet-BC L=100", "0.8M", "0.769M", "reproduces"),
        ("deep_compression", "Figure 3", "compression of 16", "3.2", "3.200", "reproduces"),
        ("deep_compression", "Sec. 1", "power", "12.8 W", "12.800 W", "reproduces"),
        ("deep_compression", "Table 5, total", "rate P+Q+H", "2.05%", "1.8980%", "does not reproduce"),
        ("alexnet", "MobileNet, Table 9", "multiply-adds", "720M", "724.4M", "reproduces"),
        ("capsnet", "Text", "parameters of CapsNet", "8.2M", "8.216M", "reproduces"),
        ("capsnet", "Text", "parameters of the baseline, if its convolutions pad", "35.4M", "35.446M", "reproduces"),
        ("capsnet", "Text", "if its convolutions do not pad", "35.4M", "13.278M", "does not reproduce"),
        ("capsnet", "Text", "if a box is 20x20", "80%", "72.57%", "does not reproduce"),
        ("deeplabv3", "Figure 4", "side of the map of a 513x513", "65", "65", "reproduces"),
        ("pspnet", "authors' net", "channels of each of the four levels", "512", "512", "reproduces"),
        ("pspnet", "authors' net", "squares, 6x6 bins of a 713x713", "15", "15", "reproduces"),
        ("alexnet", "Sec. 3.5", "maps that a kernel of conv2 reads", "48", "48", "reproduces"),
        ("fractalnet", "Table 1, parameters", "20 layers: 3 columns", "38.6M", "33.725M", "does not reproduce"),
        ("fractalnet", "Table 1, parameters", "as many input channels", "38.6M", "38.449M", "does not reproduce"),
        ("fractalnet", "Table 3", "3 columns, filters", "2.1M", "2.125M", "reproduces"),
        ("fractalnet", "Table 3", "5 columns, filters", "10.2M", "10.185M", "reproduces"),
        ("mec", "Figure 1", "numbers in the lowered matrix", "225", "225", "reproduces"),
        ("mec", "Figure 2", "numbers in the lowered matrix", "105", "105", "reproduces"),
        ("resnext", "Table 1", "parameters of ResNeXt-50", "25.0 million", "25.029 million", "reproduces"),
        ("resnext", "Table 1", "multiply-adds of ResNeXt-50", "4.2 billion", "4.230 billion", "reproduces"),
        ("resnext", "Table 2", "weights of a block of conv2, Eq. 4, 1x64d", "~70k", "69.63k", "reproduces"),
        ("resnext", "Table 2", "weights of a block of conv2, Eq. 4, 8x14d", "~70k", "71.46k", "does not reproduce"),
        ("resnext", "Table 2", "weights of a block of conv2, Eq. 4, 32x4d", "~70k", "70.14k", "reproduces"),
        ("resnext", "Table 2", "multiply-adds of that block, 32x4d", "~0.22 billion", "0.2200 billion", "reproduces"),
        ("resnext", "Figure 5", "multiply-adds of ResNet-101", "~7.8 billion", "7.801 billion", "reproduces"),
        ("resnext", "Figure 5", "multiply-adds of ResNeXt-101", "~7.8 billion", "7.970 billion", "does not reproduce"),
        ("resnext", "Table 7", "parameters of ResNeXt-29, 8x64d", "34.4M", "34.427M", "reproduces"),
        ("xnor_net", "Sec. 4.1", "fewer operations", "62.27x", "62.2703x", "reproduces"),
        ("low_rank_sparse", "Table 1 of a later paper", "AlexNet, from the printed", "10x", "9.99x", "reproduces"),
        ("senet", "Table 2", "SE-ResNet-50, stride in the first 1x1", "3.87G", "3.8605G", "does not reproduce"),
        ("senet", "Table 10", "parameters of SE-ResNet-50, r = 16", "28.1M", "28.072M", "reproduces"),
        ("senet", "Table 16", "without squeeze: the linear layers", "4.27G", "4.2690G", "reproduces"),
        ("senet", "Sec. 4", "more than ResNet-50", "2.5 million", "2.515 million", "reproduces"),
        ("shufflenet", "Table 1", "1x, groups g = 1", "143M", "142.50M", "reproduces"),
        ("shufflenet", "Table 8", "multiply-adds, 1x, g = 3", "140M", "137.46M", "does not reproduce"),
        ("shufflenet", "Sec. 4.2", "ShuffleNet 0.5x g = 4", "576", "544", "does not reproduce"),
        ("shufflenet", "Text", "times faster for four times", "2.6x", "2.829x", "does not reproduce"),
        (
            "igc",
            "README of hellozting/InterleavedGroupConvolutions",
            "parameters, ResNet, C = 69",
            "11.333M",
            "12.97911M",
            "does not reproduce",
        ),
        ("mobilenet_v2", "Text", "bottlenecks", "19", "17", "does not reproduce"),
        ("mobilenet_v2", "Table 3", "7x7, MobileNet v1", "199K", "100.35K", "does not reproduce"),
        ("mobilenet_v2", "Table 4", "parameters, width 1.4", "6.9M", "6.061M", "does not reproduce"),
        ("mobilenet_v2", "Table 5", "weights of the predicting layers, SSDLite", "2.1M", "2.094M", "reproduces"),
        ("mobilenet_v2", "Table 6", "parameters", "4.3M", "4.337M", "reproduces"),
        ("mobilenet_v2", "Table 7", "parameters, V2* without", "2.11M", "2.1136M", "reproduces"),
        ("expander", X_NETS, "multiply-adds, X-MobileNet0.5-2", "85.8M", "105.854M", "does not reproduce"),
        ("expander", X_NETS, "0.5-2, if all channels were halved", "85.8M", "85.784M", "reproduces"),
        ("expander", X_NETS, "0.5-16, if all channels were halved", "29.5M", "29.587M", "truncates"),
        ("expander", X_NETS, "(100M), X-DenseNet-BC-40-24-2", "1.44", "1.4269", "does not reproduce"),
        ("expander", X_NETS, "BC-40-24-2, as half of the dense", "1.44", "1.4408", "reproduces"),
        ("expander", X_NETS, "BC-40-36-2, as half of the dense", "3.24", "3.2367", "reproduces"),
        ("expander", "A comment in alexnetexpander1.py", "share of AlexNet", "12.03%", "8.3118%", "does not reproduce"),
        ("expander", "README of osmr/imgclsmob", "k = 24, with the zeros", "690,346", "690,346", "reproduces"),
        ("shift", f"{SHIFT}, text", "parameters, ShiftResNet20, e = 3", "95642", "95,642", "reproduces"),
        ("shift", f"{SHIFT}, text", "adds, ShiftResNet20, e = 3", "16581248", "16,433,792", "does not reproduce"),
        ("shift", f"{SHIFT}, text", "adds, ResNet20", "40960640", "40,813,184", "does not reproduce"),
        ("shift", f"{SHIFT}, CIFAR-100", "reduction, ShiftResNet20, e = 1", "7.8", "7.806", "reproduces"),
        ("block_sparse", BENCHMARK, "density, 2 times as wide", "25.62%", "25.6250%", "truncates"),
        ("block_sparse", BENCHMARK, "Albert, n = 80, m = 5", "850", "842", "does not reproduce"),
        ("block_sparse", BENCHMARK, "Albert, n = 160, m = 11", "3548", "3,528", "does not reproduce"),
    ],
)
def test_figures_found_earlier_by_other_means(paper, where, what, printed, computed, verdict):
    row = next(row for row in checked(paper).rows if row.where == where and what in row.what)
    assert (row.printed, row.computed, row.verdict) == (printed, computed, verdict)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('printed = "569M"', 'printed = "568M"'),
        ('printed = "1.19%"', 'printed = "1.91%"'),
        ("mobilenet_v1(width=0.75)", "mobilenet_v1(width=0.5)"),
        ('verdict = "truncates"', 'verdict = "reproduces"'),
    ],
)
def test_a_changed_file_contradicts_itself(old, new, tmp_path, monkeypatch):
    text = (files.FOLDER / "mobilenet.toml").read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "mobilenet.toml").write_text(text.replace(old, new, 1), encoding="utf-8")
    monkeypatch.setattr(files, "FOLDER", tmp_path)
    found = ledger.check("mobilenet")
    wrong = [row for row in found.rows if not row.agrees_with_claim]
    assert not found.ok and len(wrong) == 1
    assert f"(BUT CLAIMED: {wrong[0].claimed})" in re.sub(r"\s+", " ", found._repr_html_())
    assert "OTHERWISE THAN CLAIMED 1" in str(found)


def test_survey_has_printed_errors_and_counted_costs():
    points = {point.name: point for point in ledger.survey()}
    assert len(points) == len(ledger.survey())
    net = points["1.0 MobileNet-224"]
    assert (net.macs, net.params, net.year, net.protocol) == (568_740_352, 4_231_976, 2017, "not stated")
    assert net.top1_error == pytest.approx(29.4)
    with torch.device("meta"):
        assert points["Xception"].macs == count(nets.xception(), (3, 299, 299)).macs
    assert points["Xception"].top1_error == pytest.approx(21.0)
    assert (points["ResNet-50"].top1_error, points["ResNet-50"].top5_error) == (24.8, 7.48)
    assert {"AlexNet", "VGG-16", "GoogLeNet", "DenseNet-121", "0.25 MobileNet-224"} <= set(points)
    assert (points["ResNeXt-101 64x4d"].top1_error, points["ResNeXt-101 64x4d"].top5_error) == (20.4, 5.3)
    assert {"ResNeXt-50 32x4d", "ResNeXt-101 32x4d"} <= set(points)
    years = [point.year for point in points.values()]
    assert years == sorted(years)


def test_a_new_file_joins_the_survey(tmp_path, monkeypatch):
    for paper in ("alexnet", "vgg"):
        shutil.copy(files.FOLDER / f"{paper}.toml", tmp_path)
    (tmp_path / "toy.toml").write_text(HEAD + entry("net", NET), encoding="utf-8")
    monkeypatch.setattr(files, "FOLDER", tmp_path)
    assert ledger.papers() == ["alexnet", "toy", "vgg"]
    assert [point.name for point in ledger.survey()] == ["AlexNet", "VGG-16", "toy net"]
    assert ledger.survey()[-1] == ledger.Point(
        "toy net", "Toy", 2020, 24.8, None, "single crop", "Table 2", 2_293_000, 431_080
    )


def test_what_is_recalled_of_mec_is_not_verified():
    """Its benchmark's layers stand in the ledger as `studylib.mec` has them, and no row of them claims more."""
    rows = {row.what.split(":")[0]: row for row in ledger.load("mec").rows if row.where == "Table 2"}
    assert set(rows) == {layer.name for layer in mec.LAYERS}
    for layer in mec.LAYERS:
        row = rows[layer.name]
        assert (row.verdict, row.source) == ("not verified", "M")
        sizes = [layer.height, layer.width, layer.channels, layer.kernel_height, layer.kernel_width, layer.out_channels]
        assert [int(number) for number in re.findall(r"\d+", row.printed)] == [*sizes, layer.stride]
