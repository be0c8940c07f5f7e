"""This module decides who may see the panel, and which requests may make it do something."""

from __future__ import annotations

import asyncio
import inspect
import ipaddress
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from unitwork.errors import OptionError

# Each framework has types of its own for scopes.
Scope: TypeAlias = Any
Allow: TypeAlias = Callable[[Scope], bool | Awaitable[bool]]

_ASKING = b"x-unitwork-panel"


class Gate:
    """Says who is admitted. Lives: as long as the panel.

    Args:
        allow: Says by the ASGI scope of a request whether it is; whoever it raises for is not.
        development: Admit all who come by a name of this machine or its network, if there is no rule.
    """

    def __init__(self, allow: Allow | None, *, development: bool) -> None:
        if allow is None and not development:
            raise OptionError(
                "allow",
                None,
                [
                    "a function of the ASGI scope that says who may see the statements of this program",
                    "Panel(db, development=True) on a machine of your own",
                ],
            )
        if allow is not None and not callable(allow):
            raise OptionError("allow", allow, ["a function of the ASGI scope"])
        self._allow = allow
        self._failed = False

    async def admits(self, scope: Scope) -> bool:
        """Say whether a request may see anything at all."""
        if self._allow is None:
            return _is_local_name(header(scope, b"host"))
        try:
            answer = self._allow(scope)
            if inspect.isawaitable(answer):
                answer = await answer
        except Exception as error:  # noqa: BLE001  # told once, and nobody is admitted
            self._tell(error)
            return False
        # Only what says yes: a function that forgets to return says None, one that returns a user a user.
        return bool(answer)

    def _tell(self, error: Exception) -> None:
        if self._failed:
            return
        self._failed = True
        message = "The function `allow` of a Panel failed: nobody is admitted. This is told once."
        context = {"message": message, "exception": error}
        asyncio.get_running_loop().call_exception_handler(context)


def is_of_this_page(scope: Scope) -> bool:
    """Say whether a request that does something comes from the panel's own page, or from a program.

    A page of another site cannot add the header, since nobody answers its question whether it may; and what
    the browser says of the origin must agree.
    """
    if header(scope, _ASKING) is None:
        return False
    site = header(scope, b"sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = header(scope, b"origin")
    return origin is None or urlsplit(origin).netloc == header(scope, b"host")


def header(scope: Scope, name: bytes) -> str | None:
    """Return a header of the request; None if there is none, or several that differ."""
    found = {value for key, value in scope.get("headers", ()) if key.lower() == name}
    return found.pop().decode("latin-1") if len(found) == 1 else None


def _is_local_name(host: str | None) -> bool:
    """Say whether a host is no name of the public Internet, which may belong to somebody else's page."""
    try:
        name = urlsplit(f"//{host or ''}").hostname or ""
    except ValueError:
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        name = name.rstrip(".")
        return bool(name) and (
            "." not in name or name.endswith((".localhost", ".local", ".test", ".internal"))
        )
    return True
