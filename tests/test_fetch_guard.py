"""The guard and what stands on it, against a server on the loopback address that does what it likes.

Redirects are followed from 127.0.0.1, which is let pass for public here, to 127.0.0.2, which is not.
"""

import ipaddress
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prep import fetch_guard
from prep.fetch_guard import FetchError, Limits, is_public, may_pass
from prep.fetch_image import fetch, fetch_patiently

from .hostile_server import HostileServer, picture, serving

LIMITS = Limits(timeout=60, max_seconds=60, max_bytes=1 << 20, retries=0, allow_private=True)


@pytest.fixture(scope="module")
def server() -> Iterator[HostileServer]:
    with serving() as server:
        yield server


def reason_of(url: object, limits: Limits = LIMITS) -> str:
    with pytest.raises(FetchError) as caught:
        fetch(url, limits)
    assert caught.value.detail
    assert "\n" not in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),  # where clouds keep credentials
        ("100.100.100.200", False),  # another cloud's
        ("224.0.0.1", False),
        ("239.255.255.250", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("::127.0.0.1", False),
        ("fe80::1", False),
        ("fe80::1%1", False),
        ("fec0::1", False),
        ("fd00:ec2::254", False),
        ("ff02::1", False),
        ("2001:db8::1", False),
        ("64:ff9b::8.8.8.8", True),
    ],
)
def test_an_address_is_public_or_not(address: str, public: bool) -> None:
    assert is_public(address) is public


@given(
    st.one_of(st.ip_addresses(v=4), st.sampled_from(["127.0.0.1", "10.0.0.1", "8.8.8.8"]).map(ipaddress.IPv4Address))
)
def test_an_address_inside_another_is_judged_alike(inner: ipaddress.IPv4Address) -> None:
    for outer in (0xFFFF << 32 | int(inner), 0x2002 << 112 | int(inner) << 80, 0x64FF9B << 96 | int(inner)):
        assert is_public(str(ipaddress.IPv6Address(outer))) == is_public(str(inner))


@pytest.mark.parametrize("path", ["good/1", "png", "unannounced", "modest", "understated"])
def test_an_image_is_fetched_whatever_its_type_is_called(server: HostileServer, path: str) -> None:
    data = fetch(f"{server.url}/{path}", LIMITS)
    wanted = {"good/1": picture(1), "png": picture(0, "PNG"), "understated": picture(0)[:-100]}
    assert data == wanted.get(path, picture(0))


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("cut", "truncated"),
        ("cut-chunks", "truncated"),
        ("announced-huge", "too_large"),
        ("endless", "too_large"),
        ("html", "not_an_image"),
        ("empty", "not_an_image"),
        ("code/404", "http_404"),
        ("code/503", "http_503"),
        ("garbage", "bad_response"),
        ("loop", "redirects"),
        ("to/file:///etc/passwd", "scheme_refused"),
        ("to/ftp://127.0.0.1/a.jpg", "scheme_refused"),
        ("to/data:image/gif;base64,R0lGODlhAQABAAAAACw=", "scheme_refused"),
    ],
)
def test_what_is_no_image_has_a_reason(server: HostileServer, path: str, reason: str) -> None:
    assert reason_of(f"{server.url}/{path}") == reason


def test_a_server_may_be_neither_silent_nor_slow_for_long(server: HostileServer) -> None:
    for path in ("slow-body", "slow-headers", "silent"):
        assert reason_of(f"{server.url}/{path}", Limits(timeout=60, max_seconds=0.5, allow_private=True)) == "too_slow"
    assert reason_of(f"{server.url}/silent", Limits(timeout=0.5, max_seconds=60, allow_private=True)) == "timed_out"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("file:///etc/passwd", "scheme_refused"),
        ("FTP://127.0.0.1/a.jpg", "scheme_refused"),
        ("data:image/gif;base64,R0lGODlhAQABAAAAACw=", "scheme_refused"),
        ("/etc/passwd", "scheme_refused"),
        ("", "bad_url"),
        (None, "bad_url"),
        (7, "bad_url"),
        ("http://", "bad_url"),
        ("http://[::1/a", "bad_url"),
        ("http://me:secret@127.0.0.1/a", "bad_url"),
        ("http://127.0.0.1:port/a", "bad_url"),
        ("http://" + "a" * 70 + ".example/a", "bad_url"),
        ("http://no-such-name.invalid/a", "name_not_found"),
    ],
)
def test_what_is_no_url_has_a_reason(url: object, reason: str) -> None:
    found = reason_of(url)
    assert found == reason or (
        reason == "name_not_found" and found == "name_server"
    )  # as the machine's resolver has it


def test_a_closed_port_is_unreachable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        assert reason_of(f"http://127.0.0.1:{taken.getsockname()[1]}/a") == "unreachable"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "0.0.0.0"])
def test_private_addresses_are_refused_however_they_are_spelt(server: HostileServer, host: str) -> None:
    before = server.requests.total()
    assert reason_of(f"http://{host}:{server.server_address[1]}/good/1", Limits()) == "address_refused"
    assert server.requests.total() == before


def test_redirects_are_guarded(server: HostileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_guard, "is_public", lambda address: address == "127.0.0.1")
    with serving("127.0.0.2") as inner:
        assert reason_of(f"{server.url}/to/{inner.url}/good/1", Limits()) == "address_refused"
        assert fetch(f"{server.url}/to/{server.url}/good/3", Limits()) == picture(3)
        assert fetch(f"{server.url}/to/{inner.url}/good/4", LIMITS) == picture(4)
        assert list(inner.requests) == ["/good/4"]


def test_a_name_is_resolved_once_and_all_its_addresses_count(
    server: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [["127.0.0.1"], ["127.0.0.2"]]
    asked = []

    def getaddrinfo(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in answers[len(asked) - 1]]

    monkeypatch.setattr(fetch_guard, "is_public", lambda address: address == "127.0.0.1")
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    url = f"http://changes-its-mind.example:{server.server_address[1]}/good/5"
    assert fetch(url, Limits()) == picture(5)
    assert asked == ["changes-its-mind.example"]
    answers[1] = ["127.0.0.1", "127.0.0.2"]
    assert reason_of(url, Limits()) == "address_refused"


def test_proxies_are_used_only_where_private_addresses_are_allowed(
    server: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    assert reason_of(f"{server.url}/good/1") == "unreachable"
    monkeypatch.setattr(fetch_guard, "is_public", lambda address: address == "127.0.0.1")
    assert fetch(f"{server.url}/good/1", Limits()) == picture(1)


def test_no_socket_of_a_guarded_process_reaches_a_private_address(server: HostileServer) -> None:
    program = f"""
import socket
from prep.fetch_guard import FetchError, refuse_private_sockets
refuse_private_sockets()
def refused(act):
    try: act()
    except FetchError as error: return error.reason == "address_refused"
where = ("127.0.0.1", {server.server_address[1]})
assert refused(lambda: socket.create_connection(where))
assert refused(lambda: socket.socket().connect_ex(where))
assert refused(lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", where))
here, there = socket.socketpair()
here.send(b"x")
"""
    root = Path(__file__).parents[1]
    ran = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_only_what_may_pass_is_tried_again(server: HostileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    limits = Limits(retries=2, allow_private=True)
    assert fetch_patiently(f"{server.url}/busy-once/a", limits, lambda headers: False) == picture(0)
    for path, num_tries in (("code/503", 3), ("code/410", 1)):
        before = server.requests[f"/{path}"]
        with pytest.raises(FetchError):
            fetch_patiently(f"{server.url}/{path}", limits, lambda headers: False)
        assert server.requests[f"/{path}"] - before == num_tries
    assert may_pass("http_429")
    assert not may_pass("http_4290")
