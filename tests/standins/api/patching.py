# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The three kinds of patch. All are pure: the original is not changed."""

from __future__ import annotations

import copy
from typing import Any

from .status import ApiError, bad_request, unsupported_media

# By which key a strategic merge matches the elements of a list; a list that is not here is replaced.
# An empty key: plain values, which are added to those there are.
MERGE_KEYS = {
    "conditions": "type",
    "addresses": "type",
    "ownerReferences": "uid",
    "finalizers": "",
    "podCIDRs": "",
}

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON = "application/json-patch+json"
ACCEPTED = ", ".join((JSON, MERGE, STRATEGIC))


def apply(content_type: str, original: dict[str, Any], patch: Any) -> dict[str, Any]:
    """The patched object. Raises ApiError for what is no patch of this type."""
    if content_type == JSON:
        if not isinstance(patch, list):
            raise bad_request("json patch: cannot unmarshal object into Go value of type jsonpatch.Patch")
        return _json(original, patch)
    if content_type not in (MERGE, STRATEGIC):
        raise unsupported_media(content_type, ACCEPTED)
    if not isinstance(patch, dict):
        raise bad_request("error decoding patch: not an object")
    merged = merge(original, patch) if content_type == MERGE else strategic(original, patch)
    return dict(merged)


def merge(original: Any, patch: Any) -> Any:
    """RFC 7386: null removes, objects merge, all else replaces."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(original) if isinstance(original, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def strategic(original: Any, patch: dict[str, Any]) -> dict[str, Any]:
    """Kubernetes' own: as a merge, but certain lists are merged by a key of their elements."""
    directive = patch.get("$patch")
    result = dict(original) if isinstance(original, dict) and directive != "replace" else {}
    if directive == "delete":
        return {}
    for key, value in patch.items():
        if key.startswith("$deleteFromPrimitiveList/"):
            name = key.partition("/")[2]
            result[name] = [item for item in result.get(name) or [] if item not in value]
        elif key.startswith("$"):
            continue  # $setElementOrder orders only; kubectl sends it with every merged list
        elif value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = strategic(result.get(key), value)
        elif isinstance(value, list) and key in MERGE_KEYS:
            result[key] = _merge_list(result.get(key) or [], value, MERGE_KEYS[key])
        else:
            result[key] = copy.deepcopy(value)
    return result


def _merge_list(original: list[Any], patch: list[Any], by: str) -> list[Any]:
    if not by:
        return [*original, *(item for item in patch if item not in original)]
    if {"$patch": "replace"} in patch:
        return [copy.deepcopy(item) for item in patch if item != {"$patch": "replace"}]
    result = list(original)
    for item in patch:
        if not isinstance(item, dict) or by not in item:
            raise bad_request(f"map: {item} does not contain declared merge key: {by}")
        places = [place for place, there in enumerate(result) if there.get(by) == item[by]]
        if item.get("$patch") == "delete":
            result = [there for there in result if there.get(by) != item[by]]
        elif places:
            result[places[0]] = strategic(result[places[0]], item)
        else:
            result.append(strategic({}, item))
    return result


def _json(original: dict[str, Any], operations: list[Any]) -> dict[str, Any]:
    """RFC 6902: add, replace, remove, test."""
    result = copy.deepcopy(original)
    for operation in operations:
        try:
            _operate(result, operation["op"], operation["path"], operation.get("value"))
        except (KeyError, IndexError, TypeError, ValueError) as problem:
            message = f"the server rejected our request due to an error in our request ({operation}: {problem})"
            raise ApiError(422, "Invalid", message) from problem
    return result


def _operate(document: Any, verb: str, path: str, value: Any) -> None:
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]
    for part in parents:
        document = document[int(part) if isinstance(document, list) else part]
    key: Any = last
    if isinstance(document, list):
        key = len(document) if last == "-" else int(last)
    if verb == "add" and isinstance(document, list):
        document.insert(key, value)
    elif verb == "add":
        document[key] = value
    elif verb == "replace":
        document[key]  # must be there
        document[key] = value
    elif verb == "remove":
        del document[key]
    elif verb == "test":
        if document[key] != value:
            raise ValueError("test failed")
    else:
        raise ValueError("unknown operation")
