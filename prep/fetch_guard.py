"""Open one URL of a stranger's, wherever it leads and however slowly it answers. The standard library only.

img2dataset opens any URL that urllib knows (`file://` too), follows redirects into the local network, and reads a
response however slowly it comes. `open_url` does not:

- http and https only, at every step of a redirect;
- every address that a name resolves to must be public, and the connection goes to the address that was checked, so a
  name cannot change its mind in between (DNS rebinding); `refuse_private_sockets` holds for anything else in a process;
- at most `timeout` seconds of silence and `max_seconds` in all, for connections, headers, redirects and body together.
  Only the look-up of a name has limits of its own, the resolver's.

Proxies (http_proxy, https_proxy) are used only with `allow_private`: it would be they who connect, out of this guard's
sight. Certificates are verified.
"""

import http.client
import io
import ipaddress
import re
import socket
import ssl
import sys
import time
import urllib.request
from dataclasses import dataclass
from functools import partial
from typing import IO, Any
from urllib.parse import quote, urljoin, urlsplit

USER_AGENT = "Mozilla/5.0 (compatible; img2dataset; +https://github.com/rom1504/img2dataset)"

# What may be different another time. HTTP: request timeout, too early, too many requests.
_MAY_PASS = re.compile(r"name_server|timed_out|too_slow|unreachable|truncated|tls|http_(408|425|429|5\d\d)")
_TLS = ssl.create_default_context()  # takes long enough that threads must not each make one
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address


class FetchError(Exception):
    """No image came. reason: one word, to count by. detail: one line, for a person."""

    def __init__(self, reason: str, detail: object) -> None:
        self.reason, self.detail = reason, " ".join(str(detail).split())[:200]
        super().__init__(f"{reason}: {self.detail}")


def may_pass(reason: str) -> bool:
    """Whether a `FetchError` of this reason may not come again: a matter of the moment, not of the URL."""
    return _MAY_PASS.fullmatch(reason) is not None


@dataclass(frozen=True, slots=True)
class Limits:
    """timeout: seconds of silence. max_seconds, max_bytes: for one URL. retries: further tries at what may pass."""

    timeout: float = 10.0
    max_seconds: float = 30.0
    max_bytes: int = 16 << 20
    retries: int = 1
    allow_private: bool = False


def is_public(address: str) -> bool:
    """Whether a numeric address is one that anyone may be sent to; one that carries an IPv4 address is judged by it."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        inner = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
        if ip in _NAT64:
            return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
        if any(inner):
            return all(is_public(str(each)) for each in inner if each)
        if ip.is_site_local:  # fec0::/10, which is_global takes for global
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def refuse_private_sockets() -> None:
    """Refuse, from now on and for good, any connection of this process to an address that is not public."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
            sock, address = arguments
            if sock.family in (socket.AF_INET, socket.AF_INET6) and address and not is_public(str(address[0])):
                raise FetchError("address_refused", address[0])

    sys.addaudithook(hook)


class Patience:
    """How long one URL may still take, and where it may lead."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.end = limits, time.monotonic() + limits.max_seconds

    def step(self) -> float:
        """Seconds that the next operation on a socket may take."""
        left = self.end - time.monotonic()
        if left <= 0:
            raise FetchError("too_slow", f"not done in {self.limits.max_seconds:g} s")
        return min(self.limits.timeout, left)

    def connect(self, address: tuple[str, int], *_: object) -> socket.socket:
        """What http.client calls in place of `socket.create_connection`."""
        host, port = address
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        if not self.limits.allow_private:
            for *_rest, where in found:
                if not is_public(str(where[0])):
                    raise FetchError("address_refused", f"{host} is {where[0]}")
        problem = OSError(f"{host} has no address")
        for family, kind, protocol, _name, where in found:
            seconds = self.step()
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(seconds)
                sock.connect(where)
                return sock
            except OSError as error:
                sock.close()
                problem = error
        raise problem

    def guard(self, connection: http.client.HTTPConnection) -> http.client.HTTPConnection:
        """Have a connection, and then its socket, ask here first."""
        connection._create_connection = self.connect  # type: ignore[attr-defined]
        connection.response_class = partial(_Response, self)  # type: ignore[assignment]
        return connection


class _Paced(io.RawIOBase):
    """A socket's bytes; before each read, the socket is told how long it may take."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase, patience: Patience) -> None:
        self._sock, self._raw, self._patience = sock, raw, patience

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        self._sock.settimeout(self._patience.step())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, patience: Patience, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self.fp: Any = io.BufferedReader(_Paced(sock, self.fp.detach(), patience))


class _Http(urllib.request.HTTPHandler):
    def __init__(self, patience: Patience) -> None:
        super().__init__()
        self.patience = patience

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(lambda host, **o: self.patience.guard(http.client.HTTPConnection(host, **o)), req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, patience: Patience) -> None:
        super().__init__(context=_TLS)
        self.patience = patience

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        def make(host: str, **options: Any) -> http.client.HTTPConnection:
            return self.patience.guard(http.client.HTTPSConnection(host, **options))

        return self.do_open(make, req, context=_TLS)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """At most 10, as urllib counts them."""

    def http_error_302(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any
    ) -> IO[bytes] | None:
        fp.close()  # urllib would read it to its end, however far that is
        _check_scheme(urljoin(req.full_url, headers.get("location") or headers.get("uri") or ""))
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _check_scheme(url: str) -> None:
    if (scheme := urlsplit(url).scheme) not in ("http", "https"):
        raise FetchError("scheme_refused", f"{scheme or 'no scheme'}: wanted http or https")


def _spelt(url: object) -> str:
    """A URL as HTTP wants it: people write letters and spaces that must be escaped."""
    if not isinstance(url, str) or not url.strip():
        raise FetchError("bad_url", "empty")
    _check_scheme(url.strip())
    parts = urlsplit(url.strip())
    if not parts.hostname or "@" in parts.netloc:
        raise FetchError("bad_url", "no host" if not parts.hostname else "a user name in it")
    netloc = parts.netloc if parts.netloc.isascii() else parts.netloc.encode("idna").decode()
    path, query = (re.sub(r"[^!-~]+", lambda found: quote(found[0]), part) for part in (parts.path, parts.query))
    return parts._replace(netloc=netloc, path=path, query=query, fragment="").geturl()


def open_url(url: object, patience: Patience) -> http.client.HTTPResponse:
    """Send a GET and return the response to a success, its body still to be read; to be closed by the caller.

    Raises `FetchError`, or what urllib, http.client, ssl and socket raise.
    """
    opener = urllib.request.OpenerDirector()
    handlers = [_Http(patience), _Https(patience), _Redirects()]
    handlers += [urllib.request.HTTPDefaultErrorHandler(), urllib.request.HTTPErrorProcessor()]
    for handler in (*handlers, *((urllib.request.ProxyHandler(),) if patience.limits.allow_private else ())):
        opener.add_handler(handler)
    request = urllib.request.Request(_spelt(url), headers={"User-Agent": USER_AGENT})
    response = opener.open(request, timeout=patience.limits.timeout)
    assert isinstance(response, http.client.HTTPResponse)
    return response
