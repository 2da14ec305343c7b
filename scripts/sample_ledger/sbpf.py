"""A small assembler for sBPF v0, and the ELF file around it: enough for programs of one text section.

It lets the sample's two programs be made wherever Python runs, without Solana's toolchain, byte for byte the same.
Sources: the eBPF instruction encoding (RFC 9669); Solana's loader (anza-xyz/sbpf, `elf.rs`), which wants an ELF64
shared object of machine EM_BPF, with system calls as R_BPF_64_32 relocations against the symbols' names.
"""

from __future__ import annotations

import struct

_RELOCATION_CALL = 10  # R_BPF_64_32
_ALU = {"mov": 0xB0, "add": 0x00, "and": 0x50}
_JUMP = {"ja": 0x05, "jeq": 0x15, "jne": 0x55}
_SIZE = {"b": 0x10, "w": 0x00, "dw": 0x18}


class Program:
    """Instructions as they are added; labels are resolved in `elf`."""

    def __init__(self) -> None:
        self._code: list[tuple[int, int, int, int, int]] = []  # opcode, destination, source, offset, immediate
        self._jumps: dict[int, str] = {}
        self._labels: dict[str, int] = {}
        self._calls: dict[int, str] = {}

    def label(self, name: str) -> None:
        self._labels[name] = len(self._code)

    def set(self, register: int, value: int) -> None:
        """register = a 64-bit constant (two slots)."""
        low, high = value & 0xFFFFFFFF, value >> 32
        self._code += [(0x18, register, 0, 0, low), (0, 0, 0, 0, high)]

    def alu(self, op: str, register: int, value: int) -> None:
        """register = register op a 32-bit constant."""
        self._code.append((_ALU[op] | 0x07, register, 0, 0, value))

    def alu_register(self, op: str, register: int, other: int) -> None:
        self._code.append((_ALU[op] | 0x0F, register, other, 0, 0))

    def load(self, size: str, register: int, base: int, offset: int = 0) -> None:
        self._code.append((0x61 | _SIZE[size], register, base, offset, 0))

    def store(self, size: str, base: int, offset: int, register: int) -> None:
        self._code.append((0x63 | _SIZE[size], base, register, offset, 0))

    def store_value(self, size: str, base: int, offset: int, value: int) -> None:
        self._code.append((0x62 | _SIZE[size], base, 0, offset, value))

    def jump(self, op: str, label: str, register: int = 0, value: int = 0) -> None:
        self._jumps[len(self._code)] = label
        self._code.append((_JUMP[op], register, 0, 0, value))

    def call(self, system_call: str) -> None:
        self._calls[len(self._code)] = system_call
        self._code.append((0x85, 0, 1, 0, 0xFFFFFFFF))

    def exit(self) -> None:
        self._code.append((0x95, 0, 0, 0, 0))

    def elf(self) -> bytes:
        """Return the program as an ELF file that starts at its first instruction."""
        text = b""
        for i, (opcode, destination, source, offset, value) in enumerate(self._code):
            if i in self._jumps:
                offset = self._labels[self._jumps[i]] - i - 1
            text += struct.pack("<BBhI", opcode, source << 4 | destination, offset, value & 0xFFFFFFFF)
        names = sorted(set(self._calls.values()))
        return _link(text, names, [(8 * i, names.index(name)) for i, name in sorted(self._calls.items())])


def _link(text: bytes, symbols: list[str], calls: list[tuple[int, int]]) -> bytes:
    """Lay out headers, text, symbols, relocations and section names; addresses equal file offsets."""
    header_size, segment_size, segments = 64, 56, 2
    at = header_size + segment_size * segments
    text_at, at = at, at + len(text)
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in symbols)
    table = bytes(24)
    for name in symbols:
        table += struct.pack("<IBBHQQ", strings.index(name.encode()), 0x10, 0, 0, 0, 0)
    table_at, at = at, at + len(table)
    relocations = b"".join(
        struct.pack("<QQ", text_at + offset, (symbol + 1) << 32 | _RELOCATION_CALL) for offset, symbol in calls
    )
    relocations_at, at = at, at + len(relocations)
    dynamic_at = at
    strings_at = dynamic_at + 16 * 7
    entries = [
        (17, relocations_at),
        (18, len(relocations)),
        (19, 16),
        (6, table_at),
        (5, strings_at),
        (10, len(strings)),
    ]
    if not calls:
        entries = entries[3:]
    dynamic = b"".join(struct.pack("<QQ", tag, value) for tag, value in (*entries, (0, 0))).ljust(16 * 7, b"\0")
    names = b"\0"
    headers = bytes(64)

    def section(name: str, kind: int, flags: int, start: int, size: int, link: int = 0, entry: int = 0) -> None:
        nonlocal names, headers
        headers += struct.pack("<IIQQQQIIQQ", len(names), kind, flags, start, start, size, link, 0, 8, entry)
        names += name.encode() + b"\0"

    section(".text", 1, 6, text_at, len(text))
    section(".dynsym", 11, 2, table_at, len(table), 5, 24)
    section(".rel.dyn", 9, 2, relocations_at, len(relocations), 2, 16)
    section(".dynamic", 6, 2, dynamic_at, len(dynamic), 5, 16)
    section(".dynstr", 3, 2, strings_at, len(strings))
    names_at = strings_at + len(strings)
    section(".shstrtab", 3, 0, names_at, len(names) + len(".shstrtab") + 1)
    headers_at = (names_at + len(names) + 7) & ~7
    head = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9)
    head += struct.pack(
        "<HHIQQQIHHHHHH", 3, 247, 1, text_at, header_size, headers_at, 0, header_size, segment_size, segments, 64, 7, 6
    )
    end = names_at
    head += struct.pack("<IIQQQQQQ", 1, 5, text_at, text_at, text_at, end - text_at, end - text_at, 8)
    head += struct.pack("<IIQQQQQQ", 2, 4, dynamic_at, dynamic_at, dynamic_at, len(dynamic), len(dynamic), 8)
    body = head + text + table + relocations + dynamic + strings + names
    return body.ljust(headers_at, b"\0") + headers
