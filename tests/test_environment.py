"""pyproject.toml, constraints.txt, environment.yml and bootstrap.py say the same, for every Python and system."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import bootstrap
from studylib.course.doctor import needed_by

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
LINES = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
PINS = [Requirement(line) for line in LINES if line and not line.startswith("#")]
GROUPS = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
DIRECT = [Requirement(line) for group in GROUPS for line in group if not line.startswith("studylib[")]
PYTHONS = ("3.11.0", "3.11.2", "3.11.7", "3.12.1", "3.13.0", "3.13.9")
SYSTEMS = {
    "linux": {"sys_platform": "linux", "os_name": "posix", "platform_system": "Linux", "platform_machine": "x86_64"},
    "macos": {"sys_platform": "darwin", "os_name": "posix", "platform_system": "Darwin", "platform_machine": "arm64"},
    "windows": {"sys_platform": "win32", "os_name": "nt", "platform_system": "Windows", "platform_machine": "AMD64"},
}
MARKERS = [
    pytest.param(
        values | {"python_full_version": python, "python_version": python.rpartition(".")[0]}, id=f"{system}-{python}"
    )
    for system, values in SYSTEMS.items()
    for python in PYTHONS
]


def applies(requirement, values):
    common = {"implementation_name": "cpython", "platform_python_implementation": "CPython", "extra": ""}
    return requirement.marker is None or requirement.marker.evaluate(common | values)


def test_conda_brings_python_and_pip_and_pip_what_a_reader_needs():
    conda = [entry for entry in ENVIRONMENT["dependencies"] if isinstance(entry, str)]
    assert {re.split(r"[=<> ]", entry)[0] for entry in conda} == {"python", "pip"}
    (lists,) = [entry["pip"] for entry in ENVIRONMENT["dependencies"] if isinstance(entry, dict)]
    assert lists == [f"--extra-index-url {bootstrap.CPU_INDEX}", "-c constraints.txt", "-e .[course]"]


def test_bootstrap_installs_all_there_is_or_what_a_participant_needs():
    assert set(PROJECT["optional-dependencies"]) == {"compile", "weeks", "course", "site", "test"}
    assert bootstrap.calls("cuda") == [["-c", "constraints.txt", "-e", ".[course,site,test]"]]
    assert bootstrap.calls("cuda", bootstrap.COURSE) == [["-c", "constraints.txt", "-e", ".[course]"]]


def test_python_versions_agree():
    (python,) = [e for e in ENVIRONMENT["dependencies"] if isinstance(e, str) and e.startswith("python=")]
    allowed = SpecifierSet(PROJECT["requires-python"])
    assert Version(python.removeprefix("python=")) in allowed
    for minor in range(8, 20):
        assert (bootstrap.LOW <= (3, minor) <= bootstrap.HIGH) == (Version(f"3.{minor}") in allowed)


def test_every_pin_is_one_exact_version():
    assert len(PINS) > 100
    for pin in PINS:
        assert [s.operator for s in pin.specifier] == ["=="] and not pin.url and not pin.extras, pin
    assert "://" not in "".join(LINES)


def test_the_head_of_the_lock_names_only_combinations_of_its_own_pins():
    text = "\n".join(LINES) + "\n"
    assert text.startswith(bootstrap.LOCK_HEAD + "\n")
    ran = [line for line in LINES if line.startswith(bootstrap.RAN)]
    assert ran or "# (none yet)" in LINES
    for line in ran:
        combination, where = line.removeprefix(bootstrap.RAN).split("; ")
        versions = dict(part.split() for part in combination.split(", "))
        python = versions.pop("Python")
        assert Version(python) in SpecifierSet(PROJECT["requires-python"])
        assert where == "Linux x86_64", "say here what its markers are"
        values = SYSTEMS["linux"] | {"python_full_version": python, "python_version": python.rpartition(".")[0]}
        pins = {pin.name: next(iter(pin.specifier)).version for pin in PINS if applies(pin, values)}
        assert set(versions) == {"numpy", "numba", "numba-cuda", "torch"}
        public = {name: Version(version).public for name, version in versions.items()}  # torch may be 2.14.1+cpu
        assert public == {name: pins[name] for name in versions}, line


@pytest.mark.parametrize("values", MARKERS)
def test_each_package_has_at_most_one_pin_on_each_system_and_python(values):
    names = [canonicalize_name(pin.name) for pin in PINS if applies(pin, values)]
    assert len(names) == len(set(names)), sorted(name for name in names if names.count(name) > 1)


@pytest.mark.parametrize("values", MARKERS)
def test_every_direct_requirement_is_pinned_within_its_range(values):
    pins = {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in PINS if applies(pin, values)}
    for requirement in DIRECT:
        if applies(requirement, values):
            version = pins.get(canonicalize_name(requirement.name))
            assert version, f"{requirement.name} has no line in constraints.txt: make lock"
            assert version in requirement.specifier, f"{requirement.name} {version} is out of range: make lock"


@pytest.mark.parametrize("values", [p for p in MARKERS if "macos" in str(p.id)])
def test_macos_gets_nothing_that_exists_for_nvidia_only(values):
    names = [canonicalize_name(pin.name) for pin in PINS if applies(pin, values)]
    assert "torch" in names
    assert not [name for name in names if name.startswith(("nvidia-", "cuda-", "numba-cuda", "triton"))]


def test_the_compiler_is_of_the_release_that_torch_brings():
    """A newer NVVM writes PTX that this ptxas, and a driver of the same series, refuse."""
    versions = {canonicalize_name(p.name): next(iter(p.specifier)).version for p in PINS}
    parts = ("nvidia-cuda-nvcc", "nvidia-cuda-nvrtc", "nvidia-cuda-crt", "nvidia-nvvm")
    assert len({versions[name] for name in parts}) == 1


def test_what_is_installed_here_is_what_is_pinned():
    wrong, needed = {}, needed_by("course", "site", "test")
    for pin in PINS:
        if pin.marker is None or pin.marker.evaluate():
            try:
                installed = importlib.metadata.version(pin.name)
            except importlib.metadata.PackageNotFoundError:
                installed = "absent"
            if installed == "absent" and canonicalize_name(pin.name) not in needed:
                continue  # CUDA's libraries, where torch is the one for the CPU
            if installed == "absent" or installed not in pin.specifier:
                wrong[pin.name] = f"{installed}, pinned {pin.specifier}"
    assert not wrong, "the environment is not the pinned one; remove .venv/installed-for and run make again"


def test_the_changelog_begins_with_the_version_that_is_installed():
    releases = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    newest = next(release for release in releases if release != "Unreleased")
    assert re.fullmatch(rf"{re.escape(PROJECT['version'])} \(\d{{4}}-\d\d-\d\d\)", newest)


def test_no_two_files_of_tests_have_one_name():
    # pytest imports them by their bare names; the second of a name would not be collected.
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
