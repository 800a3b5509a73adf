"""The published JSON Schemas: coercing strict YAML to them and validating documents against them.

The schemas are files of this package (`builder/schemas`, published as `manifests/schema`). Loading them is the only
thing here that touches the package's own files.
"""

import json
import re
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import Any

from builder.encoding.strict_yaml import Node, Quoted
from builder.errors import DocumentError

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,15}")
_BOOLEANS = {"true": True, "false": False}


@cache
def load_schema(name: str) -> dict[str, Any]:
    """The published schema `name`, for example `recipe-v1`."""
    text = resources.files("builder").joinpath("schemas", f"{name}.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def coerce(node: Node, *, schema_name: str, what: str) -> Any:
    """Turn strict-YAML text into the types that the schema asks for, then validate.

    Text becomes an integer or a boolean only where the schema says `integer` or `boolean`, and only in the one
    decimal or lower-case form. Errors name the path, the value found and the value wanted.
    """
    schema = load_schema(schema_name)
    value = _Coercion(schema, what).value(node, schema, "$")
    validate(value, schema_name=schema_name, what=what)
    return value


def validate(document: Any, *, schema_name: str, what: str) -> None:
    """DocumentError with the path of every deviation (at most five) from the published schema."""
    errors = sorted(
        _validator(schema_name).iter_errors(document), key=lambda error: list(map(str, error.absolute_path))
    )
    deviations = list(dict.fromkeys(f"{_path(error.absolute_path)}: {_reason(error)}" for error in errors))
    if deviations:
        more = f"; and {len(deviations) - 5} more" if len(deviations) > 5 else ""
        raise DocumentError(
            f"{what}: {'; '.join(deviations[:5])}{more}",
            hint=f"the format is published in manifests/schema/{schema_name}.json",
        )


@cache
def _validator(schema_name: str) -> Any:
    from jsonschema import Draft202012Validator, validators  # heavy to import, and not needed for --help

    extend: Any = validators.extend
    return extend(Draft202012Validator, {"pattern": _pattern_errors})(load_schema(schema_name))


def _pattern_errors(validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[Any]:
    """The keyword `pattern`, whose regular expressions are those of ECMA 262: there `$` is the end of the text, while
    Python's would let one more newline pass."""
    from jsonschema import ValidationError

    expression = re.sub(r"\$$", r"\\Z", pattern)
    if validator.is_type(instance, "string") and not re.search(expression, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _path(parts: Any) -> str:
    return "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)


def _reason(error: Any) -> str:
    if error.validator == "additionalProperties":
        unknown = sorted(set(error.instance) - set(error.schema.get("properties", {})))
        return f"unknown field {', '.join(map(repr, unknown))}"
    if error.validator == "required":
        missing = [name for name in error.validator_value if name not in error.instance]
        return f"missing field {', '.join(map(repr, missing))}"
    if error.validator in ("oneOf", "anyOf") and all("required" in form for form in error.validator_value):
        names = ", ".join(repr(name) for form in error.validator_value for name in form["required"])
        return f"wanted {'exactly' if error.validator == 'oneOf' else 'at least'} one of {names}"
    message = str(error.message)
    return message if len(message) <= 200 else message[:200] + "…"


class _Coercion:
    """Walks a document and its schema side by side."""

    def __init__(self, root: dict[str, Any], what: str) -> None:
        self._root = root
        self._what = what

    def value(self, node: Node, schema: dict[str, Any], path: str) -> Any:
        schema = self._resolved(schema)
        if isinstance(node, dict):
            return self._mapping(node, schema, path)
        if isinstance(node, list):
            items = schema.get("items", {})
            return [self.value(item, items, f"{path}[{index}]") for index, item in enumerate(node)]
        return self._scalar(node, schema, path)

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        reference = schema.get("$ref")
        if reference is None:
            return schema
        target: Any = self._root
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]
        return self._resolved(target)

    def _mapping(self, node: dict[str, Node], schema: dict[str, Any], path: str) -> dict[str, Any]:
        properties = schema.get("properties", {})
        others = schema.get("additionalProperties")
        default = others if isinstance(others, dict) else {}
        return {
            name: self.value(member, properties.get(name, default), f"{path}.{name}") for name, member in node.items()
        }

    def _scalar(self, node: str | None, schema: dict[str, Any], path: str) -> Any:
        kind = schema.get("type")
        if kind == "integer":
            return self._integer(node, path)
        if kind == "boolean":
            return self._boolean(node, path)
        return None if node is None else str(node)

    def _integer(self, node: str | None, path: str) -> int:
        if node is None or isinstance(node, Quoted) or not _INTEGER.fullmatch(node):
            raise DocumentError(f"{self._what}: {path}: {node!r} is not a plain decimal integer")
        return int(node)

    def _boolean(self, node: str | None, path: str) -> bool:
        if node is None or isinstance(node, Quoted) or node not in _BOOLEANS:
            raise DocumentError(f"{self._what}: {path}: {node!r} is not `true` or `false`")
        return _BOOLEANS[node]
