"""What keys, secrets and certificates have in common: names, versions, attributes, pages.

Follows the vendor's "Azure Key Vault keys, secrets and certificates overview". How they are deleted
and brought back is in :mod:`.lifecycle`.
"""

from __future__ import annotations

import base64
import bisect
import copy
import re
from collections.abc import Callable, Iterable
from typing import Any

from ..objects import Attributes, Item, Shelf, Version, new_version
from . import errors
from .requests import Asked, Json, object_of

MOST_RESULTS = 25
_NAME = re.compile(r"[0-9a-zA-Z-]{1,127}")

Render = Callable[[Asked, Item[Any], Version[Any]], Json]
Summary = Callable[[Asked, Item[Any], Version[Any]], Json]


def shelf(asked: Asked, kind: str | None = None) -> Shelf[Any]:
    """The vault's shelf for this operation's kind of object, rid of what is due to be purged."""
    found: Shelf[Any] = getattr(asked.vault, kind or asked.operation.kind)
    found.expire(asked.world.clock.now())
    return found


def live(asked: Asked) -> Item[Any]:
    """The object that the call names.

    :raises VaultError: 404.
    """
    found = shelf(asked).live.get(asked.name.lower())
    if found is None or not found.versions:
        raise errors.not_found(asked.operation.kind, asked.name)
    return found


def version_of(asked: Asked, item: Item[Any]) -> Version[Any]:
    """The version that the call names, or the newest.

    :raises VaultError: 404.
    """
    if not asked.version:
        return item.current
    found = item.versions.get(asked.version.lower())
    if found is None:
        raise errors.not_found(asked.operation.kind, f"{asked.name}/{asked.version}")
    return found


def claim(asked: Asked, kind: str | None = None) -> Item[Any]:
    """The object to add a version to: the one of that name, or a new one.

    :raises VaultError: 400, no name; 409, it is a deleted object's name.
    """
    kind = kind or asked.operation.kind
    if not _NAME.fullmatch(asked.name):
        raise errors.bad_parameter(f"The request URI contains an invalid name: {asked.name}")
    place = shelf(asked, kind)
    if asked.name.lower() in place.deleted:
        raise errors.deleted_but_recoverable(kind, asked.name)
    return place.live.setdefault(asked.name.lower(), Item(asked.name))


def add_version(
    asked: Asked,
    item: Item[Any],
    content: Any,
    *,
    version: str | None = None,
    managed: bool = False,
) -> Version[Any]:
    """Add a version with the attributes and tags that the body asks for."""
    attributes = Attributes(created=asked.now, updated=asked.now)
    set_attributes(attributes, object_of(asked.body, "attributes"))
    return item.add(
        Version(version or new_version(), content, attributes, tags_of(asked.body), managed)
    )


def set_attributes(attributes: Attributes, wanted: Json) -> None:
    """Change the attributes that are named.

    :raises VaultError: 400, they make no sense.
    """
    for member, name in (("nbf", "not_before"), ("exp", "expires")):
        value = wanted.get(member)
        if value is not None:
            if not isinstance(value, int) or isinstance(value, bool):
                raise errors.bad_parameter(f"Property  has invalid value: '{member}'")
            setattr(attributes, name, value)
    enabled = wanted.get("enabled")
    if enabled is not None:
        attributes.enabled = enabled is True
    begins, ends = attributes.not_before, attributes.expires
    if begins is not None and ends is not None and begins >= ends:
        raise errors.bad_parameter("Property  has invalid value: 'exp' must be later than 'nbf'")


def tags_of(body: Json) -> dict[str, str] | None:
    """The tags that the body sets, or None.

    :raises VaultError: 400, they are no strings, or more than 15.
    """
    tags = body.get("tags")
    if tags is None:
        return None
    if (
        not isinstance(tags, dict)
        or len(tags) > 15
        or not all(isinstance(one, str) for one in tags.values())
    ):
        raise errors.bad_parameter("Property  has invalid value: 'tags'")
    return dict(tags)


def update(asked: Asked, version: Version[Any]) -> None:
    """Change a version's attributes and tags as the body says."""
    changed = copy.copy(version.attributes)
    set_attributes(changed, object_of(asked.body, "attributes"))
    changed.updated = asked.now
    tags = tags_of(asked.body)
    version.attributes = changed
    if tags is not None:
        version.tags = tags


def identifier(asked: Asked, name: str, version: str | None = None) -> str:
    """An object's identifier, of one version where that is given."""
    tail = f"/{version}" if version else ""
    return f"{asked.vault.url}/{asked.operation.kind}/{name}{tail}"


def attributes_json(asked: Asked, version: Version[Any]) -> Json:
    """A version's attributes as the service writes them."""
    attributes = version.attributes
    days = asked.vault.soft_delete_days
    level = "Recoverable" if days == 90 else "CustomizedRecoverable"
    body: Json = {"enabled": attributes.enabled}
    if attributes.not_before is not None:
        body["nbf"] = attributes.not_before
    if attributes.expires is not None:
        body["exp"] = attributes.expires
    body |= {
        "created": attributes.created,
        "updated": attributes.updated,
        "recoveryLevel": level if asked.vault.purge_protection else f"{level}+Purgeable",
        "recoverableDays": days,
    }
    return body


def common_json(asked: Asked, version: Version[Any]) -> Json:
    """What every bundle and list item has besides its identifier."""
    body: Json = {"attributes": attributes_json(asked, version)}
    if version.tags is not None:
        body["tags"] = version.tags
    if version.managed:
        body["managed"] = True
    return body


def page(asked: Asked, rows: list[Json], names: list[str] | None = None) -> Json:
    """One page of a list, and the link to the next.

    :param names: what the rows are sorted by. A link then says after which name it goes on, so
        that a row which is gone meanwhile hides no other.

    :raises VaultError: 400, ``maxresults`` or the token in the link is not one of ours.
    """
    try:
        size = int(asked.query.get("maxresults", MOST_RESULTS))
        token = asked.query.get("$skiptoken")
        after = base64.urlsafe_b64decode(token).decode() if token else ""
        if names is not None:
            start = bisect.bisect_right(names, after) if token else 0
        else:
            start = int(after or 0)
    except ValueError:
        raise errors.bad_parameter("maxresults or $skiptoken is invalid") from None
    if not 1 <= size <= MOST_RESULTS or start < 0:
        raise errors.bad_parameter(f"maxresults must be between 1 and {MOST_RESULTS}")
    link = None
    if start + size < len(rows):
        # The service writes the port out, so that clients see the page on another origin.
        prefix = "deleted" if "deleted" in asked.operation.name else ""
        tail = f"/{asked.name}/versions" if asked.name else ""
        last = names[start + size - 1] if names is not None else str(start + size)
        after = base64.urlsafe_b64encode(last.encode()).decode()
        link = (
            f"{asked.vault.url}:443/{prefix}{asked.operation.kind}{tail}"
            f"?api-version={asked.query['api-version']}&$skiptoken={after}&maxresults={size}"
        )
    return {"value": rows[start : start + size], "nextLink": link}


def by_name(items: Iterable[Item[Any]]) -> list[Item[Any]]:
    """Objects in the order of lists."""
    return sorted(items, key=lambda item: item.name.lower())


def names_of(items: list[Item[Any]]) -> list[str]:
    """What lists are sorted by."""
    return [item.name.lower() for item in items]


def list_items(asked: Asked, summary: Summary) -> Json:
    """All objects in use, by name, as their newest versions are."""
    items = by_name(one for one in shelf(asked).live.values() if one.versions)
    rows = [summary(asked, item, item.current) for item in items]
    return page(asked, rows, names_of(items))


def list_versions(asked: Asked, summary: Summary) -> Json:
    """All versions of one object; of a name that nothing has, none, which is no error."""
    item = shelf(asked).live.get(asked.name.lower())
    rows = [summary(asked, item, one) for one in item.versions.values()] if item else []
    return page(asked, rows)
