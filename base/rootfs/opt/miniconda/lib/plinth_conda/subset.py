"""The part of YAML that environment files are written in, as strings, lists and mappings.

Block mappings and sequences, lists in one line, plain and quoted scalars, comments. All else
(anchors, tags, block scalars, braces) is refused with its line rather than read in another way than
conda would. Every scalar is a string.
"""

import json
import re

from plinth_conda.errors import CondaError

_KEY = re.compile(r"""("[^"]*"|'[^']*'|[^\s\[\]{}"'#&*!|>%@`,?-][^\s:,\[\]{}]*):(?:\s+(.*))?$""")
_INDICATORS = tuple("&*!|>%@`{}],?")


def read(text, where):
    """The document in `text`; `where` is its name in messages.

    Raises:
        CondaError: it is not of this part of YAML.
    """
    return _Reader(text, where).document()


class _Reader:
    def __init__(self, text, where):
        self.where = where
        self.lines = []
        for number, line in enumerate(text.lstrip("\ufeff").split("\n"), 1):
            line = line.rstrip("\r")
            body = self._without_comment(line, number).rstrip()
            if not body.strip():
                continue
            if body == "..." or (body == "---" and self.lines):
                raise self._refusal(number, "a second document")
            if body == "---":
                continue
            indent = len(body) - len(body.lstrip(" "))
            if body[indent] == "\t":
                raise self._refusal(number, "a tab before the text")
            self.lines.append((number, indent, body[indent:]))
        self.at = 0

    def document(self):
        if not self.lines:
            return ""
        found = self._block(self.lines[0][1])
        if self.at < len(self.lines):
            number, _, text = self.lines[self.at]
            raise self._refusal(number, repr(text))
        return found

    def _block(self, indent):
        """The mapping or list whose lines begin at `indent`."""
        number, _, text = self.lines[self.at]
        if text == "-" or text.startswith("- "):
            return self._sequence(indent)
        if _KEY.match(text):
            return self._mapping(indent)
        if len(self.lines) == 1:
            self.at += 1
            return self._scalar(text, number)
        raise self._refusal(number, repr(text))

    def _sequence(self, indent):
        found = []
        while self.at < len(self.lines):
            number, here, text = self.lines[self.at]
            if here != indent or not (text == "-" or text.startswith("- ")):
                break
            rest = text[1:].lstrip(" ")
            if not rest:
                self.at += 1
                found.append(self._nested(indent, number))
            elif rest.startswith("- ") or _KEY.match(rest):
                deeper = indent + len(text) - len(rest)
                self.lines[self.at] = (number, deeper, rest)
                found.append(self._block(deeper))
            else:
                self.at += 1
                found.append(self._value(rest, number))
        return found

    def _mapping(self, indent):
        found = {}
        while self.at < len(self.lines):
            number, here, text = self.lines[self.at]
            match = _KEY.match(text)
            if here != indent or not match:
                break
            key = self._scalar(match.group(1), number)
            if key in found:
                raise self._refusal(number, "%r is there twice" % key)
            self.at += 1
            rest = match.group(2) or ""
            found[key] = self._value(rest, number) if rest else self._nested(indent, number, True)
        return found

    def _nested(self, indent, number, key=False):
        """The block below line `number`; a list may stand right below the key it belongs to."""
        if self.at < len(self.lines):
            _, here, text = self.lines[self.at]
            if here > indent or (key and here == indent and re.match(r"-( |$)", text)):
                return self._block(here)
        return ""

    def _value(self, text, number):
        if not text.startswith("["):
            return self._scalar(text, number)
        if not text.endswith("]"):
            raise self._refusal(number, "a list in brackets over several lines")
        inner = text[1:-1].strip()
        parts = re.findall(r"""\s*("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^,"']+)\s*(?:,|$)""", inner)
        if len(re.sub(r"\s", "", ",".join(parts))) < len(re.sub(r"\s", "", inner.rstrip(","))):
            raise self._refusal(number, repr(text))
        return [self._scalar(part.strip(), number) for part in parts if part.strip()]

    def _scalar(self, text, number):
        if text.startswith('"'):
            try:
                return str(json.loads(text))
            except ValueError:
                raise self._refusal(number, text) from None
        if text.startswith("'"):
            if not re.match(r"'(?:[^']|'')*'$", text):
                raise self._refusal(number, text)
            return text[1:-1].replace("''", "'")
        if text.startswith(_INDICATORS) or text.startswith("[") or re.search(r":(\s|$)", text):
            raise self._refusal(number, repr(text))
        return text

    @staticmethod
    def _without_comment(line, number):
        quote = ""
        for at, char in enumerate(line):
            before = line[at - 1] if at else " "
            if quote:
                if char == quote:
                    quote = ""
            elif char in "\"'" and before in " [,":
                quote = char
            elif char == "#" and before in " \t":
                return line[:at]
        return line

    def _refusal(self, number, what):
        return CondaError(
            "%s: line %d: cannot be read: %s" % (self.where, number, what),
            ["write it as conda's documentation does: keys, lists with '- ', quoted text"],
        )
