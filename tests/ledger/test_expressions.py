"""A formula may use networks, costs and arithmetic, and nothing else."""

import pytest

from studylib.costs import count
from studylib.ledger.expressions import costs, evaluate, number


def test_formulas():
    assert number("(0.5 + 7 // 2) * -2**3 % 5") == (0.5 + 7 // 2) * -(2**3) % 5
    assert number("fmean((84, 38), (3, 1)) + log2(8) + sum((1, 2)) + ceil(0.5) + max(1, 2)") == 72.5 + 3 + 3 + 1 + 2
    assert number("costs(resnet50(stride_in='1x1')).macs") == 3_857_973_248
    assert number("costs(Inception(192, 64, 96, 128, 16, 32, 32), (192, 28, 28)).weights") == 163_328


def test_nets_are_built_once_and_on_meta():
    net = evaluate("vgg16()")
    assert net is evaluate("vgg16()") and costs(net) is costs(evaluate("vgg16()"))
    assert all(parameter.is_meta for parameter in net.parameters())


@pytest.mark.parametrize(
    ("formula", "problem"),
    [
        ("costs(mobilenet_v3()).macs", r"unknown name 'mobilenet_v3'.*did you mean mobilenet_v2"),
        ("costs(mobilenet_v1()).flops", "unknown figure .flops"),
        ("costs(mobilenet_v1()).__class__", "unknown figure .__class__"),
        ("().__class__.__bases__", "unknown figure"),
        ("__import__('os')", "unknown name '__import__'"),
        ("open('x')", "unknown name 'open'"),
        ("[n for n in (1, 2)]", "ListComp is not allowed"),
        ("(lambda: 1)()", "Lambda is not allowed"),
        ("(1, 2)[0]", "Subscript is not allowed"),
        ("1 < 2", "Compare is not allowed"),
        ("f'{1}'", "JoinedStr is not allowed"),
        ("(n := 1)", "NamedExpr is not allowed"),
        ("sum(*(1, 2))", "Starred is not allowed"),
        ("1 +", "is not a formula"),
        ("", "is not a formula"),
        ("x = 1", "is not a formula"),
        ("1 / 0", "fails: ZeroDivisionError"),
        ("costs(resnet50(stride_in='5x5')).macs", 'fails: ValueError: stride_in must be "3x3"'),
        ("costs(mobilenet_v1(height=2)).macs", "fails: TypeError"),
        ("costs(lenet5(), (1, 2, 2)).macs", "fails:"),
        ("mobilenet_v1()", "expected a finite number"),
        ("1e400", "expected a finite number"),
        ("True", "expected a finite number"),
        ("'4.2'", "expected a finite number"),
    ],
)
def test_formulas_refused(formula, problem):
    with pytest.raises(ValueError, match=problem):
        number(formula)


def test_a_net_that_costs_does_not_know_is_refused(monkeypatch):
    incomplete = count(evaluate("lenet5()"), (1, 28, 28))
    object.__setattr__(incomplete, "unknown", (type("Unknown", (), {"name": "conv1", "operator": "fft"})(),))
    monkeypatch.setattr("studylib.ledger.expressions.count", lambda net, size: incomplete)
    with pytest.raises(ValueError, match="does not know 'fft' in 'conv1'"):
        number("costs(lenet5(), (1, 29, 29)).macs")
