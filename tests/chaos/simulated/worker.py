"""A worker that is not there: it loads, reads, writes, dies, hangs, stands still, lies and babbles as it is told.

What it writes says whose it is: `<prompt>:<index> `, so that a token in a foreign stream, a token twice, or one that is
missing shows in the text.
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from zlib import crc32

from msgspec.structs import replace

from lmx.actors.messages import model
from lmx.actors.messages.ref import Ref
from lmx.machines import frames
from lmx.machines.liveness import Condition
from lmx.machines.tasks import Embedding
from lmx.machines.types import Chat, Generation, Likely, ModelInfo, Text, TokenLogprob
from tests.chaos.simulated.world import World

LOAD, STEP, BEAT, EXIT, LATE = 2.0, 0.05, 1.0, 0.05, 8.0
"""Seconds. A dead worker's last words come late, when another one may sit in its place."""
SLOTS = 4
MOST_KILLED = 3
"""By one request: two convict it, and one more may have been told to go on before that."""
VOCAB = 1000
_pids = count(1000)


@dataclass
class Running:
    seq: int
    name: str
    generation: Generation
    written: int
    told: bool = False
    """Its prompt is read."""


@dataclass
class Habits:
    """What workers of one model do from now on."""

    load_seconds: float = LOAD
    load_fails: str = ""
    dies_in_load: bool = False
    lies: bool = False
    """The canary gets other answers."""
    deadly: set[str] = field(default_factory=set)
    """Requests that kill whoever writes for them."""
    killed: Counter[str] = field(default_factory=Counter)
    """How many workers each of them has killed."""


Check = Callable[["SimWorker", frames.Command | None], None]


class SimWorker:
    """The `Worker` port. Reports and the exit come later, as messages to `owner`."""

    def __init__(
        self, world: World, habits: Habits, number: int, owner: Ref[model.Message], check: "Check", model: str
    ) -> None:
        """`check(worker, command)` raises Violation on what it must not be told."""
        self.model = model
        self.pid = next(_pids)
        self.alive = True
        self.reaped = False
        self.slots = SLOTS
        self.sleeping = False
        self.standing = False
        self.held = False
        """The operating system lets nobody end it."""
        self.inserted: set[int] = set()
        self._world = world
        self._habits = habits
        self._number = number
        self._owner = owner
        self._check = check
        self._asleep: deque[Callable[[], None]] = deque()
        self._queue: deque[Running] = deque()
        self._running: dict[int, Running] = {}
        self._killed = False
        self._told_until = 0.0
        self._steps = 0
        self._stepping = False
        world.later(0.01, lambda: self._do(lambda: self._say(frames.Hello(frames.PROTOCOL, self.pid))))
        world.later(BEAT, self._beat)

    @property
    def busy(self) -> bool:
        return bool(self._queue or self._running)

    def has(self, request: str) -> bool:
        """Whether it writes for this request, and could stop."""
        able = self.alive and not self.sleeping and not self.standing
        return able and any(one.name == request for one in (*self._queue, *self._running.values()))

    def send(self, command: frames.Command) -> None:
        self._check(self, command)
        world = self._world
        self._told_until = max(self._told_until, world.now + world.random.uniform(0.0001, 0.002))  # none overtakes
        world.later(self._told_until - world.now, lambda: self._do(lambda: self._obey(command)))

    def kill(self) -> None:
        self._check(self, None)
        self.die("killed", "The worker was killed (SIGKILL).")

    def condition(self) -> Condition:
        return "stopped" if self.sleeping and not self.held else "running" if self.alive else "gone"

    def die(self, cause: Any = "signal", detail: str = "The worker died of SIGSEGV.") -> None:
        self._killed = True
        if self.alive and not self.held:
            self.alive = False
            last = tuple(self._write(one) for one in list(self._running.values()))
            self._world.later(self._world.random.uniform(0, LATE), lambda: self._say(frames.Step(self._steps, last)))
            self._world.later(EXIT, lambda: self._exit(cause, detail))

    def _exit(self, cause: Any, detail: str) -> None:
        self.reaped = True
        self._owner.tell(model.WorkerExited(self._number, cause, detail))

    def sleep(self) -> None:
        """SIGSTOP."""
        self.sleeping = True

    def wake(self) -> None:
        """SIGCONT: what it was to do meanwhile is done now."""
        self.sleeping = False
        while self._asleep and not self.sleeping:
            self._do(self._asleep.popleft())

    def stand_still(self) -> None:
        """The engine thread hangs in a step; the others go on."""
        self.standing = True

    def hold(self) -> None:
        """It waits in the kernel, as for a disk that does not answer: not even SIGKILL ends it."""
        self.sleep()
        self.held = True

    def let_go(self) -> None:
        if self.held:
            self.held = False
            (self.die if self._killed else self.wake)()

    def babble(self) -> None:
        """Speak of sequences that it does not have."""
        if self.alive:
            strangers = tuple(frames.SeqStep(seq=seq, text="babble ", n_tokens=1) for seq in (10**9, 10**9 + 1))
            self._say(frames.Step(self._steps, strangers))

    def _do(self, act: Callable[[], None]) -> None:
        if self.alive and self.sleeping:
            self._asleep.append(act)
        elif self.alive:
            act()

    def _say(self, report: frames.Report) -> None:
        self._owner.tell(model.Reported(self._number, report))

    def _beat(self) -> None:
        if self.alive:
            if not self.sleeping:
                self._say(frames.Beat(self._steps, self.busy, 10.0))
            self._world.later(BEAT, self._beat)

    def _obey(self, command: frames.Command) -> None:
        match command:
            case frames.Load(spec):
                self.slots = spec.slots
                self._load()
            case frames.WarmUp():
                self._say(frames.Warmed())
            case frames.Insert():
                self._insert(command)
            case frames.Embed(job, embedding):
                self._embed(job, embedding)
            case frames.Cancel(seq):
                self._running.pop(seq, None)
                self._queue = deque(one for one in self._queue if one.seq != seq)
            case frames.Probe(number):
                if not self.standing:
                    self._say(frames.Probed(number))
            case frames.TrimCaches():
                pass
            case frames.Shutdown():
                if not self.standing:
                    self.die("exit", "The worker exited with code 0.")

    def _load(self) -> None:
        habits, later = self._habits, self._world.later
        if habits.load_fails:
            self._say(frames.LoadFailed(habits.load_fails))
            later(EXIT, lambda: self._do(lambda: self.die("exit", "The worker exited with code 1.")))
        elif habits.dies_in_load:
            later(habits.load_seconds / 2, self.die)
        else:
            later(
                habits.load_seconds, lambda: self._do(lambda: self._say(frames.Loaded(replace(INFO, slots=self.slots))))
            )

    def _insert(self, insert: frames.Insert) -> None:
        name = named(insert.generation)
        written = len(insert.resume.token_ids) if insert.resume else 0
        self.inserted.add(insert.seq)
        self._queue.append(Running(insert.seq, name, insert.generation, written))
        if not self.standing:
            self._say(frames.Accepted(insert.seq, 10))
        self._go_on()

    def _embed(self, job: int, asked: Embedding) -> None:
        self.inserted.add(job)
        self._say(frames.Embedded(job, b"\0\0\x80\x3f" * len(asked.inputs), 1, (3,) * len(asked.inputs)))

    def _go_on(self) -> None:
        if not self._stepping and self.busy:
            self._stepping = True
            self._world.later(STEP, lambda: self._do(self._step))

    def _step(self) -> None:
        self._stepping = False
        if self.standing:
            return
        while self._queue and len(self._running) < self.slots:
            first = self._queue.popleft()
            self._running[first.seq] = first
        self._steps += 1
        if deadly := [one.name for one in self._running.values() if one.name in self._habits.deadly]:
            self._habits.killed.update(deadly)
            if max(self._habits.killed.values()) > MOST_KILLED:
                self._world.violated(f"{deadly} killed {self._habits.killed} workers")
            self.die()
            return
        did = tuple(self._write(one) for one in list(self._running.values()))
        if did:
            self._say(frames.Step(self._steps, did))
        if not self.busy:
            self._say(frames.Idled(0))
        self._go_on()

    def _write(self, one: Running) -> frames.SeqStep:
        if not one.told:
            one.told = True
            return frames.SeqStep(seq=one.seq, prefilled=10)
        index, length = one.written, one.generation.max_tokens or 20
        one.written += 1
        last = one.written >= length
        if last:
            del self._running[one.seq]
        token = answer(one.name, index + (7 if self._habits.lies and one.seq < 0 else 0))
        text = f"{one.name}:{index} "
        if one.generation.constraint is not None:
            text, last = "true", True
            self._running.pop(one.seq, None)
        return frames.SeqStep(
            seq=one.seq,
            text=text,
            n_tokens=1,
            token_ids=(token,),
            logprobs=self._logprobs(one, token, text),
            finish=frames.Finish("length" if not one.generation.constraint else "stop") if last else None,
        )

    def _logprobs(self, one: Running, token: int, text: str) -> tuple[TokenLogprob, ...]:
        """The best token leads clearly."""
        if one.generation.logprobs is None:
            return ()
        top = (Likely(token, text.encode(), -0.01), Likely((token + 1) % VOCAB, b"x", -6.0))
        return (TokenLogprob(token, text.encode(), -0.01, top),)


INFO = ModelInfo(
    backend_version="simulated 1", context=4096, slots=SLOTS, vocab=VOCAB, weights_bytes=10**9, chat_template=True
)


def named(generation: Generation) -> str:
    """The text of its prompt, which is its name."""
    match generation.prompt:
        case Chat(messages):
            return str(messages[-1]["content"])
        case Text(text):
            return text
        case _:
            return "tokens"


def answer(name: str, index: int) -> int:
    """What a model writes at `index`."""
    return (crc32(name.encode()) + 31 * index) % VOCAB
