"""This module makes an environment for each peer, and starts the worker processes."""

import ast
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import venv
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.place import Place

ROOT = Path(__file__).resolve().parents[1]
PYTHON_PATH = os.pathsep.join((str(ROOT / "src"), str(ROOT)))
"""What workers import from: the tree that this stands in, before any unitwork that is installed."""
# Not below .cache, which building the documentation empties.
CACHE = ROOT / ".benchmarks"
_FOLDERS = ("references", "peers")
_FIRST = ("hand", "driver", "core", "ours", "observed", "traced")


class NotAvailableError(Exception):
    """A contender cannot take part; the text says why."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One file in `references/` or `peers/`, as far as it can be read without importing it."""

    name: str
    module: str
    title: str
    requirements: tuple[str, ...]
    databases: tuple[str, ...]


def contenders() -> list[Contender]:
    """Read all files: references first, then peers by name."""
    found = [
        _read(folder, file)
        for folder in _FOLDERS
        for file in sorted((ROOT / "benchmarks" / folder).glob("*.py"))
        if "TITLE = " in file.read_text()
    ]
    places = {name: place for place, name in enumerate(_FIRST)}
    return sorted(found, key=lambda one: (places.get(one.name, len(_FIRST)), one.name))


def _read(folder: str, file: Path) -> Contender:
    values: dict[str, Any] = {}
    for node in ast.parse(file.read_text()).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id in ("TITLE", "REQUIREMENTS", "DATABASES"):
            values[target.id] = ast.literal_eval(node.value)  # type: ignore[attr-defined]  # both kinds have it
    return Contender(
        file.stem,
        f"benchmarks.{folder}.{file.stem}",
        values["TITLE"],
        values["REQUIREMENTS"],
        values["DATABASES"],
    )


def python_for(contender: Contender) -> Path:
    """Return the interpreter that can import a contender; make its environment the first time.

    Raises:
        NotAvailableError: Its packages cannot be installed.
    """
    if not contender.requirements:
        return Path(sys.executable)
    wanted = "\n".join((*contender.requirements, sys.version))
    mark = hashlib.sha256(wanted.encode()).hexdigest()[:10]
    folder = CACHE / "environments" / f"{contender.name}-{mark}"
    python = folder / "bin" / "python"
    if not (folder / ".ready").exists():
        venv.create(folder, with_pip=True, clear=True)
        _install(python, contender)
        (folder / ".ready").touch()
    return python


def _install(python: Path, contender: Contender) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(  # noqa: S603  # what the file of the contender asks for
        [*command, *contender.requirements], capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = [line for line in done.stderr.splitlines() if line.startswith("ERROR")][-1:]
        raise NotAvailableError(f"cannot be installed: {' '.join(last)}")


class WorkerProcess:
    """One worker. Lives: until `close`."""

    def __init__(self, python: Path, place: Place) -> None:
        self._process = subprocess.Popen(  # noqa: S603  # our own module
            [str(python), "-W", "ignore", "-m", "benchmarks.worker", json.dumps(asdict(place))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            # One hash seed for all: the layout of dictionaries is part of the time.
            env={**os.environ, "PYTHONPATH": PYTHON_PATH, "PYTHONHASHSEED": "0"},
        )

    def ask(self, **order: Any) -> dict[str, Any]:
        """Send an order, and return the answer.

        Raises:
            NotAvailableError: The worker has failed.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise NotAvailableError("its process ended")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise NotAvailableError(str(answer["error"]).splitlines()[0])
        return answer

    def close(self) -> None:
        """End the worker."""
        with contextlib.suppress(NotAvailableError):
            self.ask(do="close")
        self._process.communicate()
