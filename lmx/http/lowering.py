"""A description of OpenAPI 3.1 said in 3.0, which is what the viewer reads (its later releases are not packaged)."""

from typing import Any

VERSION = "3.0.3"
NULL = {"type": "null"}
LATER = ("propertyNames", "x-event-schema")
"""What 3.0 has no words for."""
AS_THEY_ARE = ("example", "default", "enum")


def document(described: dict[str, Any]) -> dict[str, Any]:
    lowered: dict[str, Any] = _lowered(described)
    return lowered | {"openapi": VERSION}


def _lowered(value: Any) -> Any:
    if isinstance(value, list):
        return [_lowered(item) for item in value]
    if not isinstance(value, dict):
        return value
    if isinstance(value.get("properties"), dict):
        fields = {name: _lowered(form) for name, form in value["properties"].items()}
        return _schema({name: part for name, part in value.items() if name != "properties"}) | {"properties": fields}
    return _schema(value)


def _schema(form: dict[str, Any]) -> dict[str, Any]:
    kept = {name: part for name, part in form.items() if name not in LATER}
    lowered = {name: part if name in AS_THEY_ARE else _lowered(part) for name, part in kept.items()}
    if lowered.get("type") == "null":
        lowered = {**lowered, "type": "string", "nullable": True, "enum": [None]}
    if isinstance(options := lowered.get("anyOf"), list) and NULL in form["anyOf"]:
        lowered |= {"anyOf": [_lowered(one) for one in form["anyOf"] if one != NULL], "nullable": True}
        if len(options) == 2:
            lowered |= _alone(lowered.pop("anyOf")[0])
    if "const" in lowered:
        lowered["enum"] = [lowered.pop("const")]
    for limit, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if exclusive in form:
            lowered |= {limit: form[exclusive], exclusive: True}
    if "$ref" in lowered and len(lowered) > 1:
        lowered |= _alone({"$ref": lowered.pop("$ref")})
    return lowered


def _alone(form: dict[str, Any]) -> dict[str, Any]:
    """To be merged with what else is said there: 3.0 reads nothing beside a reference."""
    return {"allOf": [form]} if "$ref" in form else form
