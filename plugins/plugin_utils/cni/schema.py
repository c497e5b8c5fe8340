# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Validate a CNI configuration against schemas/cni and the rules beside it. Controller only: needs jsonschema."""

from __future__ import annotations

import difflib
import functools
import json
import math
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

from ansible_collections.weft.podnet.plugins.module_utils.cni.config import file_name_problem

from . import rules as cni_rules
from .formats import FORMATS, Path, Problem, render, show

SCHEMAS = pathlib.Path(__file__).parents[3] / "schemas" / "cni"
# Relative references between the files need a base; this one is never fetched.
BASE = "https://weft-podnet.invalid/schemas/cni/"
DEEPEST = 40
BOOLEANS = ("true", "false", "yes", "no")
TYPE_NAMES = {"object": "a dictionary", "array": "a list", "string": "a string", "integer": "a whole number"}
TYPE_NAMES.update({"boolean": "true or false", "number": "a number", "null": "null"})
# Of several errors about one value only the first of these is reported: the rest follow from it.
SCALAR = ("type", "const", "enum", "pattern", "format", "minLength", "maxLength", "minimum", "maximum")


def _is_integer(_checker: Any, value: Any) -> bool:
    # Go refuses 1.0 where it wants an integer; JSON Schema would take it.
    return isinstance(value, int) and not isinstance(value, bool)


@functools.lru_cache(maxsize=1)
def library() -> tuple[Any, Any]:
    """The packages jsonschema and referencing, once something is to be validated. Raises RuntimeError without them.

    Every process that Ansible forks for a task may load all of the collection's filters, and with them this module;
    these two take longer to import than everything else in it.
    """
    try:
        import jsonschema
        import referencing.jsonschema
    except ImportError as error:
        raise RuntimeError(
            "the Python package jsonschema (4.18 or later) is missing on the controller: pip install jsonschema"
        ) from error
    return jsonschema, referencing


@functools.lru_cache(maxsize=1)
def _schemas() -> dict[str, dict[str, Any]]:
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(SCHEMAS.glob("*.json"))}
    for schema in found.values():
        # At each $schema it meets, jsonschema goes on with its stock validator and forgets our notion of an integer.
        del schema["$schema"]
    return found


@functools.lru_cache(maxsize=2)
def _validator(root: str) -> Any:
    jsonschema, referencing = library()
    draft = referencing.jsonschema.DRAFT202012
    resources = [(f"{BASE}{name}.json", draft.create_resource(each)) for name, each in _schemas().items()]
    formats = jsonschema.FormatChecker(formats=())
    for name, parse in FORMATS.items():
        formats.checks(name, raises=ValueError)(functools.partial(_format, parse))
    base = jsonschema.Draft202012Validator
    strict = jsonschema.validators.extend(base, type_checker=base.TYPE_CHECKER.redefine("integer", _is_integer))
    registry: Any = referencing.Registry().with_resources(resources)
    return strict({"$ref": f"{BASE}{root}.json"}, registry=registry, format_checker=formats)


def _format(parse: Any, value: object) -> bool:
    if isinstance(value, str):
        parse(value)
    return True


@functools.lru_cache(maxsize=1)
def _traits() -> cni_rules.Traits:
    chained = frozenset(name for name, each in _schemas().items() if each.get("x-chained"))
    minimum = {name: each["x-cniVersion-min"] for name, each in _schemas().items() if "x-cniVersion-min" in each}
    return cni_rules.Traits(chained, minimum)


def plugin_types() -> set[str]:
    """The types of the reference plugins and of flannel."""
    return set(_schemas()["plugin"]["properties"]["type"]["enum"])


def validate(config: Any, file_name: Any, allow_unknown: bool = False) -> list[Problem]:
    """Everything wrong with ``config`` as the content of ``file_name``; an empty list when the runtime will take it.

    ``allow_unknown`` lets pass plugin types and keys that the schemas don't know; what they know must still be right.
    Never raises for any value, however odd; RuntimeError when the jsonschema package is missing.
    """
    library()
    name_problem = file_name_problem(file_name)
    problems = [Problem("", name_problem)] if name_problem else []
    if not isinstance(config, dict):
        return [*problems, Problem("$", f"found {_described(config)}, expected a dictionary")]
    config = _structure(_json(config, (), problems), problems)
    is_list = "plugins" in config or ("type" not in config and str(file_name).endswith(".conflist"))
    errors = _validator("network_list" if is_list else "single_conf").iter_errors(config)
    problems += _schema_problems(errors, allow_unknown)
    problems += cni_rules.check(config, file_name, is_list, _traits())
    return list(dict.fromkeys(problems))


def _json(value: Any, path: Path, problems: list[Problem]) -> Any:
    """A copy in JSON's terms. What YAML has and JSON lacks is reported: keys that are no strings, dates, infinities."""
    if len(path) > DEEPEST:
        problems.append(Problem(render(path), "is nested too deeply"))
        return None
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                problems.append(Problem(render(path), f"key {key!r} is no string; quote it"))
        return {key: _json(item, (*path, key), problems) for key, item in value.items() if isinstance(key, str)}
    if isinstance(value, list):
        return [_json(item, (*path, index), problems) for index, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        problems.append(Problem(render(path), f"found {value}, which JSON has no form for"))
    elif value is not None and not isinstance(value, (str, int, float)):
        problems.append(Problem(render(path), f"found {show(str(value))}, which JSON has no form for; quote it"))
        return str(value)
    return value


def _structure(config: dict[str, Any], problems: list[Problem]) -> dict[str, Any]:
    """The configuration with the keys that carry its structure in their right case; the wrong ones are reported."""
    config = _recased(config, ("cniVersion", "name", "plugins", "type", "ipam"), (), problems)
    if isinstance(config.get("plugins"), list):
        members = enumerate(config["plugins"])
        config["plugins"] = [_plugin_structure(each, ("plugins", index), problems) for index, each in members]
        return config
    return _plugin_structure(config, (), problems)


def _plugin_structure(plugin: Any, path: Path, problems: list[Problem]) -> Any:
    if not isinstance(plugin, dict):
        return plugin
    plugin = _recased(plugin, ("type", "ipam", "delegate"), path, problems)
    for key in ("ipam", "delegate"):
        if isinstance(plugin.get(key), dict):
            plugin[key] = _recased(plugin[key], ("type",), (*path, key), problems)
    return plugin


def _recased(mapping: dict[str, Any], keys: Iterable[str], path: Path, problems: list[Problem]) -> dict[str, Any]:
    right = {key.lower(): key for key in keys}
    result: dict[str, Any] = {}
    for key, value in mapping.items():
        wanted = right.get(key.lower(), key)
        if wanted != key and wanted not in mapping and wanted not in result:
            problems.append(Problem(render((*path, key)), _case_message(key, wanted, mapping)))
            result[wanted] = value
        else:
            result[key] = value
    return result


def _case_message(key: str, wanted: str, mapping: dict[str, Any]) -> str:
    if wanted in mapping:
        return f"key '{key}' is '{wanted}' again: Go matches keys in any case, and the later one wins; remove one"
    return (
        f"unknown key '{key}'; did you mean '{wanted}'? Go matches keys in any case and reads it so: write '{wanted}'"
    )


def _schema_problems(errors: Iterable[Any], allow_unknown: bool) -> Iterator[Problem]:
    ordered = sorted(errors, key=lambda error: ([str(step).zfill(4) for step in error.absolute_path], _rank(error)))
    told: set[tuple[Path, Any]] = set()
    for error in ordered:
        path: Path = tuple(error.absolute_path)
        keyword = error.validator
        if keyword == "additionalProperties":
            yield from _unknown_keys(error, path, allow_unknown)
        elif keyword in ("required", "dependentRequired"):
            yield from _missing_keys(error, path)
        elif keyword == "enum" and path[-1:] == ("type",) and allow_unknown:
            continue
        elif keyword not in SCALAR or (path, _key(error)) not in told:
            told.add((path, _key(error)))
            yield Problem(render(path), _message(error, path))


def _key(error: Any) -> str | None:
    """The key that an error is about where the path ends at the dictionary around it."""
    return str(error.instance) if "propertyNames" in error.absolute_schema_path else None


def _rank(error: Any) -> int:
    return SCALAR.index(error.validator) if error.validator in SCALAR else len(SCALAR)


def _unknown_keys(error: Any, path: Path, allow_unknown: bool) -> Iterator[Problem]:
    valid = list(error.schema.get("properties", {}))
    lower = {key.lower(): key for key in valid}
    for key in error.instance:
        if key in valid or key.lower().startswith("cni.dev/"):
            continue
        if key.lower() in lower:
            yield Problem(render((*path, key)), _case_message(key, lower[key.lower()], error.instance))
        elif not allow_unknown:
            yield Problem(render((*path, key)), f"unknown key '{key}'; {_nearest(key, valid)}")


def _missing_keys(error: Any, path: Path) -> Iterator[Problem]:
    if error.validator == "required":
        for key in error.validator_value:
            if key not in error.instance:
                hint = "; an absent one is read as 0.1.0" if key == "cniVersion" else ""
                yield Problem(render(path), f"required key '{key}' is missing{hint}")
        return
    for key, needed in error.validator_value.items():
        for other in needed:
            if key in error.instance and other not in error.instance:
                yield Problem(render((*path, key)), f"'{key}' needs '{other}' beside it; add it or remove '{key}'")


def _nearest(word: str, valid: list[str]) -> str:
    lower = {each.lower(): each for each in reversed(valid)}
    near = difflib.get_close_matches(word.lower(), list(lower), n=1)
    return f"did you mean '{lower[near[0]]}'?" if near else f"expected one of {', '.join(sorted(filter(None, valid)))}"


def _described(value: Any) -> str:
    kinds = ((bool, "boolean"), ((int, float), "number"), (str, "string"), (list, "list"), (dict, "dictionary"))
    for kind, name in kinds:
        if isinstance(value, kind):
            return f"{show(value)} ({name})"
    return show(value)


def _message(error: Any, path: Path) -> str:
    keyword, wanted, value = error.validator, error.validator_value, error.instance
    if keyword == "type":
        return _wrong_type(value, [wanted] if isinstance(wanted, str) else wanted)
    if keyword == "format":
        return f"found {show(value)}, {error.cause}"
    if keyword == "enum":
        return _not_listed(value, wanted, path)
    text = error.schema.get("x-error")
    if text:
        return f"found {show(value)}; {text}" if keyword in SCALAR else text
    if keyword in ("minimum", "maximum"):
        return f"found {show(value)}, expected at {'least' if keyword == 'minimum' else 'most'} {wanted}"
    if keyword == "minItems":
        return "is an empty list, expected at least one entry"
    if keyword == "maxItems":
        return f"has {len(value)} entries, expected at most {wanted}"
    return f"found {show(value)}: {error.message}"


def _wrong_type(value: Any, wanted: list[str]) -> str:
    expected = " or ".join(TYPE_NAMES[name] for name in wanted)
    hint = "; quote it" if "string" in wanted and isinstance(value, (int, float)) else ""
    if (
        isinstance(value, str)
        and wanted[0] in ("integer", "boolean")
        and (value.isdigit() or value.lower() in BOOLEANS)
    ):
        hint = "; write it without quotes"
    return f"found {_described(value)}, expected {expected}{hint}"


def _not_listed(value: Any, wanted: list[Any], path: Path) -> str:
    if path[-1:] == ("type",):
        ipam = path[-2:-1] == ("ipam",)
        if not ipam and value in ("host-local", "static", "dhcp"):
            return f"found '{value}', which gives addresses to another plugin; it belongs into ipam.type"
        if not ipam and value in _schemas():
            return f"found '{value}', which can't be the delegate; expected one of {', '.join(sorted(wanted))}"
        unknown = f"unknown {'ipam plugin' if ipam else 'plugin'} '{value}'; {_nearest(str(value), wanted)}"
        return f"{unknown} (a third-party plugin needs allow_unknown: true)"
    return f"found {show(value)}; {_nearest(str(value), wanted)} (valid: {', '.join(filter(None, wanted))})"
