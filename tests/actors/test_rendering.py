"""Renderings go the way of sequences: one answer, one outcome, also when the worker dies."""

import pytest

from lmx.actors.messages import admission, client
from lmx.machines.tasks import Rendering
from lmx.machines.types import Chat, Prompt, Text, Tokens
from tests.support.house import OUTCOMES, Actors, ask, fake
from tests.support.inbox import Inbox

HI = Chat(({"role": "user", "content": "Hi"},))


def render(house: Actors, name: str, source: Prompt, *, text: bool = False) -> Inbox[client.Event]:
    sink: Inbox[client.Event] = Inbox()
    rendering = Rendering(source, "text" if text else "tokens")
    house.admission.tell(admission.Submit(name, "m", "me", rendering, sink))
    return sink


@pytest.fixture
def house() -> Actors:
    return Actors(fake("m", slots=1))


def test_a_rendering_is_told_and_then_finished(house: Actors) -> None:
    """It loads the model as any request does, costs no tokens, and a refusal is its only event."""
    sink = render(house, "a", HI)
    sink.wait_for(OUTCOMES)
    told, finished = sink.messages
    assert told == client.Rendered(tuple(b"Hi"), "", "m")
    assert isinstance(finished, client.Finished)
    assert (finished.usage.prompt_tokens, finished.usage.completion_tokens) == (0, 0)
    refused = render(house, "b", Tokens((999,)), text=True)
    refused.wait_for(OUTCOMES)
    assert [type(event) for event in refused.messages] == [client.Refused]
    house.until(lambda: house.view("model:m").facts["in_flight"], lambda known: known == 0)
    house.close()


def test_a_rendering_survives_its_worker() -> None:
    """One that waits behind a sequence that kills is answered by the next worker, once."""
    house = Actors(fake("m", "poison=bad", slots=1))
    deadly = house.submit("m", ask("bad"))[1]
    sink = render(house, "a", Text("ok"))
    sink.wait_for(OUTCOMES, seconds=60)
    assert sink.messages[0] == client.Rendered(tuple(b"ok"), "", "m")
    assert isinstance(sink.messages[1], client.Finished)
    assert len(sink.messages) == 2
    assert isinstance(deadly.wait_for(OUTCOMES, seconds=60), client.Failed | client.Refused)
    house.close()
