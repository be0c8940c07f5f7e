"""This module asks a panel of another program for what it knows."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import click
from typing_extensions import override

_TIMEOUT_S = 10
_MOST_BYTES = 64_000_000
_NOT_FOUND, _FORBIDDEN, _UNAUTHORIZED = 404, 403, 401


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nowhere: what says who one is would go there, too."""

    @override
    def redirect_request(self, *_request: Any, **_more: Any) -> None:
        return None


class PanelClient:
    """Asks one panel. Lives: one command.

    Args:
        url: Where its page is.
        headers: Sent with each question, as `Name: value`.

    Raises:
        click.UsageError: The address or a header cannot be read.
    """

    def __init__(self, url: str, headers: Sequence[str]) -> None:
        parts = urlsplit(url)
        self._url = parts._replace(query="", fragment="").geturl().rstrip("/")
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise click.UsageError(
                f"{url!r} is no address of a page.\n  Fix: write such as http://localhost:8000/unitwork."
            )
        self._headers = dict(map(_header, headers))
        self._opener = urllib.request.build_opener(_NoRedirect)

    def state(self) -> dict[str, Any]:
        """Return what it knows now, the newest traces alone.

        Raises:
            click.ClickException: There is no panel, or it does not admit this one.
        """
        request = urllib.request.Request(f"{self._url}/state?brief", headers=self._headers)  # noqa: S310  # checked above
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S) as answer:
                told: Any = json.loads(answer.read(_MOST_BYTES))
        except urllib.error.HTTPError as error:
            error.close()
            raise self._failed(_reason(error.code, error.headers.get("location"))) from None
        except urllib.error.URLError as error:
            raise self._failed(f"Nobody answers: {error.reason}.") from None
        except (http.client.HTTPException, OSError) as error:
            raise self._failed(f"The connection was lost: {type(error).__name__}.") from None
        except ValueError:
            raise self._failed("What answers is no panel.") from None
        if not isinstance(told, dict) or not {"panel", "traces", "queries"} <= told.keys():
            raise self._failed("What answers is no panel.")
        return told

    def _failed(self, why: str) -> click.ClickException:
        return click.ClickException(f"{why}\n  Address: {self._url}/")


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip() or "\n" in text or "\r" in text:
        # The value is not repeated: it may be a secret.
        raise click.UsageError("A header cannot be read.\n  Fix: write --header 'Name: value'.")
    return name.strip(), value.strip()


def _reason(status: int, location: str | None) -> str:
    if status in (_UNAUTHORIZED, _FORBIDDEN):
        fix = "say it, such as --header 'Authorization: Bearer …'."
        return f"The program asks who you are ({status}).\n  Fix: {fix}"
    if status == _NOT_FOUND:
        return (
            "There is no panel, or it does not admit you (404).\n"
            "  Fix: give the address of its page; where it has a rule, what it asks for with --header."
        )
    if location is not None:
        return f"The program sends elsewhere ({status}), to {location}: that is not followed."
    return f"The program answers {status}."
