"""Where an interrupted training goes on.

The state lives outside every output, because DVC removes outputs before it reruns a stage, and in a
folder named by a fingerprint of all that determines the run: code, params and inputs. So a run goes
on from its own state or from none.
"""

from __future__ import annotations

import contextlib
import fcntl
import fnmatch
import hashlib
import json
import os
import re
import sys
import time
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any

from pipeline_lib.artifacts import discard, publish_bytes, publish_json, verify
from pipeline_lib.errors import UserError, in_one_line, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import TextIO

    from torch import Tensor

KEPT = 2  # states; the older one serves if the newer one is damaged
DESCRIPTION = "run.json"
LOCK = "lock"
USER_BYTES = 16  # of the number in it; earlier versions wrote shorter ones, and left them there
WAITING = "waiting"  # locked by all who wait for the lock
STEPS = "step-*.safetensors"
NAME = re.compile("[0-9a-f]{32}")  # of a state's folder: what else lies there is somebody's own
TRIES, PAUSE = 5, 0.02  # s; of who would train, while another process looks at the lock
POLL = 1.0  # s; of who waits until another training of the same ends


def resume_root() -> Path:
    """The folder of all resume states: of the repository, also inside `dvc exp run --temp`."""
    chosen = os.environ.get("PIPELINE_RESUME_DIR")
    return Path(chosen) if chosen else Path(os.environ.get("DVC_ROOT", ".")) / ".dvc/tmp/resume"


def loaded_code() -> dict[str, str]:
    """sha256 of every module of the library that this process has loaded, as its file is now; of none that has gone."""
    modules = {
        name: Path(file)
        for name, module in sys.modules.items()
        if name.partition(".")[0] == "pipeline_lib" and (file := getattr(module, "__file__", None))
    }
    return {
        name: hashlib.sha256(modules[name].read_bytes()).hexdigest()
        for name in sorted(modules)
        if modules[name].exists()
    }


class Slot:
    """The resume state of one configuration.

    Args:
        root: see `resume_root`.
        identity: sections (code, params, inputs) of flat name -> value maps that determine the run.
    """

    def __init__(self, root: Path, identity: Mapping[str, Mapping[str, Any]]) -> None:
        self.identity = {name: dict(section) for name, section in identity.items()}
        text = json.dumps(self.identity, sort_keys=True)
        self.folder = root / hashlib.sha256(text.encode()).hexdigest()[:32]

    @contextlib.contextmanager
    def held(self, say: Callable[[str], None] | None = None) -> Iterator[None]:
        """Keep other processes from training the same configuration.

        Args:
            say: where another one trains it already, say so and wait until it ends; without, refuse.

        Raises:
            UserError: Another process is training it, or there can be no such folder.
        """
        try:
            lock = self._awaited(say) if say else _locked(self.folder / LOCK)
        except OSError as error:
            msg = f"{self.folder}: {error.strerror}; set PIPELINE_RESUME_DIR to a folder that can be written to"
            raise UserError(msg) from error
        if isinstance(lock, str):
            msg = f"{self.folder}: process {lock} trains this configuration already; wait for it or stop it"
            raise UserError(msg)
        with lock:
            lock.truncate(0)
            lock.write(f"{os.getpid():{USER_BYTES}}")
            lock.flush()
            publish_json(self.folder / DESCRIPTION, self.identity)
            try:
                yield
            finally:  # a number that stays tells of a process that was killed
                lock.truncate(0)

    def _awaited(self, say: Callable[[str], None]) -> TextIO:
        """The locked file, once no other process has it."""
        path = self.folder / LOCK
        lock = _locked(path)
        with contextlib.ExitStack() as marked:
            if isinstance(lock, str):
                say(f"process {lock} trains this configuration already: waiting until it ends")
                with contextlib.suppress(FileNotFoundError):  # it has just ended
                    waiting = marked.enter_context((self.folder / WAITING).open("a+"))
                    fcntl.flock(waiting, fcntl.LOCK_SH)
            while isinstance(lock, str):
                time.sleep(POLL)
                lock = _locked(path)
        return lock

    def _is_awaited(self) -> bool:
        try:
            with (self.folder / WAITING).open("r+") as waiting:
                fcntl.flock(waiting, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # nobody has ever waited
            pass
        return False

    def save(self, step: int, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
        """Write the state after `step` steps; the last two are kept.

        Later ones can only be damaged, else the training would have gone on from there.
        """
        content, newest = packed(tensors, {"step": step, **notes}), _name(step)
        publish_bytes(self.folder / newest, content)
        states = self._states()
        later = [state for state in states if state.name > newest]
        for old in later + states[len(later) + KEPT :]:
            discard(old)

    def load(self, say: Callable[[str], None]) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The newest intact state and its notes, or None."""
        from safetensors import SafetensorError

        for path in self._states():
            try:
                verify(path)
                return _read(path)
            except UserError as error:
                say(f"resume state ignored: {str(error).partition(';')[0]}")
            except (SafetensorError, LookupError, TypeError, ValueError) as error:
                say(f"resume state ignored: {path}: {in_one_line(error)}")
        return None

    def _states(self) -> list[Path]:
        return sorted(self.folder.glob(STEPS), reverse=True)

    def remove(self) -> None:
        """Forget the state, once the outputs are written, unless another training waits to go on from it.

        The lock goes last, since another training may wait for it.
        """
        if self._is_awaited():
            return
        with contextlib.suppress(OSError):
            for path in sorted(self.folder.iterdir(), key=lambda path: path.name == LOCK):
                path.unlink()
            self.folder.rmdir()

    def strangers(self) -> list[str]:
        """What to say of the states in the same place that belong to other configurations.

        A line on the one that was begun last, which also counts the others; nothing where there is none. Those
        that a training uses do not count: it is a neighbour, as in a comparison.
        """
        begun = {
            path: files[DESCRIPTION].st_mtime
            for path in sorted(self.folder.parent.glob("*"))
            if path != self.folder
            and DESCRIPTION in (files := files_of(path))
            and steps_in(files)
            and user_of(path) is None
        }
        if not begun:
            return []
        last = max(begun, key=lambda path: begun[path])
        other = listed(differences(self.identity, identity_in(last / DESCRIPTION)), 5)
        rest = len(begun) - 1
        more = f"; {rest} more: `python -m stages.app resume list`" if rest else ""
        return [f"resume state {last} ignored: other {other}{more}"]


def files_of(folder: Path) -> dict[str, os.stat_result]:
    """The files of a folder by name, but those that cannot be seen, or vanish meanwhile: its training may end."""
    found = {}
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            with contextlib.suppress(OSError):
                stat = path.stat()
                if S_ISREG(stat.st_mode):
                    found[path.name] = stat
    return found


def steps_in(names: Iterable[str]) -> list[str]:
    """Which names are of saved states, the last one at the end."""
    return sorted(fnmatch.filter(names, STEPS))


@contextlib.contextmanager
def claimed(folder: Path, how: int = fcntl.LOCK_EX) -> Iterator[str | None]:
    """Hold the lock of a training, as `Slot.held` does, or yield the number of the process that has it."""
    try:
        lock = (folder / LOCK).open()
    except OSError:  # there is none, or it is another user's
        yield None
        return
    with lock:
        try:
            fcntl.flock(lock, how | fcntl.LOCK_NB)
        except BlockingIOError:
            yield lock.read().strip() or "unknown"
        else:
            yield None


def user_of(folder: Path) -> str | None:
    """The number of the process that trains in a folder; any number of processes may ask at once."""
    with claimed(folder, fcntl.LOCK_SH) as user:
        return user


def _locked(path: Path) -> TextIO | str:
    """A locked file, or the number of the process that keeps it locked; who only asks, in `user_of`, is done in a moment."""
    user = ""
    for _ in range(TRIES):
        # A training that ends removes file and folder: where it has, others would lock a new file.
        with (
            contextlib.suppress(FileExistsError, FileNotFoundError),
            contextlib.ExitStack() as opened,
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = opened.enter_context(path.open("a+"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                user = lock.read().strip() or user
            else:
                if os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                    opened.pop_all()
                    return lock
        time.sleep(PAUSE)
    if not user:  # there is a file in place of the folder
        path.parent.mkdir(parents=True, exist_ok=True)
    return user or "unknown"


def _name(step: int) -> str:
    return f"step-{step:012d}.safetensors"


def packed(tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> bytes:
    """A state as safetensors, with its notes as JSON."""
    from safetensors.torch import save

    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return save(ready, {"notes": json.dumps(notes, allow_nan=False)})


def unpacked(content: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Undo `packed`."""
    from safetensors.torch import load

    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    tensors = dict(sorted(load(content).items()))  # in the order in which a file gives them
    return tensors, json.loads(header["__metadata__"]["notes"])


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        notes: dict[str, Any] = json.loads(file.metadata()["notes"])
        return {name: file.get_tensor(name) for name in file.keys()}, notes  # noqa: SIM118


def identity_in(path: Path) -> dict[str, dict[str, Any]]:
    """What another run said of itself; of an unreadable file, nothing."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, RecursionError, ValueError):
        return {}
    sections = content.items() if isinstance(content, dict) else ()
    return {name: section for name, section in sections if isinstance(section, dict)}


def differences(
    ours: Mapping[str, Mapping[str, Any]], other: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """The entries in which two identities (see `Slot`) differ, each after the name of its section."""
    return [
        f"{section} {name}"
        for section in sorted(ours, key=lambda name: (name == "code", name))  # which has the most
        for name in sorted({*ours[section], *other.get(section, {})})
        if ours[section].get(name) != other.get(section, {}).get(name)
    ]
