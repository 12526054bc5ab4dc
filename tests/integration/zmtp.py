"""A hand-made ZeroMQ peer over TCP, for sending what no program of ours would send."""
import socket
import struct

VERSION = 1


def greeting():
    return b"\xff" + b"\0" * 8 + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + b"\0" + b"\0" * 31


def command(name, body):
    return struct.pack(">BB", 4, len(name) + 1 + len(body)) + struct.pack("B", len(name)) + name + body


def prop(name, value):
    return struct.pack("B", len(name)) + name + struct.pack(">I", len(value)) + value


def frame(body, more):
    if len(body) < 256:
        return struct.pack(">BB", 1 if more else 0, len(body)) + body
    return struct.pack(">BQ", 3 if more else 2, len(body)) + body


def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def field(number, value):
    """A protobuf field: a number or bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def header(kind, version=VERSION, body=b""):
    return field(1, version) + field(2, kind) + body


def hello(name, version=VERSION, beat=False, ram=1 << 30):
    body = field(1, name) + field(2, b"scalar") + field(3, 1) + field(4, ram) + (field(5, 1) if beat else b"")
    return header(1, version, field(16, body))


class Peer:
    """A DEALER that said its greeting and READY."""

    def __init__(self, address, kind=b"DEALER"):
        host, port = address.replace("tcp://", "").rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=5)
        self.socket.sendall(greeting())
        self.read(64)
        self.socket.sendall(command(b"READY", prop(b"Socket-Type", kind) + prop(b"Identity", b"")))

    def read(self, n):
        data = b""
        while len(data) < n:
            part = self.socket.recv(n - len(data))
            if not part:
                raise ConnectionError("closed")
            data += part
        return data

    def send(self, *frames):
        self.socket.sendall(b"".join(frame(f, i + 1 < len(frames)) for i, f in enumerate(frames)))

    def receive(self):
        """The next message's frames; commands (READY, PING) are passed over."""
        frames = []
        while True:
            flags = self.read(1)[0]
            n = struct.unpack(">Q", self.read(8))[0] if flags & 2 else self.read(1)[0]
            body = self.read(n)
            if flags & 4:
                continue
            frames.append(body)
            if not flags & 1:
                return frames

    def close(self):
        self.socket.close()
