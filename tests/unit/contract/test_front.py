"""The images' front: what clients may do without holding up a server that takes one at a time."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from plinth.core.errors import PlinthError
from plinth.core.settings import Config
from plinth.fetch.interpreter import find_python
from support import needs
from support.patience import at_most

FRONT = Path(__file__).resolve().parents[3] / "base/rootfs/usr/local/bin/plinth-front"
# One request at a time, as the synchronous worker of the images: what it answers depends on the
# path. It notes every request it has read, and stops on SIGTERM after the one it is at.
SERVER = r"""
import hashlib, json, os, signal, socket, sys, time

listener = socket.socket(fileno=3)
listener.setblocking(True)
stopping = []
signal.signal(signal.SIGTERM, lambda *_: stopping.append(1) or listener.close())
print("up", os.environ["LISTEN_FDS"], os.environ["LISTEN_PID"] == str(os.getpid()), flush=True)
while not stopping:
    try:
        client, _ = listener.accept()
    except OSError:
        break
    stream = client.makefile("rb")
    lines = []
    while not lines or lines[-1]:
        lines.append(stream.readline().rstrip(b"\r\n").decode("latin-1"))
    path = lines[1].split()[1]
    print("request", path, flush=True)
    length = int(next(line for line in lines if line.startswith("Content-Length:"))[15:])
    kind, _, value = path[1:].partition("/")
    sha = hashlib.sha256()
    while length and kind != "early":
        data = stream.read(min(length, 1 << 16))
        length -= len(data)
        sha.update(data)
    answer = json.dumps([lines[:-1], sha.hexdigest()]).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    try:
        if kind == "exit":
            sys.exit(int(value))
        elif kind == "kill":
            os.kill(os.getpid(), int(value))
        elif kind == "big":
            client.sendall(head % (int(value) << 20))
            for _ in range(int(value)):
                client.sendall(bytes(1 << 20))
        elif kind == "stream":
            for _ in range(2):
                client.sendall(b"part")
                time.sleep(1)
        elif kind != "silent":
            time.sleep(float(value or 0) if kind == "wait" else 0)
            client.sendall(head % len(answer) + answer)
    except ConnectionError:
        pass
    stream.close()
    client.close()
print("down", flush=True)
sys.exit(int(os.environ.get("ENDS_WITH", 0)))
"""


@dataclass(frozen=True)
class Front:
    """A front that runs, and the log of both it and its server."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def connect(self, data: bytes = b"") -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        client.sendall(data)
        return client

    def ask(self, data: bytes) -> bytes:
        """All that comes back for `data` until the connection is closed."""
        with self.connect(data) as client:
            return rest(client)

    def requests(self) -> list[str]:
        """The paths of the requests the server has read."""
        return [line[8:] for line in self.lines() if line.startswith("request ")]

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()

    def until(self, line: str) -> None:
        deadline = time.monotonic() + 60
        while line not in self.lines():
            assert time.monotonic() < deadline, self.lines()
            time.sleep(0.01)

    def memory(self) -> int:
        """The most memory it ever had, in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) >> 10


Start = Callable[..., Front]


@functools.cache
def python() -> str:
    """The images' Python, or where there is none this one."""
    with contextlib.suppress(PlinthError):
        return str(find_python("3.7", Config()))
    return sys.executable


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """A function that starts a front, with other values for some of its constants."""
    with contextlib.ExitStack() as stack:

        def begin(*command: str, **constants: object) -> Front:
            text = FRONT.read_text()
            for name, value in constants.items():
                (line,) = (one for one in text.splitlines() if one.startswith(f"{name} = "))
                text = text.replace(line, f"{name} = {value}")
            program, server, log = (tmp_path / name for name in ("front", "server", "log"))
            program.write_text(text)
            server.write_text(SERVER)
            port, backend = free_ports(2)
            words = command or (sys.executable, str(server))
            process = subprocess.Popen(
                [python(), "-IS", str(program), str(port), str(backend), *words],
                stdout=stack.enter_context(log.open("wb")),
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            stack.callback(kill, process)
            front = Front(process, port, log)
            if not command:
                front.until("up 1 True")
            return front

        yield begin


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a front and its server."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def rest(client: socket.socket) -> bytes:
    """What comes until the end."""
    parts = []
    while part := client.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def post(body: bytes = b"", path: str = "/", *fields: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", *fields, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def chunked(*parts: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(parts)


def passed(response: bytes) -> tuple[list[str], str]:
    """What the server was sent, as it answered: the lines of the head, SHA-256 of the body."""
    head, _, body = response.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n"), response
    lines, sha = json.loads(body)
    return lines, sha


def refusal(response: bytes) -> tuple[int, str]:
    """Status and message of an answer that is the front's own."""
    head, _, body = response.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}\r\n".encode() in head, response
    assert b"Connection: close" in head
    return int(head.split()[1]), json.loads(body)["message"]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_request_is_passed_on_with_the_address_of_its_client(start: Start) -> None:
    front = start()
    data = post(b"body", "/a?b", "X-Own: Yes ", "Connection: keep-alive")
    with front.connect(data) as client:
        address = f"127.0.0.1 127.0.0.1 {client.getsockname()[1]} {front.port}"
        lines, sha = passed(rest(client))
    assert lines == [
        f"PROXY TCP4 {address}",
        "POST /a?b HTTP/1.1",
        "Host: x",
        "X-Own: Yes ",
        "Content-Length: 4",
        "Connection: close",
    ]
    assert sha == sha256(b"body")


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n", post(b"x" * 99)[:-1], chunked(b"5\r\nab")],
    ids=["idle", "half a line", "half a head", "half a body", "half a chunk"],
)
def test_clients_that_do_not_finish_change_nothing(start: Start, sent: bytes) -> None:
    front = start()
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(front.connect(sent))
        begun = time.monotonic()
        for _ in range(20):
            passed(front.ask(post(b"body")))
        assert time.monotonic() - begun < at_most(2)
    assert front.memory() < 40


def test_a_client_that_keeps_its_connection_changes_nothing(start: Start) -> None:
    front = start()
    with front.connect(post(path="/first")) as client:
        passed(rest(client))
        passed(front.ask(post()))


def test_a_request_may_come_byte_by_byte(start: Start) -> None:
    front = start()
    with front.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in chunked(b"3;x=y\r\nabc\r\n", b"0\r\nT: v\r\n\r\n"):
            client.sendall(bytes([byte]))
        assert passed(rest(client))[1] == sha256(b"abc")


def test_a_chunked_body_is_passed_on_with_its_length(start: Start) -> None:
    parts = (b"3\r\nabc\r\n", b"00A;ext=1\r\n0123456789\r\n", b"0\r\nTrailer: v\r\n\r\n")
    lines, sha = passed(start().ask(chunked(*parts)))
    assert lines[2:] == ["Host: x", "Content-Length: 13", "Connection: close"]
    assert sha == sha256(b"abc0123456789")


def test_chunks_of_any_size_are_put_together(start: Start) -> None:
    pick = random.Random(1)  # noqa: S311 - the same sizes every time
    parts = [pick.randbytes(pick.choice((1, 2, 9, 300, 70_000))) for _ in range(3000)]
    chunks = (b"%x;e\r\n%s\r\n" % (len(part), part) for part in parts)
    _, sha = passed(start().ask(chunked(*chunks, b"0\r\n\r\n")))
    assert sha == sha256(b"".join(parts))


def test_chunks_of_one_byte_delay_no_other_client_and_no_end(start: Start) -> None:
    front = start()
    clients = [front.connect(chunked()) for _ in range(8)]

    def flood(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            client.sendall(b"1\r\na\r\n" * 1_000_000)

    with ThreadPoolExecutor(len(clients)) as pool:
        floods = [pool.submit(flood, client) for client in clients]
        time.sleep(0.5)
        begun = time.monotonic()
        for _ in range(3):
            passed(front.ask(post()))
        assert time.monotonic() - begun < at_most(4)
        assert not any(one.done() for one in floods)
        begun = time.monotonic()
        front.process.send_signal(signal.SIGTERM)
        assert front.process.wait(timeout=60) == 0
        assert time.monotonic() - begun < at_most(4)


def test_a_large_body_is_passed_on_and_not_held_in_memory(start: Start) -> None:
    front = start()
    body = bytes(range(256)) * (80 << 12)
    assert passed(front.ask(post(body)))[1] == sha256(body)
    assert front.memory() < 40


def test_a_client_that_waits_for_100_gets_it_once(start: Start) -> None:
    front = start()
    head = post(b"body", "/", "Expect: 100-continue")[:-4]
    with front.connect(head) as client:
        assert client.recv(1024) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"body")
        lines, sha = passed(rest(client))
    assert sha == sha256(b"body")
    assert not [line for line in lines if line.startswith("Expect")]
    # No 100 where the body is there, is empty, or will not be taken; none to HTTP/1.0.
    assert passed(front.ask(head + b"body"))[1] == sha256(b"body")
    passed(front.ask(post(b"", "/", "Expect: 100-continue")))
    too_much = head.replace(b"Length: 4", b"Length: 999999999")
    assert refusal(front.ask(too_much))[0] == 413


def test_an_empty_line_before_a_request_is_ignored(start: Start) -> None:
    lines, sha = passed(start().ask(b"\r\n" + post(b"body")))
    assert lines[1] == "POST / HTTP/1.1"
    assert sha == sha256(b"body")


def test_fields_that_wsgi_takes_for_others_are_dropped(start: Start) -> None:
    fields = (
        "SCRIPT_NAME: /public",
        "X-Front-Client: 9.9.9.9",
        "Content_Length: 9",
        "X_A: 1",
        "X.B: 1",
        "X-C: 1",
        "X!: 1",
    )
    lines, sha = passed(start().ask(post(b"body", "/", *fields)))
    assert lines[2:-1] == ["Host: x", "X-C: 1", "Content-Length: 4"]
    assert sha == sha256(b"body")


INVALID = {
    "two lengths": b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
    "a negative length": b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    "a list of lengths": b"GET / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n",
    "a length with a sign": b"GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
    "length and chunks": chunked().replace(b"Host: x", b"Content-Length: 3"),
    "two codings": chunked().replace(b"chunked", b"chunked\r\nTransfer-Encoding: chunked"),
    "another coding": chunked().replace(b"chunked", b"gzip, chunked"),
    "a blank before the colon": b"GET / HTTP/1.1\r\nContent-Length : 3\r\n\r\nabc",
    "a folded line": b"GET / HTTP/1.1\r\nX: a\r\n b: c\r\n\r\n",
    "a line without colon": b"GET / HTTP/1.1\r\nHost\r\n\r\n",
    "a bare line feed": b"GET / HTTP/1.1\r\nX: a\nContent-Length: 3\r\n\r\n",
    "a bare carriage return": b"GET / HTTP/1.1\r\nX: a\rContent-Length: 3\r\n\r\n",
    "a zero byte": b"GET / HTTP/1.1\r\nX: \0\r\n\r\n",
    "no request line": b"\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "lines that end with LF": b"GET / HTTP/1.1\nHost: x\n\n",
    "chunks that end with LF": chunked(b"1\na\n0\n\n"),
    "trailers that end with LF": chunked(b"0\r\nT: v\n\n"),
    "a chunk without size": chunked(b"x\r\n"),
    "a chunk longer than its size": chunked(b"1\r\nabc\r\n0\r\n\r\n"),
    "a size with a sign": chunked(b"+1\r\na\r\n0\r\n\r\n"),
}


@pytest.mark.parametrize("name", INVALID)
def test_what_two_readers_could_read_in_two_ways_is_refused(start: Start, name: str) -> None:
    front = start()
    status, message = refusal(front.ask(INVALID[name]))
    assert status in (400, 501)
    assert message.startswith("the request has ")
    passed(front.ask(post(path="/after")))
    assert front.requests() == ["/after"]
    assert f"plinth-front: {status} to 127.0.0.1: {message}" in front.lines()


def test_what_follows_a_request_is_not_a_second_one(start: Start) -> None:
    front = start()
    assert front.ask(post(b"1", "/one") + post(b"2", "/two")).count(b" 200 OK") == 1
    passed(front.ask(post(path="/after")))
    assert front.requests() == ["/one", "/after"]


def test_the_address_of_a_client_cannot_be_forged(start: Start) -> None:
    lines, _ = passed(start().ask(b"PROXY / 1.2.3.4 5.6.7.8 1 2\r\nHost: x\r\n\r\n"))
    assert lines[0].startswith("PROXY TCP4 127.0.0.1 ")
    assert lines[1] == "PROXY / 1.2.3.4 5.6.7.8 1 2"


def test_clients_come_over_ipv6_too(start: Start) -> None:
    if not socket.has_dualstack_ipv6():
        needs.skip("IPv6")
    with socket.create_connection(("::1", start().port), timeout=60) as client:
        client.sendall(post(b"1"))
        lines, _ = passed(rest(client))
    assert lines[0].startswith("PROXY TCP6 ::1 ::1 ")


@pytest.mark.parametrize(
    ("status", "request_"),
    [
        (413, post(b"x" * (8 << 20))),
        (413, chunked(b"500001\r\n", b"x" * 0x500001, b"\r\n0\r\n\r\n")),
        (431, b"GET /" + b"x" * (9 << 20) + b" HTTP/1.1\r\n\r\n"),
        (431, chunked(b"0\r\n", b"T: v\r\n" * 100_000, b"\r\n")),
    ],
    ids=["body", "chunk", "head", "trailers"],
)
def test_what_is_too_large_is_refused_and_its_client_reads_that(
    start: Start, status: int, request_: bytes
) -> None:
    front = start(BODY_LIMIT=5 << 20)
    # The client sends all of it before it reads.
    assert refusal(front.ask(request_))[0] == status
    assert front.requests() == []
    assert passed(front.ask(post(b"x" * (5 << 20))))


def test_the_limit_of_bodies_is_a_setting(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRONT_BODY_LIMIT_MB", "5")
    front = start()
    assert refusal(front.ask(post(b"x" * (6 << 20))))[0] == 413
    assert passed(front.ask(post(b"x" * (5 << 20))))


def test_a_server_that_does_not_answer_in_time_is_not_waited_for(start: Start) -> None:
    front = start(SERVER_TIMEOUT=0.5)
    begun = time.monotonic()
    status, message = refusal(front.ask(post(path="/wait/3")))
    assert (status, "FRONT_TIMEOUT" in message) == (504, True)
    assert time.monotonic() - begun < at_most(2)


def test_probes_cost_the_server_nothing(start: Start, tmp_path: Path) -> None:
    front = start(PROBES=repr(str(tmp_path)))
    health, ready = b"GET /health HTTP/1.1\r\n\r\n", b"GET /ready HTTP/1.1\r\n\r\n"
    assert front.ask(health).endswith(b"\r\n\r\nHealthy")
    assert front.ask(ready).startswith(b"HTTP/1.1 503 ")
    (tmp_path / "ready").touch()
    assert front.ask(ready).startswith(b"HTTP/1.1 200 OK\r\n")
    assert front.ask(ready.replace(b"GET", b"HEAD")).endswith(b"\r\n\r\n")
    assert front.requests() == []
    # Nothing else is a probe.
    assert passed(front.ask(post(path="/ready")))


def test_a_request_that_does_not_arrive_is_ended(start: Start) -> None:
    front = start(HEAD_TIMEOUT=0.5, PAUSE_TIMEOUT=0.5)
    begun = time.monotonic()
    with front.connect() as idle, front.connect(b"GET /") as head, front.connect() as slow:
        for byte in post(b"b" * 20):
            slow.sendall(bytes([byte]))
            if byte == 98:
                time.sleep(0.05)
        passed(rest(slow))
        with front.connect(post(b"body")[:-1]) as body:
            assert refusal(rest(body))[0] == refusal(rest(head))[0] == 408
        # Who has asked nothing is told nothing.
        assert rest(idle) == b""
    assert time.monotonic() - begun < at_most(5)
    assert front.requests() == ["/"]


@pytest.fixture
def small(tmp_path: Path) -> str:
    """CGROUP of a container with little memory."""
    limit = tmp_path / "memory.max"
    limit.write_text(f"{4 << 20}\n")
    return repr(("/no/such/file", str(limit)))


def test_large_bodies_share_a_room_that_small_requests_still_find(start: Start, small: str) -> None:
    front = start(CGROUP=small, ROOM=16 << 20, BODY_LIMIT=8 << 20)
    body = bytes(8 << 20)
    for stalled in (post(body)[: 6 << 20], chunked(b"700000\r\n", body[: 6 << 20])):
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(front.connect(stalled)) for _ in range(3)]
            (refused,) = select.select(clients, [], [], 10)[0]
            response = rest(refused)
            assert refusal(response)[0] == 503
            assert b"\r\nRetry-After: " in response
            for _ in range(20):
                passed(front.ask(post(b"x" * 9999)))
        # Whoever ends leaves its room, whole requests too.
        wait_for_room(front, post(body))
        for _ in range(4):
            passed(front.ask(post(body)))
    assert front.memory() < 40


def test_requests_that_wait_for_the_server_share_the_room(start: Start, small: str) -> None:
    front = start(CGROUP=small, ROOM=16 << 20, BODY_LIMIT=8 << 20)
    body = bytes(6 << 20)
    with ThreadPoolExecutor(4) as pool:
        busy = pool.submit(front.ask, post(path="/wait/2"))
        front.until("request /wait/2")
        answers = list(pool.map(front.ask, [post(body)] * 3))
        passed(busy.result())
    assert sorted(int(answer.split()[1]) for answer in answers) == [200, 200, 503]


def test_clients_that_only_connect_share_the_room(start: Start, small: str) -> None:
    front = start(CGROUP=small, ROOM=1 << 20)
    with contextlib.ExitStack() as stack:
        for _ in range(64):
            stack.enter_context(front.connect())
        assert refusal(front.ask(post()))[0] == 503
    wait_for_room(front, post())


def test_heads_whose_bodies_do_not_come_share_the_room(start: Start, small: str) -> None:
    front = start(CGROUP=small, ROOM=8 << 20)
    head = post(b"x", "/", *["a:"] * 15_000)[:-1]
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(front.connect(head)) for _ in range(120)]
        assert refusal(rest(select.select(clients, [], [], 10)[0][0]))[0] == 503
        passed(front.ask(post()))
    assert front.memory() < 40


def test_responses_ahead_of_their_clients_share_a_room(start: Start, small: str) -> None:
    front = start(CGROUP=small, PAUSE_TIMEOUT=1)
    with front.connect(post(path="/big/100")) as slow:
        # The server waits, for a client that reads nothing no longer than a pause may take.
        front.until("request /big/100")
        time.sleep(0.5)
        files = [path.stat() for path in Path(f"/proc/{front.process.pid}/fd").iterdir()]
        assert max(one.st_size for one in files) < 3 << 20
        passed(front.ask(post()))
        assert len(rest(slow)) < 100 << 20
    assert len(front.ask(post(path="/big/100"))) > 100 << 20


def wait_for_room(front: Front, request: bytes) -> None:
    deadline = time.monotonic() + 60
    while b" 200 OK" not in front.ask(request):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_clients_that_go_away_change_nothing(start: Start) -> None:
    front = start()
    reset = b"\x01\x00\x00\x00\x00\x00\x00\x00"
    for sent in (b"", b"GET /half", post(b"x" * 99)[:-1], post(path="/whole"), post(path="/big/9")):
        for linger in (b"", reset):
            client = front.connect(sent)
            if linger:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            client.close()
    passed(front.ask(post(path="/after")))
    assert "/half" not in front.requests()
    assert front.process.poll() is None
    assert not [line for line in front.lines() if line.startswith("plinth-front")]


def test_a_client_may_end_its_side_after_its_request(start: Start) -> None:
    with start().connect(post(b"body")) as client:
        client.shutdown(socket.SHUT_WR)
        assert passed(rest(client))[1] == sha256(b"body")


def test_clients_that_do_not_read_change_nothing(start: Start) -> None:
    front = start()
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(front.connect(post(path="/big/40"))) for _ in range(3)]
        begun = time.monotonic()
        passed(front.ask(post()))
        assert time.monotonic() - begun < at_most(5)
        assert front.memory() < 40
        response = rest(slow[0])
        assert len(response.partition(b"\r\n\r\n")[2]) == 40 << 20


def test_a_response_is_passed_on_as_it_comes(start: Start) -> None:
    front = start()
    with front.connect(post(path="/stream")) as client:
        assert client.recv(1024) == b"part"
        begun = time.monotonic()
        assert rest(client) == b"part"
        assert time.monotonic() - begun > 0.3


def test_no_response_is_502(start: Start) -> None:
    front = start()
    assert refusal(front.ask(post(path="/silent"))) == (
        502,
        "the scoring server closed the connection without a response",
    )
    passed(front.ask(post()))


def test_a_response_before_the_whole_request_was_read_arrives(start: Start) -> None:
    assert passed(start().ask(post(b"x" * (40 << 20), "/early")))


@pytest.mark.parametrize(("path", "code"), [("/exit/3", 3), ("/kill/9", 137)])
def test_the_end_of_the_server_is_the_end(start: Start, path: str, code: int) -> None:
    front = start()
    with front.connect() as idle, front.connect(b"GET /") as half:
        begun = time.monotonic()
        assert refusal(front.ask(post(path=path)))[0] == 502
        assert front.process.wait(timeout=60) == code
        assert time.monotonic() - begun < at_most(2)
        assert rest(idle) == rest(half) == b""


def test_a_command_that_is_not_there_is_named(start: Start) -> None:
    front = start("/no/such/server")
    assert front.process.wait(timeout=60) == 111
    (line,) = front.lines()
    assert line.startswith("plinth-front: /no/such/server: [Errno 2] ")


def test_a_port_in_use_is_named(start: Start) -> None:
    front = start()
    done = subprocess.run(
        [python(), "-IS", str(FRONT), str(front.port), "0", "true"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert f"plinth-front: ports {front.port} and 0: [Errno 98]" in done.stderr


def test_without_a_command_the_usage_is_printed() -> None:
    done = subprocess.run(
        [python(), "-IS", str(FRONT), "1", "2"], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (1, "usage: plinth-front PORTS BACKEND COMMAND...\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_requests_under_way_are_answered_before_the_end(
    start: Start, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENDS_WITH", "7")
    front = start()
    with ThreadPoolExecutor(3) as pool, front.connect() as idle, front.connect(b"GET /") as half:
        # The second waits for the first: for the server it has not even begun.
        asked = [pool.submit(front.ask, post(path="/wait/0.7")) for _ in range(2)]
        front.until("request /wait/0.7")
        late = front.connect(post(b"body", "/late")[:-1])
        time.sleep(0.1)
        front.process.send_signal(number)
        assert rest(idle) == b""
        late.sendall(b"y")
        for one in (*asked, pool.submit(rest, late)):
            passed(one.result())
        assert rest(half) == b""
        late.close()
        assert front.process.wait(timeout=60) == 7
    assert front.lines()[-1] == "down"
    with pytest.raises(ConnectionRefusedError):
        front.connect()


def test_without_clients_the_end_comes_at_once(start: Start) -> None:
    front = start()
    begun = time.monotonic()
    front.process.send_signal(signal.SIGTERM)
    assert front.process.wait(timeout=60) == 0
    assert time.monotonic() - begun < at_most(0.9)
