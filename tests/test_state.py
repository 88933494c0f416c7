"""What lasts: the file, its two generations, the lock, and every way to damage them."""

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from lmx.durable import RealDisk
from lmx.machines.canary import Golden
from lmx.machines.lasting import Quarantine, RuntimeState
from lmx.recovery import newest_panic, recover
from lmx.state import FILE, LIMIT, LOCK, FolderTaken, Lock, StateFile, StateLost, encode
from tests.support.disk import FlakyDisk, Mode, PowerLoss

GOLDEN = Golden(answers=(tuple(range(300)),))
OLD = RuntimeState(generation=1, starts=(1.5,), loaded=("a", "b"), goldens={f"key {i}": GOLDEN for i in range(2)})
NEW = RuntimeState(generation=2, quarantine={"a": Quarantine("it lied", 2.5, "files")}, goldens={"new": GOLDEN})
OLDER = RuntimeState(generation=0, stopped=0.5)


def saved(folder: Path, *states: RuntimeState) -> StateFile:
    store = StateFile(folder)
    for state in states:
        store.save(state)
    return store


def test_what_was_saved_is_read_again(tmp_path: Path) -> None:
    """All of it, in a file that the user alone may read, with the generation before beside it."""
    store = saved(tmp_path / "new" / "folder", OLD, NEW)
    assert store.read().state == NEW
    assert store.read().recovered == ""
    (tmp_path / "new" / "folder" / FILE).unlink()
    assert store.read().state == OLD


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_the_file_is_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    """0600, and readable for us, be the umask open or shut."""
    before = os.umask(umask)
    try:
        saved(tmp_path, OLD)
        Lock(tmp_path).release()
    finally:
        os.umask(before)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / LOCK).stat().st_mode & 0o077 == 0


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def garbled(path: Path) -> None:
    path.write_bytes(Random(1).randbytes(2000))


def nested(path: Path) -> None:
    path.write_bytes(b"[" * 1_000_000)


def one_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def of_the_future(path: Path) -> None:
    path.write_bytes(encode(OLD).replace(b'"schema":1', b'"schema":2'))


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 30)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "something").touch()


def link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES = [truncated, zeroed, emptied, garbled, nested, one_bit, of_the_future, huge, folder, link, pipe]
Damage = Callable[[Path], None]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_moved_aside_and_the_previous_generation_loads(tmp_path: Path, damage: Damage) -> None:
    """Quickly, without reading what is not ours, and the next save works; what was damaged can still be looked at."""
    store = saved(tmp_path, OLD, NEW)
    damage(tmp_path / FILE)
    began = time.monotonic()
    found = store.read()
    assert time.monotonic() - began < 1.0
    assert found.state == OLD
    assert "previous generation" in found.recovered
    assert len(list(tmp_path.glob(f"{FILE}.bad-*"))) == 1
    assert Path("/etc/passwd").stat().st_size > 0
    store.save(NEW)
    assert store.read() == type(found)(NEW)


@pytest.mark.parametrize("damage", DAMAGES)
def test_two_damaged_generations_are_an_empty_start(tmp_path: Path, damage: Damage) -> None:
    """Unless the user is strict: then nothing is touched, and the exit code of that is the app's."""
    store = saved(tmp_path, OLD, NEW)
    damage(tmp_path / FILE)
    damage(tmp_path / f"{FILE}.1")
    with pytest.raises(StateLost, match="damaged"):
        store.read(strict=True)
    with pytest.raises(StateLost):
        store.read(strict=True)
    found = store.read(strict=False)
    assert found.state == RuntimeState()
    assert "without" in found.recovered
    assert len(list(tmp_path.glob(f"{FILE}*.bad-*"))) == 2
    assert store.read().recovered == ""


def test_no_file_is_no_damage(tmp_path: Path) -> None:
    """The first start is silent, also for the strict."""
    assert StateFile(tmp_path / "none").read(strict=True).state == RuntimeState()


def outcome(disk: FlakyDisk, tmp_path: Path) -> bool:
    """Save NEW; whether it went through. A power loss leaves what it may in `tmp_path`."""
    try:
        StateFile(tmp_path, disk).save(NEW)
    except PowerLoss:
        disk.lose_power(tmp_path, Random(disk.fail_at))
        return False
    except OSError:
        disk.show(tmp_path)
        return False
    disk.show(tmp_path)
    return True


def prepared() -> FlakyDisk:
    """A disk on which OLDER and OLD were saved in peace."""
    disk = FlakyDisk()
    store = StateFile(Path("unused"), disk)
    for state in (OLDER, OLD):
        store.save(state)
    return disk


@pytest.fixture(autouse=True)
def _no_folder_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


@pytest.mark.parametrize("mode", ["error", "errors", "crash", "torn"])
def test_any_fault_leaves_the_old_or_the_new(tmp_path: Path, mode: Mode) -> None:
    """The n-th system call fails once, for good, or is where the power goes: n = 1, 2, … until a save goes through."""
    place = tmp_path / "disk"
    place.mkdir()
    seen = []
    for number in range(1, 100):
        disk = prepared()
        done = disk.operations
        disk.mode, disk.fail_at = mode, done + number
        through = outcome(disk, place)
        if through and disk.operations < disk.fail_at:
            break
        found = StateFile(place).read()
        assert found.state in (OLD, NEW), (number, found)
        assert not through or found.state == NEW
        seen.append(found.state)
        if mode == "error":  # the state actor tries again
            disk.mode = "never"
            assert outcome(disk, place)
            assert StateFile(place).read().state == NEW
    assert len(seen) == number - 1 >= 8
    assert OLD in seen


def test_two_hundred_power_losses_leave_the_old_or_the_new(tmp_path: Path) -> None:
    """Any subset of unsynced names, any sectors of unsynced content; what save has returned from stays for good."""
    place = tmp_path / "disk"
    place.mkdir()
    whole = prepared()
    before = whole.operations
    StateFile(place, whole).save(NEW)
    seen = []
    for seed in range(200):
        random = Random(seed)
        disk = prepared()
        disk.mode, disk.fail_at = "torn", before + random.randint(1, whole.operations - before + 2)
        through = outcome(disk, place)
        disk.lose_power(place, random)
        found = StateFile(place).read()
        assert found.state == NEW if through else found.state in (OLD, NEW), seed
        StateFile(place).save(NEW)
        assert StateFile(place).read().state == NEW
        seen.append((through, found.state.generation))
    assert {(False, 1), (False, 2), (True, 2)} == set(seen)


def test_the_model_of_a_disk_catches_a_naive_save(tmp_path: Path) -> None:
    """A save that writes over the only copy is caught by it: otherwise it would prove nothing."""
    lost = 0
    for seed in range(50):
        disk = FlakyDisk()
        fd = disk.create(Path(FILE))
        disk.write(fd, memoryview(encode(OLD)))
        disk.fsync_folder(Path())
        place = tmp_path / str(seed)
        place.mkdir()
        disk.lose_power(place, Random(seed))
        lost += StateFile(place).read().state != OLD
    assert lost > 10


def test_the_real_disk_refuses_what_is_there_already(tmp_path: Path) -> None:
    """A link that waits under the new file's name is not followed."""
    target = tmp_path / "target"
    target.write_text("precious")
    (tmp_path / "x.new").symlink_to(target)
    with pytest.raises(FileExistsError):
        RealDisk().create(tmp_path / "x.new")
    store = StateFile(tmp_path)
    (tmp_path / f"{FILE}.new").symlink_to(target)
    store.save(NEW)
    assert target.read_text() == "precious"
    assert store.read().state == NEW


def test_one_daemon_holds_a_folder(tmp_path: Path) -> None:
    """The second one learns who; the lock ends with its holder, however that ends."""
    code = "import sys, time; from lmx.state import Lock; from pathlib import Path; lock = Lock(Path(sys.argv[1]))"
    command = [sys.executable, "-c", f"{code}; print(flush=True); time.sleep(60)", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(FolderTaken, match=f"pid {holder.pid}"):
            recover(tmp_path)
        holder.kill()
        holder.wait()
    past = recover(tmp_path)
    assert past.lock is not None
    with pytest.raises(FolderTaken, match=f"pid {os.getpid()}"):
        Lock(tmp_path)
    past.lock.release()


def test_a_folder_that_cannot_be_had_is_no_reason_not_to_serve(tmp_path: Path) -> None:
    """Neither a file in its place nor a home that is not there: saves fail, and that is all."""
    (tmp_path / "file").touch()
    for hopeless in (tmp_path / "file", tmp_path / "file" / "below", Path("~nobody-by-this-name") / ".lmx"):
        past = recover(hopeless)
        assert past.lock is None
        assert past.state == RuntimeState()
        assert ": moved aside" not in past.recovered  # nothing can be moved there
        with pytest.raises(OSError, match=r".") as caught:
            past.store.save(NEW)
        assert caught.value.errno in (errno.EEXIST, errno.ENOTDIR, errno.ENOENT)


def test_the_newest_kernel_panic_counts(tmp_path: Path) -> None:
    """By the time of its report, whatever it is called; no folder and no report are no panic."""
    assert newest_panic(tmp_path / "none") is None
    assert newest_panic(tmp_path) is None
    for name, at in (("Kernel-2026.panic", 100.0), ("panic-full.panic", 300.0), ("lmx.crash", 900.0)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (at, at))
    assert newest_panic(tmp_path) == 300.0


def test_what_lasts_fits_into_what_is_read() -> None:
    """The largest state there can be is far below the limit."""
    goldens = {f"{i:064}": Golden(answers=((150_000,) * 64,) * 3) for i in range(64)}
    barred = {f"model {i}": Quarantine("x" * 1000, 1e9, "y" * 64) for i in range(100)}
    assert len(encode(RuntimeState(goldens=goldens, quarantine=barred))) < LIMIT / 10
