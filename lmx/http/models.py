"""GET /v1/models and /v1/models/{id}: models, aliases and presets, with what is known of them."""

from collections.abc import Mapping

from aiohttp import web
from msgspec import UNSET, UnsetType

from lmx.actors.messages.journal import Fact, MachineView
from lmx.http import board
from lmx.http.anthropic import catalogue
from lmx.http.errors import model_not_found
from lmx.http.gateway import GATEWAY, Gateway
from lmx.http.replies import AliasFacts, Capabilities, Model, Models, PresetFacts
from lmx.http.respond import json
from lmx.machines.speech import Thinking

Views = Mapping[str, MachineView]


async def listing(request: web.Request) -> web.Response:
    """List what may be asked for: models, aliases and presets of them. Anthropic's clients get its pages."""
    models = await known(request)
    return json(catalogue.page(models, request.query) if catalogue.asks(request) else Models(models))


async def retrieve(request: web.Request) -> web.Response:
    """Tell of one model, alias or preset.

    Ids may contain slashes; they are looked up, never made into a path.
    """
    gateway = request.app[GATEWAY]
    name = request.match_info["id"]
    if not gateway.offers(name):
        raise model_not_found(name)
    model = _model(name, gateway, await _views(request))
    return json(catalogue.info(model) if catalogue.asks(request) else model)


async def known(request: web.Request) -> tuple[Model, ...]:
    """All that requests may name."""
    gateway = request.app[GATEWAY]
    views = await _views(request)
    names = dict.fromkeys((*gateway.models, *gateway.aliases, *gateway.presets))
    return tuple(_model(name, gateway, views) for name in names)


async def _views(request: web.Request) -> Views:
    """A list of models is worth having without their states."""
    try:
        return board.by_actor(await board.read(request))
    except TimeoutError:
        return {}


def _model(name: str, gateway: Gateway, views: Views) -> Model:
    """An alias shows the model that it means, and a preset the one that it runs on."""
    preset = gateway.presets.get(name)
    alias = name if preset is None else preset.model
    moved = views.get(board.ALIAS + alias)
    view = views.get(board.MODEL + (alias if moved is None else str(moved.facts.get("means"))))
    facts = dict(view.facts) if view is not None else {}
    context = facts.get("context")
    return Model(
        id=name,
        created=gateway.started,
        state=view.state if view is not None else "unknown",
        reason=board.why(view) if view is not None else "",
        context_length=context if isinstance(context, int) else None,
        max_model_len=context if isinstance(context, int) else None,
        capabilities=_capabilities(facts),
        alias=_alias(name, gateway, moved) if name in gateway.aliases else UNSET,
        preset=_preset(name, gateway),
        facts=facts,
    )


def _capabilities(facts: Mapping[str, Fact]) -> Capabilities:
    """Of the latest load; what no load has told yet is not known."""
    makes = facts.get("makes")
    if not isinstance(makes, str):
        return Capabilities()
    kinds = makes.split(", ")
    text = "text" in kinds
    return Capabilities(
        chat=text and _told(facts, "chat"),
        completions=text,
        embeddings="embeddings" in kinds,
        rerank="scores" in kinds,
        tools=text and _told(facts, "tools"),
        thinking=text and _told(facts, "thinking"),
        structured_output=text,
        vision=text and _told(facts, "vision"),
    )


def _told(facts: Mapping[str, Fact], name: str) -> bool | None:
    fact = facts.get(name)
    return None if fact is None else bool(fact)


def _alias(name: str, gateway: Gateway, view: MachineView | None) -> AliasFacts:
    means = view.facts.get("means") if view is not None else None
    others = tuple(model for model in gateway.fallbacks.get(name, ()) if model != means)
    return AliasFacts(str(means) if means is not None else None, others)


def _preset(name: str, gateway: Gateway) -> PresetFacts | UnsetType:
    preset = gateway.presets.get(name)
    if preset is None:
        return UNSET
    thinking = preset.thinking != Thinking()
    return PresetFacts(preset.base, preset.model == name, preset.defaults, bool(preset.system), thinking)
