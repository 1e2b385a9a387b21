"""Access: who may read. On this machine's own address anybody on it, elsewhere who has the token."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit


def loopback(host: str) -> bool:
    """Whether an address can be reached from this machine alone.

    Example:
        >>> loopback("127.0.0.1"), loopback("localhost"), loopback("::1"), loopback("0.0.0.0")
        (True, True, True, False)
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def new_token() -> str:
    """A token that nobody guesses: 128 bits."""
    return secrets.token_urlsafe(16)


@dataclass(frozen=True)
class Access:
    """What a request must show.

    Args:
        local: whether the server is bound to a loopback address: then requests must name one,
            too. A page of the web whose name was bent to 127.0.0.1 names itself, and is refused.
        token: must come as a cookie, or in the query once; ``""`` where none is asked for.
        cookie: name of the cookie, which browsers share between the ports of a host.
    """

    local: bool
    token: str
    cookie: str = "shiftwatch"

    def names_us(self, host: str) -> bool:
        """Whether the ``Host`` of a request may be served.

        Example:
            >>> access = Access(local=True, token="")
            >>> [access.names_us(h) for h in ("localhost:9", "[::1]:9", "evil.example:9", "")]
            [True, True, False, False]
        """
        if not self.local:
            return True
        try:
            return loopback(urlsplit(f"//{host}").hostname or "")
        except ValueError:
            return False

    def admits(self, cookies: str, given: str) -> bool:
        """Whether cookies or a token of the query open the door; takes as long for any wrong one.

        Example:
            >>> access = Access(local=False, token="s3cret")
            >>> access.admits("", "s3cret"), access.admits("shiftwatch=s3cret", "")
            (True, True)
            >>> access.admits("shiftwatch=s3creT", "é")
            False
        """
        if not self.token:
            return True
        pairs = (pair.strip().partition("=") for pair in cookies.split(";"))
        shown = {name: value for name, _, value in pairs}.get(self.cookie, "")
        by_cookie, by_query = _same(self.token, shown), _same(self.token, given)
        return by_cookie or by_query


def _same(a: str, b: str) -> bool:
    return hmac.compare_digest(a.encode(), b.encode("utf-8", "surrogateescape"))
