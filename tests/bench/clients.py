"""Clients of a scoring server, by `python clients.py`, beside it in its network namespace.

    python clients.py PORT PATH[,PATH…] REQUESTS AT-ONCE IDLE SLOW

It asks for each PATH in turn, REQUESTS times, by AT-ONCE clients that keep their connections where
the server does, while IDLE clients send nothing and SLOW ones a byte a second. It prints JSON: for
each path the seconds that all took, and those of each request. It runs in images: Python 3.7.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

BODY = b'{"data": [1, 2, 3]}'
HOST = "127.0.0.1"


def request(path: str) -> bytes:
    if path != "/score":
        return f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY


class Client:
    """One connection, made anew where the server has closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writer: Any = None

    async def ask(self, data: bytes) -> None:
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(HOST, self._port)
        self._writer.write(data)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 200 "), head
        length = int(head.split(b"\r\ncontent-length:")[1].split(b"\r\n")[0])
        await self._reader.readexactly(length)
        if b"\r\nconnection: close" in head:
            self.close()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


async def asked(port: int, path: str, requests: int, at_once: int) -> dict[str, Any]:
    """Ask for `path` so many times; seconds of all, and of each."""
    data, left, each = request(path), requests, []

    async def work() -> None:
        nonlocal left
        client = Client(port)
        while left > 0:
            left -= 1
            begun = time.perf_counter()
            await client.ask(data)
            each.append(time.perf_counter() - begun)
        client.close()

    begun = time.perf_counter()
    await asyncio.gather(*[work() for _ in range(at_once)])
    return {"all": time.perf_counter() - begun, "each": each}


async def slow(port: int) -> None:
    """Send a request a byte a second, for ever."""
    reader, writer = await asyncio.open_connection(HOST, port)
    for byte in request("/score") * 1000:
        writer.write(bytes([byte]))
        await asyncio.sleep(1)
    await reader.read()


async def main() -> None:
    port, requests, at_once, idle, slowly = (int(sys.argv[at]) for at in (1, 3, 4, 5, 6))
    # So that they stay open.
    others = [await asyncio.open_connection(HOST, port) for _ in range(idle)]
    tasks = [asyncio.ensure_future(slow(port)) for _ in range(slowly)]
    await asyncio.sleep(1 if others or tasks else 0)
    found = {path: await asked(port, path, requests, at_once) for path in sys.argv[2].split(",")}
    assert not any(task.done() for task in tasks)
    for task in tasks:
        task.cancel()
    print(json.dumps(found))


if __name__ == "__main__":
    loop = asyncio.get_event_loop()
    loop.run_until_complete(main())
