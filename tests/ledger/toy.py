"""A paper made for the tests: the entries of a TOML file, to be written and spoilt."""

HEAD = 'paper = "Toy"\ntitle = "A toy paper"\nyear = 2020\nlink = "arXiv:2001.00001"\n'
ROW = {
    "where": "Table 1",
    "what": "parameters",
    "printed": "4.2M",
    "compute": "costs(mobilenet_v1()).params",
    "verdict": "reproduces",
    "source": "R",
}
NET = {
    "name": "toy net",
    "build": "lenet5()",
    "input": [1, 28, 28],
    "top1_error": "24.80%",
    "where": "Table 2",
    "protocol": "single crop",
    "source": "R",
}


def entry(kind: str, fields: dict, **changes) -> str:
    """A TOML table; a change to None leaves the field out."""
    lines = [f"{name} = {value!r}" for name, value in (fields | changes).items() if value is not None]
    return "\n".join([f"[[{kind}]]", *lines, ""])
