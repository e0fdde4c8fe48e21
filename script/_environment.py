"""The .venv beside the repository's files: what the commands in this folder share.

It is made of parts. Each leaves a stamp in .venv once it is installed: the fingerprint of the files that decide what
is installed. While they are unchanged, `ensure()` costs a few milliseconds.

Only the standard library is used, and everything said goes to stderr: with `--uri stdio://` stdout belongs to a client.
"""

import contextlib
import fcntl
import functools
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

if sys.version_info < (3, 10):  # noqa: UP036 - whoever has an older Python must be told
    sys.exit(f"error: Python 3.10 or newer is needed, this is {sys.version.split()[0]}: run it with python3.11, say")

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
CONSTRAINTS = ROOT / "constraints.txt"

LIGHT, CHATTERBOX, HTTP, DEV = PARTS = ("light", "chatterbox", "http", "dev")
"""The server with its embedded voice; the Chatterbox model's packages; the HTTP edge's; what tests, lint and releases
need."""

AUTO, PIP = "auto", "pip"
"""Torch backends of our own beside uv's: uv looks at the machine's driver; pip installs what it is configured to."""

_STATE = VENV / "setup-state"
_UNFINISHED = _STATE / "unfinished"
_MADE_FOR = _STATE / "made-for"
_TORCH_BACKEND = _STATE / "torch-backend"
_STARTED = time.monotonic()

# Prints what is damaged: a package whose record is missing, or names a file that is missing or cut short.
_FIND_DAMAGE = """
import importlib.metadata, pip
for package in importlib.metadata.distributions():
    files = package.files
    if files is None or any(
        not path.exists() or file.size not in (None, path.stat().st_size)
        for file in files
        if (path := file.locate()).suffix != ".pyc"
    ):
        print(package.name or package)
"""


class SetupError(Exception):
    """Something could not be installed; the message says what, and what to do."""


def say(text: str) -> None:
    """One line about the set-up's progress."""
    print(f"setup: {time.monotonic() - _STARTED:6.1f} s  {text}", file=sys.stderr, flush=True)


def command(main: Callable[[Sequence[str]], int]) -> None:
    """Run a command of this folder with its arguments, and exit."""
    try:
        sys.exit(main(sys.argv[1:]))
    except SetupError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def run(*words: str | Path) -> int:
    """Run a program in the repository's root, shown first; its exit status."""
    print("$", _shown(words), file=sys.stderr, flush=True)
    return subprocess.call(words, cwd=ROOT)


def tool(name: str, *arguments: str) -> int:
    """Run a program of the .venv; its exit status."""
    return run(VENV / "bin" / name, *arguments)


def is_ready(part: str) -> bool:
    """Returns True if a part is installed as the files here want it."""
    return _read(_STATE / part) == _fingerprint()


def ensure(*parts: str, torch_backend: str | None = None) -> None:
    """Install the parts that are missing or out of date, the light one always.

    Raises SetupError. A part that was installed before another one failed stays usable.
    """
    wanted = {LIGHT, *parts}
    other_torch = torch_backend is not None and _torch() is not None and _read(_TORCH_BACKEND) != torch_backend
    if not other_torch and all(is_ready(part) for part in wanted):
        return
    with _locked():
        _check_link()
        if other_torch:
            wanted |= {part for part in PARTS if (_STATE / part).exists()}
            # Installing over it would leave gigabytes of the other build's CUDA packages behind.
            _create(f"--torch-backend {torch_backend} is not what .venv was made with: starting afresh")
        else:
            _repair()
        missing = [part for part in PARTS if part in wanted and not is_ready(part)]
        _STATE.mkdir(exist_ok=True)
        _UNFINISHED.touch()
        if LIGHT in missing:
            _install_light()
        if CHATTERBOX in missing:
            _install_chatterbox(torch_backend)
        if HTTP in missing:
            say("the HTTP edge's packages: about 45 MB")
            _install("http")
            _stamp(HTTP)
        if DEV in missing:
            say("the development tools: about 75 MB")
            _install("dev")
            _stamp(DEV)
        _UNFINISHED.unlink()
        if missing:
            say("done")


def uv() -> Path | None:
    """Returns the uv of the .venv, installed if need be; None where there is none for this machine."""
    path = VENV / "bin" / "uv"
    if not path.exists():
        with contextlib.suppress(SetupError):
            _pip("install", "-c", CONSTRAINTS, "uv", quiet_failure=True)
    return path if path.exists() else None


def _install_light() -> None:
    say("the light server with its embedded voice: about 65 MB")
    _pip("install", "--require-hashes", "--no-deps", "-r", ROOT / "requirements-embedded.txt")
    # The build backend, from the constraints too. An isolated build would download its newest release every time.
    _pip("install", "-c", CONSTRAINTS, "setuptools")
    _install()
    _stamp(LIGHT)


def _install_chatterbox(torch_backend: str | None) -> None:
    free = shutil.disk_usage(ROOT).free / 1e9
    say(f"the Chatterbox model's packages: on disk 1.7 GB for a CPU, about 7 GB with CUDA ({free:.0f} GB are free)")
    backend = torch_backend or _read(_TORCH_BACKEND) or os.environ.get("UV_TORCH_BACKEND") or AUTO
    if _torch() != _pinned_torch():
        _install_torch(backend)
    _TORCH_BACKEND.write_text(backend)
    say("what Chatterbox needs beside torch: about 220 MB")
    _install("chatterbox")
    _pip("install", "--require-hashes", "--no-deps", "-r", ROOT / "requirements-chatterbox.txt")
    _stamp(CHATTERBOX)


def _install_torch(backend: str) -> None:
    requirement = f"torch=={_pinned_torch()}"
    if backend != PIP:
        problem = _install_torch_with_uv(requirement, backend)
        if problem is None:
            return
        if backend != AUTO:
            raise SetupError(f"uv cannot install {requirement} for --torch-backend {backend}: {problem}")
        first = problem.splitlines()[0].removeprefix("error: ")
        say(f"uv could not choose a build of torch ({first}); pip installs its default one, on Linux often CUDA's")
    say(f"{requirement} by pip")
    _pip("install", "-c", CONSTRAINTS, requirement, live=True)


def _install_torch_with_uv(requirement: str, backend: str) -> str | None:
    """None when it is installed, else why uv cannot."""
    program = uv()
    if program is None:
        return "pip could not install uv"
    options: list[str | Path] = ["--python", PYTHON, "--torch-backend", backend, "-c", CONSTRAINTS]
    words = [program, "pip", "install", *options, requirement]
    plan = subprocess.run([*words, "--dry-run"], cwd=ROOT, env=_environment(), capture_output=True, text=True)
    if plan.returncode:
        return plan.stderr.strip() or f"status {plan.returncode}"
    chosen = next((line.split()[-1] for line in plan.stderr.splitlines() if "+ torch==" in line), requirement)
    say(f"{chosen}, chosen by uv: about {'2.7 GB' if 'nvidia-' in plan.stderr else '200 MB'} to download")
    _execute(words, live=True)
    return None


def _install(extra: str = "") -> None:
    """The package itself, editable, with what it and one extra need."""
    target = f"{ROOT}[{extra}]" if extra else str(ROOT)
    _pip("install", "-c", CONSTRAINTS, "--no-build-isolation", "-e", target, live=extra == "chatterbox")


def _pip(*arguments: str | Path, live: bool = False, quiet_failure: bool = False) -> None:
    quiet = [] if live and sys.stderr.isatty() else ["-q"]
    words = [PYTHON, "-m", "pip", "--disable-pip-version-check", "--no-input", *quiet, *arguments]
    _execute(words, live=live, quiet_failure=quiet_failure)


def _execute(words: Sequence[str | Path], *, live: bool = False, quiet_failure: bool = False) -> None:
    """Run an installer. What it says is shown while it runs where `live` and a terminal is there, else if it fails."""
    shown_now = live and sys.stderr.isatty()
    done = subprocess.run(
        words,
        cwd=ROOT,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr if shown_now else subprocess.PIPE,
        stderr=None if shown_now else subprocess.STDOUT,
        close_fds=False,  # it holds the lock too, in case it outlives this process
    )
    if done.returncode and done.stdout and not quiet_failure:
        sys.stderr.write(done.stdout.decode(errors="replace"))
    if done.returncode:
        raise SetupError(f"`{_shown(words)}` failed, see above; mend that, then run this again")


def _shown(words: Sequence[str | Path]) -> str:
    return " ".join(word.name if isinstance(word, Path) else word for word in words)


def _check_link() -> None:
    """Raise SetupError where .venv is a link to another folder's environment, which must not be emptied or filled."""
    if not VENV.is_symlink() or not VENV.exists():
        return
    made_for = _read(_MADE_FOR) or ""
    if not VENV.is_dir() or (any(VENV.iterdir()) and made_for.splitlines()[:1] != [str(ROOT)]):
        raise SetupError(
            f".venv is a link to {os.path.realpath(VENV)}, which was not made for this folder; delete the link, or "
            "empty what it leads to, and run this again"
        )


def _repair() -> None:
    """Leave a .venv that can be installed into: the one that is there, unless it is broken."""
    if not VENV.exists():
        _create()
    elif not PYTHON.exists():
        _create(".venv has lost its Python: starting afresh")
    elif _read(_MADE_FOR) not in (None, _made_for()):
        _create(".venv was made for another Python or another folder: starting afresh")
    elif _UNFINISHED.exists() or not _MADE_FOR.exists():
        check = subprocess.run([PYTHON, "-c", _FIND_DAMAGE], env=_environment(), capture_output=True, text=True)
        if check.returncode or check.stdout:
            _create("an interrupted installation left .venv damaged: starting afresh")
        _STATE.mkdir(exist_ok=True)
        _MADE_FOR.write_text(_made_for())


def _create(reason: str = "") -> None:
    if reason:
        say(reason)
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        raise SetupError("this Python cannot make virtual environments: sudo apt install python3-venv (Debian, Ubuntu)")
    say(f".venv with Python {sys.version.split()[0]}")
    # A Python that itself runs in a virtual environment, this one perhaps, would not survive --clear.
    base = getattr(sys, "_base_executable", None) or sys.executable
    _execute([base, "-m", "venv", "--clear", "--prompt", "wyoming-chatterbox", VENV])
    _STATE.mkdir()
    _MADE_FOR.write_text(_made_for())


def _made_for() -> str:
    return f"{ROOT}\n{os.path.realpath(PYTHON)}\n"


def _stamp(part: str) -> None:
    (_STATE / part).write_text(_fingerprint())


@functools.cache
def _file_digest() -> str:
    digest = hashlib.sha256()
    for name in ("pyproject.toml", "constraints.txt", "requirements-embedded.txt", "requirements-chatterbox.txt"):
        digest.update((ROOT / name).read_bytes())
    digest.update(Path(__file__).read_bytes())
    return digest.hexdigest()


def _fingerprint() -> str:
    return f"{_file_digest()}\n{_made_for()}"


def _pinned_torch() -> str:
    for line in CONSTRAINTS.read_text().splitlines():
        if line.startswith("torch=="):
            return line.removeprefix("torch==").split(";")[0].strip()
    raise SetupError(f"{CONSTRAINTS.name} pins no torch: run script/lock")


def _torch() -> str | None:
    """Returns the version of the torch in the .venv, without its build (2.13.0 for 2.13.0+cpu)."""
    for path in VENV.glob("lib/python*/site-packages/torch-*.dist-info/RECORD"):
        return path.parent.name.removeprefix("torch-").removesuffix(".dist-info").split("+")[0]
    return None


def _environment() -> dict[str, str]:
    """Returns the environment for installers, without what would lead them out of the .venv."""
    outward = {"PYTHONHOME", "PYTHONPATH", "PIP_PREFIX", "PIP_ROOT", "PIP_TARGET", "PIP_USER", "VIRTUAL_ENV"}
    return {name: value for name, value in os.environ.items() if name not in outward}


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """One set-up at a time. The lock is the root folder itself, so that it leaves no file behind."""
    descriptor = os.open(ROOT, os.O_RDONLY)
    os.set_inheritable(descriptor, True)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another set-up of this folder to finish")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            pass  # Some network file systems have no locks; two set-ups at once are the rarer trouble.
        yield
    finally:
        os.close(descriptor)
