"""An alias with several models: a request is served by the first that can."""

from lmx.actors.alias import AliasActor
from lmx.actors.base import Address
from lmx.actors.messages import admission, alias, client, model
from lmx.actors.messages.ref import Ref
from lmx.machines.types import ModelSpec, RefusalKind
from tests.actors.conftest import Start
from tests.support.house import GB, OUTCOMES, Actors, ask, fake, text_of
from tests.support.inbox import Inbox
from tests.support.scales import Weighs


class Uneven(Weighs):
    """Each model by its name."""

    def __init__(self, sizes: dict[str, int]) -> None:
        super().__init__(0)
        self._sizes = sizes

    def weigh(self, spec: ModelSpec, ticket: int, owner: Ref[model.Message]) -> None:
        owner.tell(model.Weighed(ticket, self._sizes[spec.name], 0, ""))


def aliased(house: Actors, *models: str) -> Address[alias.Message]:
    actor = AliasActor.start(house.house, "best", models[0], house.models, house.admission, models[1:])
    house.await_state("alias:best", "steady")
    return Address(actor)


def served(sink: Inbox[client.Event]) -> str:
    """By whom, once it is answered."""
    assert isinstance(sink.wait_for(OUTCOMES), client.Finished), sink.messages
    return next(event.model for event in sink.messages if isinstance(event, client.Accepted))


def test_a_model_that_does_not_load_hands_on_all_that_wait_for_it(start: Start) -> None:
    """Those that it was given and those that wait in admission; none is told of the first one."""
    house = start(fake("big", "load=0.3;fail_load=It-is-damaged"), fake("small"))
    actor = aliased(house, "big", "small")
    asked = [house.submit("best", ask(f"word {number}")) for number in range(6)]
    assert [served(sink) for _, sink in asked] == ["small"] * 6
    assert [text_of(sink) for _, sink in asked] == [f"word {number}" for number in range(6)]
    assert "loading" in house.path("model:big")
    assert all(len([e for e in sink.messages if isinstance(e, OUTCOMES)]) == 1 for _, sink in asked)
    assert actor.stop(5.0)


def test_the_first_one_serves_while_it_can(start: Start) -> None:
    """The others are not even loaded."""
    house = start(fake("big"), fake("small"))
    actor = aliased(house, "big", "small")
    assert served(house.submit("best", ask("hello"))[1]) == "big"
    assert house.path("model:small") == []
    assert actor.stop(5.0)


def test_what_does_not_fit_is_asked_of_the_next(start: Start) -> None:
    """A model that the machine has no memory for is passed over."""
    house = start(fake("big"), fake("small"), scales=Uneven({"big": 2000 * GB, "small": GB}))
    actor = aliased(house, "big", "small")
    assert served(house.submit("best", ask("hello"))[1]) == "small"
    assert actor.stop(5.0)


def test_the_last_refusal_tells_what_all_said(start: Start) -> None:
    """Nobody can: one refusal, which names everybody's reason."""
    house = start(fake("big", "fail_load=It-is-damaged"), fake("small", "fail_load=It-is-empty"))
    actor = aliased(house, "big", "small")
    _, sink = house.submit("best", ask("hello"))
    outcome = sink.wait_for(OUTCOMES)
    assert isinstance(outcome, client.Refused)
    assert outcome.refusal.kind is RefusalKind.MODEL_LOAD_FAILED
    assert "It-is-empty" in outcome.refusal.message
    assert "Asked before small: big (" in outcome.refusal.message
    assert "It-is-damaged" in outcome.refusal.message
    assert actor.stop(5.0)


def test_a_bad_request_goes_no_further(start: Start) -> None:
    """What one model finds wrong with the request itself, it is told by that one."""
    house = start(fake("big", context=64), fake("small", context=4096))
    actor = aliased(house, "big", "small")
    _, sink = house.submit("best", ask("word " * 500))
    outcome = sink.wait_for(OUTCOMES)
    assert isinstance(outcome, client.Refused)
    assert outcome.refusal.kind is RefusalKind.CONTEXT_LENGTH_EXCEEDED
    assert house.path("model:small") == []
    assert actor.stop(5.0)


def test_every_choice_of_a_request_goes_to_the_same_model(start: Start) -> None:
    """The sequences of one request move together."""
    house = start(fake("big", "load=0.2;fail_load=It-is-damaged"), fake("small"))
    actor = aliased(house, "big", "small")
    asked = [house.submit("best", ask("hello"), group="one") for _ in range(4)]
    assert [served(sink) for _, sink in asked] == ["small"] * 4
    assert actor.stop(5.0)


def test_its_time_goes_on(start: Start) -> None:
    """The deadline is that of the request, however many models were asked."""
    house = start(fake("big", "load=0.3;fail_load=It-is-damaged"), fake("small", "load=20"))
    actor = aliased(house, "big", "small")
    _, sink = house.submit("best", ask("hello"), seconds=1.0)
    outcome = sink.wait_for(OUTCOMES, 10.0)
    assert isinstance(outcome, client.Failed)
    assert "longer than 1 s" in outcome.failure.message
    assert actor.stop(5.0)


def test_one_that_is_cancelled_on_its_way_is_gone(start: Start) -> None:
    """Nothing is left of it, and the next request is served."""
    house = start(fake("big", "load=0.3;fail_load=It-is-damaged"), fake("small", "load=0.3"))
    actor = aliased(house, "big", "small")
    name, _ = house.submit("best", ask("hello"))
    house.admission.tell(admission.Cancel(name))
    assert served(house.submit("best", ask("again"))[1]) == "small"
    house.until(lambda: house.view("model:small").facts["in_flight"], lambda count: count == 0)
    assert actor.stop(5.0)


def test_a_swap_moves_the_first_one(start: Start) -> None:
    """The rest of the list stays behind it, without the one that it now begins with."""
    house = start(fake("big", "fail_load=It-is-damaged"), fake("small"), fake("other"))
    actor = aliased(house, "big", "small", "other")
    sink: Inbox[alias.Moved | alias.Stayed] = Inbox()
    actor.tell(alias.Swap("other", sink))
    assert sink.wait_for((alias.Moved, alias.Stayed), 30.0) == alias.Moved("best", "other")
    assert house.view("alias:best").facts["fallbacks"] == "small"
    assert served(house.submit("best", ask("hello"))[1]) == "other"
    assert actor.stop(5.0)
