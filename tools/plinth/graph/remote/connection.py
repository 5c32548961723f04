"""One server: its channel, what every call carries, and its failures in words."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import grpc

from plinth import __version__
from plinth.core import stopping
from plinth.core.errors import RemoteError
from plinth.core.remote_settings import TOKEN, RemoteSettings, may_carry_token
from plinth.graph.reapi import messages
from plinth.graph.remote.patience import Deadline, retried

MESSAGE = 4 << 20
"""Bytes of a message that every gRPC server takes; ours stay below it."""

_ANSWER = 16 << 20
# Servers answer pings that come more often than every five minutes by hanging up.
_KEEPALIVE_MS, _KEEPALIVE_ANSWER_MS = 310_000, 20_000
_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", _ANSWER),
    ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", _KEEPALIVE_ANSWER_MS),
    ("grpc.initial_reconnect_backoff_ms", 200),
    # Less than the pauses between tries: a try before it only reports the failure of the last one.
    ("grpc.max_reconnect_backoff_ms", 400),
    # Ours are the only retries, so that they can be counted.
    ("grpc.enable_retries", 0),
    ("grpc.primary_user_agent", f"plinth/{__version__}"),
]
_UNAVAILABLE = {
    "UNAVAILABLE": "cannot be reached",
    "RESOURCE_EXHAUSTED": "is overloaded or full",
    "DEADLINE_EXCEEDED": "did not answer in time",
    "ABORTED": "gave up",
    "INTERNAL": "failed",
    "UNKNOWN": "failed",
    "CANCELLED": "hung up",
}
_REFUSED = {
    "UNAUTHENTICATED": "wants other credentials",
    "PERMISSION_DENIED": "forbids this",
    "UNIMPLEMENTED": "does not offer this",
    "NOT_FOUND": "does not hold this",
}
_REMEDY = {
    "UNAVAILABLE": "check [remote] in the settings, and that the server runs",
    "UNAUTHENTICATED": f"renew the token (token-file in [remote], or ${TOKEN}) or the certificate",
    "PERMISSION_DENIED": 'ask for the right, or set upload = "none" in [remote]',
}
M = TypeVar("M", bound=messages.Message)


@dataclass(frozen=True)
class About:
    """What a call is for, as servers show it (REAPI, RequestMetadata)."""

    action: str = ""
    mnemonic: str = ""


NOTHING = About()


class Traffic:
    """Counts of one run, for a line at its end; shared by threads."""

    def __init__(self) -> None:
        self.calls = self.sent = self.received = self.hits = self.misses = 0
        self._lock = threading.Lock()

    def add(self, **counts: int) -> None:
        """Add to counters by name: calls, sent and received (bytes), hits, misses."""
        with self._lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)


class Connection:
    """A channel to one server; `close` it after use.

    Raises:
        RemoteError: a certificate, key or token cannot be read, or the token would travel in
            clear text.
    """

    def __init__(
        self,
        address: str,
        settings: RemoteSettings,
        *,
        invocation: str,
        traffic: Traffic,
        environment: Mapping[str, str],
    ) -> None:
        self.address = address
        self.timeout = settings.timeout
        self.traffic = traffic
        self._invocation = invocation
        self._headers = tuple(settings.headers.items())
        self._token = _token(environment.get(TOKEN, ""), f"${TOKEN}")
        named = settings.token_file if not self._token else ""
        self._token_file = Path(named) if named else None
        self._token_read: tuple[int, int] | None = None
        parts = urlsplit(address)
        if (self._token or self._token_file) and not may_carry_token(address):
            raise RemoteError(
                "a token would be sent unencrypted", where=address, remedy="use grpcs://"
            )
        target = f"{parts.netloc}" if parts.port else f"{parts.netloc}:443"
        if parts.scheme == "grpcs":
            self._channel = grpc.secure_channel(target, _credentials(settings), _OPTIONS)
        else:
            self._channel = grpc.insecure_channel(target, _OPTIONS)

    def close(self) -> None:
        """Hang up; calls under way end as failures."""
        self._channel.close()

    def ask(
        self,
        method: str,
        request: messages.Message,
        answer: type[M],
        *,
        about: About = NOTHING,
        deadline: Deadline | None = None,
    ) -> M:
        """One request and its answer, tried again while the server is unavailable.

        `method` is `package.Service/Method`; without a deadline the settings' timeout holds.

        Raises:
            RemoteError: it was refused or kept failing.
        """
        until = deadline or Deadline(self.timeout)
        call = self._channel.unary_unary(f"/{method}", _encode, self._decoder(answer))

        def once() -> M:
            self.traffic.add(calls=1, sent=request.ByteSize())
            with self._translated(method):
                found: M = _waited(call, request, until.left(), self._metadata(about))
            return found

        return retried(once, until)

    @contextlib.contextmanager
    def listen(
        self,
        method: str,
        request: messages.Message,
        answer: type[M],
        *,
        deadline: Deadline,
        about: About = NOTHING,
    ) -> Iterator[Stream[M]]:
        """One request and its stream of answers, tried once; hung up when the block ends."""
        call = self._channel.unary_stream(f"/{method}", _encode, self._decoder(answer))
        self.traffic.add(calls=1, sent=request.ByteSize())
        with self._translated(method):
            stream = call(request, timeout=deadline.left(), metadata=self._metadata(about))
        answers: Stream[M] = Stream(stream, lambda: self._translated(method))
        try:
            with stopping.undone_by(answers.cancel):
                yield answers
        finally:
            answers.cancel()

    def tell(
        self, method: str, requests: Iterable[messages.Message], answer: type[M], deadline: Deadline
    ) -> M:
        """A stream of requests and its one answer, tried once."""
        call = self._channel.stream_unary(f"/{method}", _encode, self._decoder(answer))
        self.traffic.add(calls=1)
        with self._translated(method):
            sent = self._counted(requests)
            found: M = _waited(call, sent, deadline.left(), self._metadata(NOTHING))
        return found

    def _counted(self, requests: Iterable[messages.Message]) -> Iterator[messages.Message]:
        for request in requests:
            self.traffic.add(sent=request.ByteSize())
            yield request

    def _decoder(self, answer: type[M]) -> Callable[[bytes], M]:
        def decode(data: bytes) -> M:
            self.traffic.add(received=len(data))
            return answer.FromString(data)

        return decode

    def _metadata(self, about: About) -> tuple[tuple[str, str | bytes], ...]:
        who = messages.RequestMetadata(
            tool_details=messages.ToolDetails(tool_name="plinth", tool_version=__version__),
            tool_invocation_id=self._invocation,
            action_id=about.action,
            action_mnemonic=about.mnemonic,
        )
        name = "build.bazel.remote.execution.v2.requestmetadata-bin"
        found: list[tuple[str, str | bytes]] = [*self._headers, (name, messages.encode(who))]
        if token := self._bearer():
            found.append(("authorization", f"Bearer {token}"))
        return tuple(found)

    def _bearer(self) -> str:
        if self._token_file is None:
            return self._token
        try:
            state = self._token_file.stat()
            stamp = (state.st_mtime_ns, state.st_size)
            if stamp != self._token_read:
                token = self._token_file.read_text(encoding="utf-8")
                self._token, self._token_read = _token(token, str(self._token_file)), stamp
        except (OSError, UnicodeDecodeError) as error:
            raise RemoteError(
                "the token cannot be read", where=str(self._token_file), found=type(error).__name__
            ) from None
        return self._token

    @contextlib.contextmanager
    def _translated(self, method: str) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            code = error.code().name if isinstance(error, grpc.Call) else "UNKNOWN"
            details = (error.details() or "") if isinstance(error, grpc.Call) else ""
            raise failure(code, details, where=f"{self.address}, {method}") from None
        except grpc.FutureCancelledError:
            raise failure("CANCELLED", "", where=f"{self.address}, {method}") from None
        except ValueError:
            # What a closed channel raises.
            raise RemoteError("the connection was closed", where=self.address) from None


class Stream(Iterator[M]):
    """The answers of one call, its failures as `RemoteError`."""

    def __init__(
        self, call: Any, translated: Callable[[], contextlib.AbstractContextManager[None]]
    ) -> None:
        self._call = call
        self._translated = translated

    def __next__(self) -> M:
        with self._translated():
            found: M = next(self._call)
        return found

    def cancel(self) -> None:
        """End the call; whoever waits for its next answer gets an error."""
        self._call.cancel()


def failure(code: str, details: str, *, where: str) -> RemoteError:
    """The error of a gRPC status: its name, and what the server said of it."""
    # Answers over our limit look like an overload, but asking again would bring the same.
    oversized = code == "RESOURCE_EXHAUSTED" and "larger than max" in details
    known = "sent too large a message" if oversized else _UNAVAILABLE.get(code)
    said = "".join(c if c.isprintable() else " " for c in details[:300])
    return RemoteError(
        f"the remote server {known or _REFUSED.get(code, 'refused')}",
        unavailable=code in _UNAVAILABLE and not oversized,
        code=code,
        where=where,
        found=f"{code}: {said}" if said else code,
        remedy=_REMEDY.get(code, ""),
    )


def _waited(call: Any, request: Any, timeout: float, metadata: Any) -> Any:
    """The answer to a request, for which nobody waits who is to stop."""
    if not stopping.in_force():
        return call(request, timeout=timeout, metadata=metadata)
    answer = call.future(request, timeout=timeout, metadata=metadata)
    try:
        with stopping.undone_by(answer.cancel):
            return answer.result()
    finally:
        answer.cancel()


def _token(text: str, where: str) -> str:
    token = text.strip()
    if not (token.isascii() and token.isprintable()):
        raise RemoteError("not a token", where=where, expected="one line of printable ASCII")
    return token


def _encode(message: messages.Message) -> bytes:
    return message.SerializeToString()


def _credentials(settings: RemoteSettings) -> grpc.ChannelCredentials:
    # The system's authorities rather than the list inside grpc, as everything else here does.
    authorities = settings.ca or ssl.get_default_verify_paths().cafile or ""

    def content(path: str) -> bytes | None:
        try:
            return Path(path).read_bytes() if path else None
        except OSError as error:
            raise RemoteError(
                "a certificate or key cannot be read", where=path, found=error.strerror or ""
            ) from None

    return grpc.ssl_channel_credentials(
        root_certificates=content(authorities),
        private_key=content(settings.key),
        certificate_chain=content(settings.cert),
    )
