"""Requests for an alias with several models, on their way from one that cannot serve them to the next."""

from collections.abc import Mapping

from lmx.actors import metrics
from lmx.actors.dispatcher import Decide, Dispatcher
from lmx.actors.leases import Group, Leases
from lmx.actors.messages import admission, client
from lmx.actors.messages.ref import Ref
from lmx.machines import fallback
from lmx.machines.types import Refusal


class Relay:
    """Between a model and a client: a refusal comes to admission, all else goes on. Told in the model's thread."""

    def __init__(self, ask: admission.Submit, model: str, home: Ref[admission.Message]) -> None:
        self._ask = ask
        self._model = model
        self._home = home

    def tell(self, message: client.Event) -> None:
        if isinstance(message, client.Refused):
            self._home.tell(admission.Declined(self._ask, self._model, message.refusal))
        else:
            self._ask.reply_to.tell(message)


class Relays:
    """Whom a model is to tell what becomes of a sequence."""

    def __init__(self, routes: Mapping[str, admission.Route], home: Ref[admission.Message]) -> None:
        self._routes = routes
        self._home = home

    def __call__(self, ask: admission.Submit, model: str) -> Ref[client.Event]:
        route = self._routes.get(ask.model)
        return Relay(ask, model, self._home) if route is not None and route.fallbacks else ask.reply_to


class Fallbacks:
    def __init__(
        self, routes: Mapping[str, admission.Route], leases: Leases, dispatcher: Dispatcher, decide: Decide
    ) -> None:
        self._routes = routes
        self._leases = leases
        self._dispatcher = dispatcher
        self._decide = decide

    def refusal(self, group: Group, model: str, refusal: Refusal) -> Refusal | None:
        """What a request is told that `model` refuses; None: what waits of it has been moved to the next one.

        Its place and its deadline are as before.
        """
        route = self._routes.get(group.model)
        if route is None or not route.fallbacks:
            return refusal
        group.declined.setdefault(model, refusal)
        models = (route.model or route.alias, *route.fallbacks)
        declined = tuple(group.declined)
        heir = self._decide(fallback.heir, kind=refusal.kind, models=models, declined=declined, spoke=group.spoke)
        lane = self._dispatcher.lane(heir) if heir else None
        if lane is None:
            return fallback.last_word(model=model, refusal=refusal, declined=group.declined)
        if lane is not group.lane:
            metrics.FALLBACKS.labels(group.model, lane.name).inc()
            group.begun = False
            self._dispatcher.move(group, lane)
            self._dispatcher.flow(lane)
        return None

    def declined(self, told: admission.Declined) -> None:
        """A sequence was refused, and its client has not been told."""
        lease, reply_to = self._leases.get(told.ask.request_id), told.ask.reply_to
        if lease is None:  # its client is gone, or admission crashed
            reply_to.tell(client.Refused(told.refusal))
        elif lease.group.verdict is not None:
            reply_to.tell(lease.group.verdict)
        elif (final := self.refusal(lease.group, told.model, told.refusal)) is not None:
            reply_to.tell(client.Refused(final))
        else:
            lease.ask, lease.phase = told.ask, "waiting"
            self._dispatcher.enqueue(lease)
            self._dispatcher.flow(lease.group.lane)
