"""A web server on the loopback address that is good, slow, broken, oversized or lying, as the path asks."""

import io
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from PIL import Image

MAX_STREAM_BYTES = 64 << 20  # of what would be endless
DRIPS_A_SECOND = 20


@cache
def picture(seed: int, kind: str = "JPEG", size: tuple[int, int] = (64, 48)) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(file, kind)
    return file.getvalue()


class _Handler(BaseHTTPRequestHandler):
    server: "HostileServer"

    def do_GET(self) -> None:
        first, _, rest = self.path.lstrip("/").partition("/")
        with self.server.lock:
            self.server.requests[self.path] += 1
        answer = getattr(self, f"answer_{first.replace('-', '_')}", None)
        with suppress(BrokenPipeError, ConnectionResetError):  # the client had enough, as it should
            if answer:
                answer(rest)
            else:
                self.send_error(404)
        self.close_connection = True

    def handle(self) -> None:
        with suppress(OSError):  # a handshake that the client broke off
            super().handle()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def reply(self, body: bytes, length: int | None = None, code: int = 200, **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if length != -1:
            self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def drip(self, data: bytes) -> None:
        for i in range(len(data)):
            self.wfile.write(data[i : i + 1])
            self.wfile.flush()
            time.sleep(1 / DRIPS_A_SECOND)

    def answer_good(self, name: str) -> None:
        self.reply(picture(int(name or 0)), Content_Type="image/jpeg")

    def answer_png(self, name: str) -> None:
        self.reply(picture(0, "PNG"), Content_Type="image/png")

    def answer_unannounced(self, name: str) -> None:
        self.reply(picture(0), length=-1)

    def answer_modest(self, name: str) -> None:
        self.reply(picture(0), Content_Type="text/html")

    def answer_slow_body(self, name: str) -> None:
        self.reply(b"", length=5000)
        self.drip(picture(0)[:1000])

    def answer_slow_headers(self, name: str) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        self.drip(b"X-Padding: " + b"x" * 1000)

    def answer_silent(self, name: str) -> None:
        self.server.ended.wait(30)

    def answer_held(self, name: str) -> None:
        with self.server.lock:
            number = self.server.requests.total()
        while number > self.server.num_served and not self.server.ended.wait(0.01):
            pass
        self.answer_good(name)

    def answer_cut(self, name: str) -> None:
        data = picture(0)
        self.reply(data[:-100], length=len(data))

    def answer_cut_chunks(self, name: str) -> None:
        self.reply(b"400\r\n" + picture(0)[:100], length=-1, Transfer_Encoding="chunked")

    def answer_understated(self, name: str) -> None:
        self.reply(picture(0), length=len(picture(0)) - 100)

    def answer_announced_huge(self, name: str) -> None:
        self.reply(picture(0), length=1 << 40)

    def answer_endless(self, name: str) -> None:
        self.reply(picture(0), length=-1)
        for _ in range(MAX_STREAM_BYTES >> 16):
            self.wfile.write(bytes(1 << 16))

    def answer_html(self, name: str) -> None:
        self.reply(b"<!DOCTYPE html><title>Not found</title>" * 50, Content_Type="image/jpeg")

    def answer_empty(self, name: str) -> None:
        self.reply(b"", Content_Type="image/jpeg")

    def answer_code(self, code: str) -> None:
        self.reply(b"", code=int(code))

    def answer_busy_once(self, name: str) -> None:
        if self.server.requests[self.path] == 1:
            self.answer_code("503")
        else:
            self.answer_good("0")

    def answer_opted_out(self, name: str) -> None:
        self.reply(picture(0), X_Robots_Tag="noai")

    def answer_to(self, target: str) -> None:
        self.reply(b"", code=302, Location=target)

    def answer_loop(self, name: str) -> None:
        self.reply(b"", code=301, Location=self.path)

    def answer_garbage(self, name: str) -> None:
        self.wfile.write(b"\0\1\2 not HTTP\r\n\r\n")


class HostileServer(ThreadingHTTPServer):
    """requests: how often each path was asked for. num_served: so many of them are answered where `held` is asked for,
    and the others wait.
    """

    daemon_threads = True
    request_queue_size = 128  # beyond it, a connection waits a second for the kernel's next try
    block_on_close = False

    def __init__(self, host: str, tls: ssl.SSLContext | None = None) -> None:
        super().__init__((host, 0), _Handler)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.requests: Counter[str] = Counter()
        self.num_served = float("inf")
        self.lock, self.ended = threading.Lock(), threading.Event()
        self.url = f"http{'s' if tls else ''}://{host}:{self.server_address[1]}"


@contextmanager
def serving(host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Iterator[HostileServer]:
    with HostileServer(host, tls) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.ended.set()
            server.shutdown()
            thread.join()
