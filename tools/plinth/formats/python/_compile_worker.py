"""Runs in the target interpreter (3.6 or later): compiles sources to unchecked-hash bytecode.

Standard input holds requests, standard output answers, each a length (4 bytes, big-endian) and
that many bytes. A request is two such strings, the path in the image and the source; an answer
is one, the .pyc (PEP 552), empty where the source does not compile.

The bytes may depend on nothing but path, source and interpreter. marshal marks an object as
shared by its reference count, and interned strings are shared with whatever else is alive: so
nothing compiled stays alive here, all that compiling may import is imported first, and when a
source makes the interpreter import more, this worker answers and ends; a fresh one goes on.
"""

from __future__ import annotations

import encodings.ascii
import encodings.latin_1
import encodings.utf_8
import importlib.util
import io
import sys
import tokenize
import warnings
from importlib._bootstrap_external import (  # type: ignore[attr-defined]
    _code_to_hash_pyc,
    _os,  # under a name that is alive already
)
from typing import IO

KNOWN = (encodings.ascii, encodings.latin_1, encodings.utf_8, tokenize)


def read(stream: IO[bytes]) -> bytes:
    head = stream.read(4)
    if len(head) < 4:
        raise SystemExit(0)
    return stream.read(int.from_bytes(head, "big"))


def compiled(path: str, source: bytes) -> bytes:
    try:
        code = compile(source, path, "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return b""
    return bytes(_code_to_hash_pyc(code, importlib.util.source_hash(source), False))


def main() -> None:
    warnings.simplefilter("ignore")
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    # The first failure and the first warning import what later ones find imported.
    compiled("/warm.py", b"x = '\\d'\nassert (x, 1)\n")
    compiled("/warm.py", b"(\n")
    io.StringIO()
    before = len(sys.modules)
    while True:
        path, source = read(requests), read(requests)
        answer = compiled(path.decode(), source)
        try:
            answers.write(len(answer).to_bytes(4, "big") + answer)
            answers.flush()
        except BrokenPipeError:
            # The build has ended. At a normal exit Python would write once more, and show that it
            # cannot.
            _os._exit(0)
        del path, source, answer
        if len(sys.modules) != before:
            raise SystemExit(0)


main()
