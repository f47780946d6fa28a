"""Extended XMP, merged into the main packet as XMP specification part 3, section 1.1.3.1 says, byte for byte elsewhere."""

import re
from dataclasses import dataclass, field
from typing import Final
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

_RDF: Final = "http://www.w3.org/1999/02/22-rdf-syntax-ns# RDF"
_DESCRIPTION: Final = "http://www.w3.org/1999/02/22-rdf-syntax-ns# Description"
_EXTENSION: Final = "http://ns.adobe.com/xmp/note/ HasExtendedXMP"
_NAME: Final = re.compile(rb"[0-9A-Fa-f]{32}")
_ATTRIBUTE: Final = rb"""\s%s\s*+=\s*+(?:"[^"]*+"|'[^']*+')"""
_TAG: Final = re.compile(rb"""<(?:[^>"']++|"[^"]*+"|'[^']*+')*+>""")
_TAG_NAME: Final = re.compile(rb"<[^\s/>]++")
_MAX_ELEMENTS: Final = 1_000_000
"""A packet of more elements would take long, and no camera writes one."""


@dataclass
class _Packet:
    """Where things stand in a packet, as byte offsets.

    Attributes:
        extension: digits of MD5 that name an extension.
        removals: (start, end) of what names it.
        insertion: where the tag begins that closes rdf:RDF.
        descriptions: (start, end of its first tag's name, end) of each rdf:Description right below rdf:RDF, and the prefixes
            that it declares itself.
        namespaces: prefixes that are declared around the descriptions, with their URIs.
    """

    extension: str = ""
    removals: list[tuple[int, int]] = field(default_factory=list)
    insertion: int | None = None
    descriptions: list[tuple[int, int, int, set[str]]] = field(default_factory=list)
    namespaces: dict[str, str] = field(default_factory=dict)


class _Reader:
    """Reads a packet with expat; entities and document types are refused."""

    def __init__(self, packet: bytes) -> None:
        self.packet, self.found = packet, _Packet()
        self._path: list[str] = []
        self._starts: list[int] = []
        self._declared: list[dict[str, str]] = []
        self._pending: dict[str, str] = {}
        self._text, self._elements = "", 0
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartNamespaceDeclHandler = self._declare
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = self._refuse
        self._parser = parser

    def read(self) -> _Packet:
        try:
            self._parser.Parse(self.packet, True)
        except expat.ExpatError as error:
            raise ValueError(f"XMP is not well-formed ({expat.ErrorString(error.code)})") from None
        if self.found.insertion is None:
            raise ValueError("XMP has no rdf:RDF")
        return self.found

    def _refuse(self, *_: object) -> None:
        raise ValueError("XMP has a document type")

    def _declare(self, prefix: str | None, uri: str) -> None:
        self._pending[prefix or ""] = uri

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        at = self._parser.CurrentByteIndex
        self._elements += 1
        if self._elements > _MAX_ELEMENTS:
            raise ValueError(f"XMP has more than {_MAX_ELEMENTS} elements")
        if name == _RDF and self.found.insertion is None:
            for declared in (*self._declared, self._pending):
                self.found.namespaces.update(declared)
        if _EXTENSION in attributes:
            self._name(attributes[_EXTENSION])
            self._remove_attribute(at)
        self._path.append(name)
        self._starts.append(at)
        self._declared.append(self._pending)
        self._pending, self._text = {}, ""

    def _end(self, name: str) -> None:
        at = self._parser.CurrentByteIndex
        self._path.pop()
        start, declared = self._starts.pop(), self._declared.pop()
        tag_end = self._tag_end(start)
        empty = self.packet[tag_end - 2 : tag_end] == b"/>"
        end = tag_end if empty else self.packet.find(b">", at) + 1
        if name == _EXTENSION:
            self._name(self._text)
            self.found.removals.append((start, end))
        elif name == _RDF and self.found.insertion is None:
            if empty:
                raise ValueError("XMP has an empty rdf:RDF")
            self.found.insertion = at
        elif name == _DESCRIPTION and self._path[-1:] == [_RDF] and self.found.insertion is None:
            name_end = _TAG_NAME.match(self.packet, start)
            self.found.descriptions.append((start, name_end.end() if name_end else start, end, set(declared)))

    def _characters(self, text: str) -> None:
        if self._path[-1] == _EXTENSION:
            self._text += text[:100]

    def _name(self, digits: str) -> None:
        self.found.extension = self.found.extension or digits.strip()

    def _tag_end(self, start: int) -> int:
        """Return the offset behind a tag; a > in an attribute's value does not end it."""
        match = _TAG.match(self.packet, start)
        if match is None:
            raise ValueError("XMP is not in UTF-8")
        return match.end()

    def _remove_attribute(self, start: int) -> None:
        declared = {**{k: v for scope in self._declared for k, v in scope.items()}, **self._pending}
        end = self._tag_end(start)
        for prefix, uri in declared.items():
            if f"{uri} HasExtendedXMP" == _EXTENSION and prefix:
                pattern = re.compile(_ATTRIBUTE % re.escape(f"{prefix}:HasExtendedXMP".encode()))
                match = pattern.search(self.packet, start, end)
                if match is not None:
                    self.found.removals.append(match.span())


def names_extension(main: bytes) -> str:
    """Return the digits of MD5 by which a main packet names its extension; empty if it names none or is damaged."""
    try:
        name = _Reader(main).read().extension
    except ValueError:
        return ""
    return name if _NAME.fullmatch(name.encode("utf-8", "replace")) else ""


def merged(main: bytes, extension: bytes) -> bytes:
    """Move the descriptions of an extension to the end of the main packet's, and remove what names the extension.

    Raises:
        ValueError: a packet is not well-formed, not in UTF-8, or declares a document type.
    """
    for packet in (main, extension):
        try:
            packet.decode()
        except UnicodeDecodeError:
            raise ValueError("XMP is not in UTF-8") from None
    target, source = _Reader(main).read(), _Reader(extension).read()
    pieces = [_self_contained(extension, source, *place) for place in source.descriptions]
    if target.insertion is None or not pieces:
        raise ValueError("it has no descriptions")
    out, at = bytearray(), 0
    for start, end in sorted([*target.removals, (target.insertion, target.insertion)]):
        out += main[at:start]
        if start == end == target.insertion:
            out += b"".join(pieces)
        at = end
    result = bytes(out + main[at:])
    if _Reader(result).read().extension:
        raise ValueError("what names it cannot be removed")
    return result


def _self_contained(packet: bytes, found: _Packet, start: int, name_end: int, end: int, declared: set[str]) -> bytes:
    """Return a description with the namespaces that were declared around it."""
    added = "".join(
        f" xmlns{':' if prefix else ''}{prefix}={quoteattr(uri)}"
        for prefix, uri in found.namespaces.items()
        if prefix not in declared
    )
    return packet[start:name_end] + added.encode() + packet[name_end:end]
