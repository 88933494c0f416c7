"""When the canary sings, and what becomes of a model by its answers; the worker is played, the clock is moved."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from lmx.actors.base import Address, House
from lmx.actors.canary import OVERDUE_SECONDS
from lmx.actors.dossier import BLANK, Dossier
from lmx.actors.messages import anyone, caller, client, journal, loader, model, state, supervisor
from lmx.actors.messages.ref import Ref
from lmx.actors.model import ModelActor
from lmx.machines import frames
from lmx.machines.canary import MAX_TOKENS, QUESTIONS
from lmx.machines.liveness import Condition
from lmx.machines.types import Chat, Likely, ModelInfo, TokenLogprob
from tests.support.hands import Hands
from tests.support.house import ask, fake
from tests.support.inbox import Inbox
from tests.support.scales import Weighs

IDLE = 600.0
START = 1_000_000.0
INFO = ModelInfo(
    backend_version="1", context=99, slots=4, vocab=300, weights_bytes=0, chat_template=True, digest="files"
)


@dataclass
class Stage:
    """What the workers of one model do; every test changes it as it likes."""

    shift: int = 0
    """Added to every token: 0 = it answers as always."""
    swaps: bool = False
    """The fourth that a canary asks gets the answer to the third."""
    json: str = "true"
    error: str = ""
    """What requests end with; canaries do not."""
    mute: bool = False
    seconds: float = 0.0
    """That an answer takes, by the moved clock."""
    load_fails: str = ""
    inserts: Inbox[frames.Insert] = field(default_factory=Inbox)
    cancelled: list[int] = field(default_factory=list)
    kills: int = 0


class Singer:
    """A worker without a process: the tokens of its answer are the bytes of the question."""

    pid = 0

    def __init__(self, stage: Stage, number: int, owner: Ref[model.Message], hands: Hands) -> None:
        self._stage = stage
        self._number = number
        self._owner = owner
        self._hands = hands

    def send(self, command: frames.Command) -> None:
        match command:
            case frames.Load() if self._stage.load_fails:
                self._say(frames.LoadFailed(self._stage.load_fails))
            case frames.Load():
                self._say(frames.Loaded(INFO))
            case frames.WarmUp():
                self._say(frames.Warmed())
            case frames.Insert():
                self._stage.inserts.tell(command)
                if not self._stage.mute:
                    self._answer(command)
            case frames.Cancel(seq):
                self._stage.cancelled.append(seq)
            case frames.Shutdown():
                self._exit("exit")
            case _:
                pass

    def kill(self) -> None:
        self._stage.kills += 1
        self._exit("killed")

    def condition(self) -> Condition:
        return "running"

    def _exit(self, cause: model.Cause) -> None:
        self._owner.tell(model.WorkerExited(self._number, cause, "It is gone."))

    def _answer(self, asked: frames.Insert) -> None:
        stage, generation = self._stage, asked.generation
        self._hands.pass_time(stage.seconds)
        finish = frames.Finish("stop" if generation.constraint else "length")
        if stage.error and asked.seq >= 0:
            self._step(frames.SeqStep(asked.seq, finish=frames.Finish("error", stage.error)))
            return
        if generation.constraint is not None:
            self._step(frames.SeqStep(asked.seq, stage.json, 1, token_ids=(1,), finish=finish))
            return
        answered = stage.inserts.messages[2] if stage.swaps and asked.seq == -4 else asked
        ids = tuple(byte + stage.shift for byte in _question(answered)[:MAX_TOKENS].encode())
        logprobs = tuple(
            TokenLogprob(token, b"?", -0.1, (Likely(token, b"?", -0.1), Likely(0, b"0", -3.0))) for token in ids
        )
        self._step(frames.SeqStep(asked.seq, "", len(ids), token_ids=ids, logprobs=logprobs, finish=finish))

    def _step(self, did: frames.SeqStep) -> None:
        self._say(frames.Accepted(did.seq, 3))
        self._say(frames.Step(1, (did,)))

    def _say(self, report: frames.Report) -> None:
        self._owner.tell(model.Reported(self._number, report))


def _question(asked: frames.Insert) -> str:
    prompt = asked.generation.prompt
    assert isinstance(prompt, Chat)
    return str(prompt.messages[-1]["content"])


class Granting:
    """A loader with room for everybody."""

    def tell(self, message: loader.Message) -> None:
        if isinstance(message, loader.Acquire):
            message.reply_to.tell(model.Granted(message.ticket))


class Play:
    """One model actor with a played worker."""

    def __init__(self, dossier: Dossier = BLANK) -> None:
        self.stage = Stage()
        self.hands = Hands(START)
        self.state: Inbox[state.Message] = Inbox()
        self.journal: Inbox[journal.Message] = Inbox()
        watch: Inbox[supervisor.Message] = Inbox()
        self.supervisor = watch
        house = House(self.journal, self.state, watch, self.hands, self.hands, strict=True)
        self.ref: Address[Any] = Address(
            ModelActor.start(house, fake("m"), Weighs(1), None, Granting(), self, Random(1), dossier)
        )
        self._seq = 0

    def launch(self, number: int, owner: Ref[model.Message]) -> Singer:
        return Singer(self.stage, number, owner, self.hands)

    def load(self, *, by_admin: bool = False) -> caller.Reply:
        sink: Inbox[caller.Reply] = Inbox()
        self.ref.tell(model.Load(by_admin, sink))
        return sink.wait_for((caller.Settled, caller.Refused))

    def serve(self, text: str = "hello") -> Inbox[client.Event]:
        sink: Inbox[client.Event] = Inbox()
        self._seq += 1
        self.ref.tell(model.Serve(self._seq, ask(text), sink))
        return sink

    def sync(self) -> None:
        """Wait until the actor has handled all that is in its inbox, and what the worker said to that."""
        for _ in range(12):
            answered = threading.Event()
            self.ref.tell(anyone.Ping(answered.set))
            assert answered.wait(10.0)

    @property
    def current(self) -> str:
        return self.path()[-1] if self.path() else "unloaded"

    def path(self) -> list[str]:
        moves = [told for told in list(self.journal.messages) if isinstance(told, journal.Transition)]
        return [move.target for move in moves if move.event and move.source != move.target]

    def await_state(self, wanted: str) -> None:
        self.journal.wait(lambda _: self.current == wanted)

    def facts(self) -> dict[str, journal.Fact]:
        facts: dict[str, journal.Fact] = {}
        for told in list(self.journal.messages):
            if isinstance(told, journal.Noted):
                facts |= told.facts
        return facts

    def await_songs(self, count: int) -> None:
        """Until canaries have asked so much."""
        self.stage.inserts.wait(lambda _: len(self.songs()) >= count)

    def songs(self) -> list[frames.Insert]:
        return [asked for asked in list(self.stage.inserts.messages) if asked.seq < 0]

    def told(self, kind: type) -> list[state.Message]:
        return [message for message in list(self.state.messages) if isinstance(message, kind)]

    def rest(self, seconds: float = IDLE) -> None:
        self.hands.pass_time(seconds)

    def live(self, seconds: float) -> None:
        """Let time pass as it does where everybody runs, and the first worker beats."""
        for _ in range(round(seconds)):
            self.rest(1.0)
            self.ref.tell(model.Reported(1, frames.Beat(0, busy=False)))
            self.sync()

    def verdicts(self) -> list[journal.Decided]:
        told = list(self.journal.messages)
        return [m for m in told if isinstance(m, journal.Decided) and m.policy == "lmx.machines.canary.judge"]

    def await_verdicts(self, count: int) -> None:
        self.journal.wait(lambda _: len(self.verdicts()) >= count)


@pytest.fixture
def play() -> Iterator[Play]:
    one = Play()
    yield one
    assert one.ref.stop(10.0)
    assert one.supervisor.messages == []


WHOLE = 5
"""Inserts of a whole song."""


def test_a_load_ends_with_a_whole_song_whose_answers_are_kept(play: Play) -> None:
    """Two prompts alone, both together with one for JSON; the first good answers are told to the state actor."""
    assert play.load() == caller.Settled("m", "ready")
    songs = play.songs()
    assert [asked.seq for asked in songs] == [-1, -2, -3, -4, -5]
    assert [_question(asked) for asked in songs[:2]] == list(QUESTIONS)
    assert [asked.generation for asked in songs[:2]] == [asked.generation for asked in songs[2:4]]
    (sang,) = play.told(state.Sang)
    assert isinstance(sang, state.Sang)
    assert sang.golden.answers[0] == tuple(QUESTIONS[0].encode()[:MAX_TOKENS])
    assert play.facts()["answered_at"] == START


def test_what_it_answered_before_is_what_it_must_answer(play: Play) -> None:
    """Under the same key other answers mean quarantine, in this process and in one that is told of them."""
    play.load()
    (sang,) = play.told(state.Sang)
    assert isinstance(sang, state.Sang)
    play.stage.shift = 1
    later = Play(Dossier(goldens={sang.key: sang.golden}))
    later.stage.shift = 1
    refused = later.load()
    assert isinstance(refused, caller.Refused)
    assert "answer 1 differs at token 1" in refused.refusal.message
    assert later.told(state.Sang) == []
    assert later.ref.stop(10.0)


@pytest.mark.parametrize(("fault", "words"), [("swaps", "alone and beside others"), ("json", "got 'maybe'")])
def test_an_answer_in_the_wrong_stream_and_broken_json_are_caught(play: Play, fault: str, words: str) -> None:
    """Each of them alone is enough for a quarantine, which is to be remembered."""
    setattr(play.stage, fault, True if fault == "swaps" else "maybe")
    refused = play.load()
    assert isinstance(refused, caller.Refused)
    assert words in refused.refusal.message
    (told,) = play.told(state.Quarantined)
    assert isinstance(told, state.Quarantined)
    assert words in told.quarantine.reason
    assert told.quarantine.since == START


def test_it_sings_again_when_the_model_was_idle_for_long(play: Play) -> None:
    """Without leaving `ready`, and again after the same time."""
    play.load()
    for songs in (2, 3):
        play.rest()
        play.await_verdicts(songs)
        assert len(play.songs()) == songs * WHOLE
    assert play.current == "ready"


def test_a_busy_model_is_left_alone(play: Play) -> None:
    """The time counts from the end of the last request."""
    play.load()
    play.rest(IDLE - 100)
    play.serve().wait_for(client.Finished)
    play.rest(200.0)
    play.sync()
    assert len(play.songs()) == WHOLE
    play.rest(IDLE - 200)
    play.await_verdicts(2)


def test_a_model_that_went_wrong_while_idle_is_quarantined(play: Play) -> None:
    """From `ready`: its worker is killed, and requests are refused with the reason."""
    play.load()
    play.stage.shift = 1
    play.rest()
    play.await_state("quarantined")
    assert play.stage.kills == 1
    refused = play.serve().wait_for(client.Refused)
    assert isinstance(refused, client.Refused)
    assert "from what this model has answered before" in refused.refusal.message


def test_a_request_does_not_wait_for_a_song(play: Play) -> None:
    """What is being sung is cancelled, and tells nothing; later it sings again under other ids."""
    play.load()
    play.stage.mute = True
    play.rest()
    play.await_songs(WHOLE + 1)
    play.stage.mute = False
    play.serve().wait_for(client.Finished)
    assert play.stage.cancelled == [-WHOLE - 1]
    play.rest(OVERDUE_SECONDS)
    play.sync()
    assert play.stage.kills == 0
    play.rest()
    play.await_verdicts(2)
    assert play.songs()[-1].seq == -WHOLE - 1 - WHOLE


def test_a_song_without_an_end_costs_the_worker_its_life(play: Play) -> None:
    """An idle model that does not answer is stuck; that is no quarantine but a restart. A time in which the main
    process did not run counts for nothing."""
    play.load()
    play.stage.mute = True
    play.rest()
    play.await_songs(WHOLE + 1)
    play.stage.mute = False
    play.rest(OVERDUE_SECONDS)
    play.sync()
    assert (play.current, play.stage.kills) == ("ready", 0)
    play.live(OVERDUE_SECONDS)
    play.journal.wait(lambda _: play.path().count("backoff") == 1)
    assert play.stage.kills == 1
    assert play.facts()["first_cause"] == "wedge: It was idle, and its canary did not end in time. lmx has killed it."
    assert play.told(state.Quarantined) == []


def test_a_model_that_computed_no_numbers_sings_at_once(play: Play) -> None:
    """As soon as it is idle, and once; any other error of the engine is no reason."""
    play.load()
    play.stage.error = "the grammar is broken"
    play.serve().wait_for(client.Failed)
    play.stage.error = "the model computed logits that are not finite"
    play.serve().wait_for(client.Failed)
    play.await_verdicts(2)
    play.stage.error = ""
    play.serve().wait_for(client.Finished)
    play.sync()
    assert len(play.songs()) == 2 * WHOLE
    assert play.current == "ready"


def test_who_asks_for_a_proof_gets_a_brief_song(play: Play) -> None:
    """One prompt, compared with what is known; a model that is busy proves itself by what it does."""
    play.load()
    play.hands.pass_time(30.0)
    play.ref.tell(model.Prove())
    play.await_verdicts(2)
    assert len(play.songs()) == WHOLE + 1
    play.sync()
    assert play.facts()["answered_at"] == START + 30
    play.stage.mute = True
    play.serve()
    play.ref.tell(model.Prove())
    play.sync()
    assert len(play.songs()) == WHOLE + 1


def test_traffic_is_proof_too_and_noted_once_a_second(play: Play) -> None:
    """`answered_at` is the unix time of the latest token, in whole seconds."""
    play.load()
    for _ in range(3):
        play.serve().wait_for(client.Finished)
    play.hands.pass_time(7.0)
    play.serve().wait_for(client.Finished)
    noted = [told.facts.get("answered_at") for told in play.journal.messages if isinstance(told, journal.Noted)]
    assert [at for at in noted if at] == [START, START + 7]


def test_an_answer_after_the_clock_was_set_back_is_noted(play: Play) -> None:
    """F47: else the model would count as silent until the clock is where it was."""
    play.load()
    play.hands.behind = 3600.0
    play.serve().wait_for(client.Finished)
    assert play.facts()["answered_at"] == START - 3600


def test_a_slow_canary_is_noted_and_forgiven(play: Play) -> None:
    """Ten times its first time: `ready`, and degraded until it is as fast as it was."""
    play.stage.seconds = 0.05
    play.load()
    assert play.facts()["canary_seconds"] == 0.25
    play.stage.seconds = 0.55
    play.rest()
    play.await_verdicts(2)
    play.sync()
    assert play.current == "ready"
    assert "0.2 s when it first sang" in str(play.facts()["degraded"])
    play.stage.seconds = 0.05
    play.rest()
    play.await_verdicts(3)
    play.sync()
    assert play.facts()["degraded"] is None


BARRED = Dossier(quarantine=state.Quarantine("It lied.", START - 5, "key"), file_key=lambda _: "new key")


def test_a_quarantine_outlasts_the_daemon() -> None:
    """The model begins in it, and whoever wants it is told why."""
    play = Play(BARRED)
    refused = play.load()
    assert isinstance(refused, caller.Refused)
    assert "It lied." in refused.refusal.message
    assert isinstance(play.serve().wait_for(client.Refused), client.Refused)
    assert play.stage.inserts.messages == []
    assert (play.facts()["quarantine"], play.facts()["quarantined_since"]) == ("It lied.", START - 5)
    play.ref.tell(model.Shut(Inbox()))
    assert play.ref.stop(10.0)
    assert play.told(state.Released) == [], "the end of the daemon is not that of the quarantine"


def test_an_admin_releases_it() -> None:
    """It loads, and nothing of the quarantine is left."""
    play = Play(BARRED)
    assert play.load(by_admin=True) == caller.Settled("m", "ready")
    assert play.told(state.Released) == [state.Released("m")]
    assert play.facts()["quarantine"] is None
    assert play.ref.stop(10.0)


def test_it_is_tried_again_and_goes_on_when_that_fails() -> None:
    """After 600 s, then after twice as long; a good canary ends it for good."""
    play = Play(BARRED)
    play.stage.load_fails = "The file is gone."
    play.hands.pass_time(600.0, timers=1)
    play.journal.wait(lambda _: play.path()[-1:] == ["quarantined"])
    assert play.told(state.Quarantined) == [
        state.Quarantined("m", state.Quarantine("The file is gone.", START + 600, "new key"))
    ]
    play.stage.load_fails = ""
    play.sync()
    play.hands.pass_time(1199.0)
    play.sync()
    assert play.current == "quarantined"
    play.hands.pass_time(1.0)
    play.await_state("ready")
    play.state.wait_for(state.Released)
    assert play.ref.stop(10.0)
