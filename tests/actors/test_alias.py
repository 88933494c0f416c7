"""An alias moves from one model to another, and no request fails for it."""

import threading

from lmx.actors.alias import AliasActor
from lmx.actors.base import Address
from lmx.actors.messages import admission, alias, caller, client, loader, model
from lmx.machines.types import Refusal, RefusalKind
from tests.actors.conftest import Start
from tests.support.house import GB, OUTCOMES, Actors, ask, fake, text_of
from tests.support.inbox import Inbox


class Room:
    """Memory for one model of 1 GB, or for two."""

    def __init__(self, models: float) -> None:
        self._total = int(models * GB / 0.9)

    def free(self) -> int:
        return self._total

    def total(self) -> int:
        return self._total


def aliased(house: Actors, means: str) -> Address[alias.Message]:
    address: Address[alias.Message] = Address(
        AliasActor.start(house.house, "best", means, house.models, house.admission)
    )
    house.await_state("alias:best", "steady")
    return address


def swapped(actor: Address[alias.Message], model: str) -> alias.Moved | alias.Stayed:
    sink: Inbox[alias.Moved | alias.Stayed] = Inbox()
    actor.tell(alias.Swap(model, sink))
    return sink.wait_for((alias.Moved, alias.Stayed), 30.0)


def answered(house: Actors, name: str, text: str) -> str:
    _, sink = house.submit(name, ask(text))
    assert isinstance(sink.wait_for(OUTCOMES), client.Finished), sink.messages
    return text_of(sink)


def test_requests_go_on_while_the_alias_moves(start: Start) -> None:
    """The new model is ready before the old one goes; of a steady stream of requests none fails."""
    house = start(fake("one"), fake("two", "load=0.3"), gauge=Room(2.5))
    actor = aliased(house, "one")
    assert answered(house, "best", "before") == "before"
    stop, failed = threading.Event(), []

    def keep_asking() -> None:
        while not stop.is_set():
            name, sink = house.submit("best", ask("hello"))
            outcome = sink.wait_for(OUTCOMES)
            house.admission.tell(admission.Release(name))
            if not isinstance(outcome, client.Finished):
                failed.append(outcome)

    asker = threading.Thread(target=keep_asking)
    asker.start()
    try:
        assert swapped(actor, "two") == alias.Moved("best", "two")
    finally:
        stop.set()
        asker.join()
    assert failed == []
    assert house.view("model:two").state == "ready"
    house.await_state("model:one", "unloaded")
    assert actor.stop(5.0)


def test_a_model_that_does_not_load_changes_nothing(start: Start) -> None:
    """The alias means the old one, which never stopped serving, and the answer says why."""
    house = start(fake("one"), fake("two", "fail_load=The file is damaged"), gauge=Room(2.5))
    actor = aliased(house, "one")
    assert answered(house, "best", "before") == "before"
    answer = swapped(actor, "two")
    assert isinstance(answer, alias.Stayed)
    assert (answer.model, "damaged" in answer.reason) == ("one", True)
    assert answered(house, "best", "after") == "after"
    assert house.path("model:one").count("unloaded") == 0
    assert actor.stop(5.0)


def test_pressure_is_no_reason_to_let_the_old_one_go(start: Start) -> None:
    """While memory is short nothing loads, whoever leaves: the alias stays where it is, and says why."""
    house = start(fake("one"), fake("two"), gauge=Room(2.5))
    actor = aliased(house, "one")
    assert answered(house, "best", "before") == "before"
    house.loader.tell(loader.SetPressure("Of the machine's memory 91% is used."))
    answer = swapped(actor, "two")
    assert isinstance(answer, alias.Stayed)
    assert (answer.model, "91%" in answer.reason) == ("one", True)
    assert answered(house, "best", "after") == "after"
    assert house.path("model:one").count("unloaded") == 0
    assert actor.stop(5.0)


def test_two_aliases_may_leave_one_model(start: Start) -> None:
    """Each holds a lease of its own: the first that gives it back does not give back the other's."""
    house = start(fake("m"), fake("big"), gauge=Room(1.5))
    assert answered(house, "m", "loaded") == "loaded"
    house.models["m"].tell(model.Lease("first", held=True))
    house.models["m"].tell(model.Lease("second", held=True))
    house.models["m"].tell(model.Lease("first", held=False))
    refused = house.load("big")
    assert isinstance(refused, caller.Refused)
    house.models["m"].tell(model.Lease("second", held=False))
    house.until(lambda: house.load("big"), lambda answer: answer == caller.Settled("big", "ready"))


def test_a_swap_does_not_wait_for_an_old_model_that_is_wanted_again(start: Start) -> None:
    """Somebody else has the old one loaded while it finishes what it serves: it stays, and the alias has moved."""
    house = start(fake("one", "step=0.05"), fake("two"), gauge=Room(2.5))
    actor = aliased(house, "one")
    assert answered(house, "best", "before") == "before"
    name, running = house.submit("one", ask("x" * 400))
    sink: Inbox[alias.Moved | alias.Stayed] = Inbox()
    actor.tell(alias.Swap("two", sink))
    house.await_state("alias:best", "draining")
    assert house.load("one") == caller.Settled("one", "ready")
    assert sink.wait_for((alias.Moved, alias.Stayed)) == alias.Moved("best", "two")
    assert not any(isinstance(told, OUTCOMES) for told in running.messages)
    assert house.view("model:one").state == "ready"
    house.admission.tell(admission.Cancel(name))
    assert actor.stop(5.0)


def test_everybody_who_leaves_a_model_is_told_when_it_is_gone(start: Start) -> None:
    """Two aliases move away from a model that still serves something: neither waits for ever."""
    house = start(fake("m", "step=0.05"))
    assert answered(house, "m", "loaded") == "loaded"
    name, running = house.submit("m", ask("x" * 400))
    running.wait_for(client.Delta)
    leavers: list[Inbox[caller.Reply]] = [Inbox(), Inbox()]
    for leaver in leavers:
        house.models["m"].tell(model.Retire(leaver))
    house.admission.tell(admission.Cancel(name))
    assert [leaver.wait_for(caller.Settled) for leaver in leavers] == [caller.Settled("m", "unloaded")] * 2


def test_one_after_the_other_where_both_do_not_fit(start: Start) -> None:
    """Requests that come meanwhile wait, and are served by the new model."""
    house = start(fake("one"), fake("two", "load=0.5"), gauge=Room(1.5))
    actor = aliased(house, "one")
    assert answered(house, "best", "before") == "before"
    sink: Inbox[alias.Moved | alias.Stayed] = Inbox()
    actor.tell(alias.Swap("two", sink))
    house.await_state("model:two", "loading")
    assert answered(house, "best", "meanwhile") == "meanwhile"
    assert sink.wait_for(alias.Moved) == alias.Moved("best", "two")
    assert actor.stop(5.0)


def test_a_serial_swap_leaves_no_lease(start: Start) -> None:
    """The old model was leased while the new one loaded; later on it may go for others again."""
    house = start()
    one: Inbox[model.Message] = Inbox()
    two: Inbox[model.Message] = Inbox()
    sink: Inbox[alias.Moved | alias.Stayed] = Inbox()
    entry: Inbox[admission.Message] = Inbox()
    actor: Address[alias.Message] = Address(
        AliasActor.start(house.house, "best", "one", {"one": one, "two": two}, entry)
    )
    actor.tell(alias.Swap("two", sink))
    actor.tell(caller.Refused("two", Refusal(RefusalKind.INSUFFICIENT_MEMORY, "It does not fit.", 10.0)))
    actor.tell(caller.Settled("one", "unloaded"))
    actor.tell(caller.Settled("two", "ready"))
    assert sink.wait_for(alias.Moved) == alias.Moved("best", "two")
    leases = [told.held for told in one.messages if isinstance(told, model.Lease)]
    assert (True in leases, leases[-1]) == (True, False)
    assert actor.stop(5.0)


def test_a_serial_swap_goes_on_when_the_old_one_stays(start: Start) -> None:
    """Requests are held meanwhile: whether there is room for the new one is the loader's to say, and at once."""
    house = start()
    one: Inbox[model.Message] = Inbox()
    two: Inbox[model.Message] = Inbox()
    sink: Inbox[alias.Moved | alias.Stayed] = Inbox()
    entry: Inbox[admission.Message] = Inbox()
    actor: Address[alias.Message] = Address(
        AliasActor.start(house.house, "best", "one", {"one": one, "two": two}, entry)
    )
    actor.tell(alias.Swap("two", sink))
    actor.tell(caller.Refused("two", Refusal(RefusalKind.INSUFFICIENT_MEMORY, "It does not fit.", 10.0)))
    actor.tell(caller.Refused("one", Refusal(RefusalKind.MODEL_UNLOADED, "Somebody else wants it loaded.")))
    actor.tell(caller.Settled("two", "ready"))
    assert sink.wait_for((alias.Moved, alias.Stayed)) == alias.Moved("best", "two")
    assert actor.stop(5.0)


def test_a_serial_swap_that_fails_is_rolled_back(start: Start) -> None:
    """The old model comes back and serves what was held."""
    house = start(fake("one"), fake("two", "load=0.3;fail_load=The file is damaged"), gauge=Room(1.5))
    actor = aliased(house, "one")
    assert answered(house, "best", "before") == "before"
    sink: Inbox[alias.Moved | alias.Stayed] = Inbox()
    actor.tell(alias.Swap("two", sink))
    house.await_state("model:two", "loading")
    assert answered(house, "best", "meanwhile") == "meanwhile"
    answer = sink.wait_for(alias.Stayed)
    assert isinstance(answer, alias.Stayed)
    assert (answer.model, "damaged" in answer.reason) == ("one", True)
    assert actor.stop(5.0)


def test_a_swap_at_a_time(start: Start) -> None:
    """A second one is refused while the first is under way; a model that does not exist at once."""
    house = start(fake("one"), fake("two", "load=0.5"), gauge=Room(2.5))
    actor = aliased(house, "one")
    assert answered(house, "best", "before") == "before"
    first: Inbox[alias.Moved | alias.Stayed] = Inbox()
    actor.tell(alias.Swap("two", first))
    second = swapped(actor, "two")
    assert isinstance(second, alias.Stayed)
    assert "already" in second.reason
    assert first.wait_for(alias.Moved)
    unknown = swapped(actor, "nobody")
    assert isinstance(unknown, alias.Stayed)
    assert "nobody" in unknown.reason
    assert actor.stop(5.0)
