"""A client carries what it has written, and cannot make anything of it."""

import pytest

from unitwork._logic.positions import Position
from unitwork.errors import OptionError
from unitwork.integrations.positions import ReadYourWrites

SECRET = "0123456789abcdef"
POSITIONS = [("default", Position.of({"7714": 42})), ("reports", Position.of({"0": 1, "1": 2}))]


def request(*headers: tuple[bytes, bytes], scheme: str = "http") -> dict[str, object]:
    """A request, as ASGI has it."""
    return {"type": "http", "scheme": scheme, "headers": list(headers)}


def test_positions_come_back() -> None:
    """Positions come back."""
    rule = ReadYourWrites(SECRET)

    assert rule.read(rule.sign(POSITIONS)) == dict(POSITIONS)


def test_cookie_is_found_among_others() -> None:
    """Cookie is found among others."""
    rule = ReadYourWrites(SECRET)
    name, value = rule.given(rule.sign(POSITIONS), request())
    cookie = value.partition(b";")[0]

    assert name == b"set-cookie"
    assert rule.read(rule.brought(request((b"cookie", b"a=1; " + cookie + b"; z=2")))) == dict(POSITIONS)
    assert rule.read(rule.brought(request((b"cookie", b"a=1"), (b"cookie", cookie)))) == dict(POSITIONS)


def test_cookie_is_for_the_server_alone() -> None:
    """Cookie is for the server alone."""
    given = ReadYourWrites(SECRET).given("token", request(scheme="https"))[1]

    assert given == b"unitwork_position=token; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure"


def test_header_in_place_of_a_cookie() -> None:
    """Header in place of a cookie."""
    rule = ReadYourWrites(SECRET, header="X-Position")
    header = rule.given(rule.sign(POSITIONS), request())

    assert header[0] == b"x-position"
    assert rule.read(rule.brought(request(header))) == dict(POSITIONS)


def tampered(token: str) -> list[str]:
    """The token with each of its characters changed, and other things that clients may send."""
    changed = [
        token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        for place in range(len(token) - 1)  # the last one may hold bits that mean nothing
    ]
    payload, _dot, signature = token.partition(".")
    return [
        *changed,
        "",
        ".",
        payload,
        f"{payload}.",
        f".{signature}",
        token * 100,
        "ü.ü",
        f"{token}.{signature}",
    ]


def test_what_was_tampered_with_counts_as_absent() -> None:
    """What was tampered with counts as absent."""
    rule = ReadYourWrites(SECRET)

    for token in tampered(rule.sign(POSITIONS)):
        assert rule.read(token) == {}, token


def test_what_another_service_has_signed_counts_as_absent() -> None:
    """What another service has signed counts as absent."""
    assert ReadYourWrites(SECRET).read(ReadYourWrites(SECRET[::-1]).sign(POSITIONS)) == {}


def test_short_secret_is_refused_and_never_shown() -> None:
    """Short secret is refused and never shown."""
    with pytest.raises(OptionError, match="16 or more random characters") as refused:
        ReadYourWrites("hunter2")

    assert "hunter2" not in str(refused.value)
    assert SECRET not in repr(ReadYourWrites(SECRET))
