"""A processor that carries out programs of deeds against its coordinator, and such programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random

# A deed is a name and its arguments; what the policy refuses, or is not possible, is passed over.
PROCESSOR = r"""
import base64, ctypes, fcntl, gc, os, signal, socket, struct, sys, threading, time

def _link():
    from sandboxq.child.link import Link
    return next(o for o in gc.get_objects() if type(o) is Link and o._socket.fileno() >= 0)

def _shared(word):
    for name in os.listdir("/proc/self/fd"):
        try:
            if word in os.readlink("/proc/self/fd/" + name): return int(name)
        except OSError: pass
    return -1

class Deeds:
    def __init__(self, job):
        self.link = _link(); self.seq = job._seq; self.socket = self.link._socket
    def frame(self, kind, seq, flags, detail, payload, head):
        text = base64.b64decode(payload)
        usage = 2**64 - 1, 3, 2**63
        number = max(0, self.seq + seq)
        packet = struct.pack("<BBHIQQQQ", kind, flags, detail, 7, number, *usage)
        self.socket.send((packet + text)[: head or None], socket.MSG_DONTWAIT)
    def flood(self, count, *frame):
        for _ in range(count):
            try: self.frame(*frame)
            except BlockingIOError: time.sleep(0.001)
    def long(self, kind, count, size, seq, byte):
        for number in range(count):
            more = number < count - 1
            packet = struct.pack("<BBHIQQQQ", kind, more, 0, 0, self.seq + seq, 0, 0, 0)
            self.socket.send(packet + bytes([byte]) * size)
    def shut(self, how):
        socket.socket(fileno=os.dup(self.socket.fileno())).shutdown(how)
    def steal(self, count):
        for _ in range(count): self.socket.recv(65536, socket.MSG_DONTWAIT)
    def block(self):
        for name in os.listdir("/proc/self/fd"):
            try: os.set_blocking(int(name), True)
            except OSError: pass
    def tokens(self, count):
        fd = _shared("eventfd")
        for _ in range(count): os.write(fd, struct.pack("<Q", 1))
    def drain(self):
        fd = _shared("eventfd")
        while True: os.read(fd, 8)
    def mark(self, word, value): self.link.mark.words[word] = value
    def held(self, size):
        self.link.mark.memory[4096:4096 + size] = os.urandom(size)
        self.link.mark.words[3] = (1 << 33) | 4096 + size
    def seal(self, word): fcntl.fcntl(_shared("sandboxq-" + word), 1033, 0x10)
    def stop(self, after): threading.Timer(after, os.kill, (os.getpid(), signal.SIGSTOP)).start()
    def stopped(self): os.kill(os.getpid(), signal.SIGSTOP)
    def die(self, number): os.kill(os.getpid(), number)
    def leave(self, code): os._exit(code)
    def close(self): os.closerange(3, 64)
    def write(self, fd, size): os.write(fd, os.urandom(size))
    def marked(self, text): os.write(1, b"\x1f" + base64.b64decode(text) + b"\n")
    def sleep(self, seconds): time.sleep(seconds)
    def sendfile(self, fd):
        self.pair = socket.socketpair()
        threading.Thread(target=os.sendfile, args=(fd, self.pair[0].fileno(), None, 1)).start()
    def thread(self, *program):
        threading.Thread(target=self.run, args=(program,), daemon=True).start()
    def run(self, program):
        for name, *arguments in program:
            try: getattr(self, name)(*arguments)
            except (OSError, ValueError, TypeError, IndexError, struct.error, AttributeError): pass

def process(job):
    if "value" in job.data: return job.data["value"]
    Deeds(job).run(job.data["program"])
    return "evil"
"""

_KINDS = (*range(15, 31), 0, 1, 6, 99, 255)
# In base64: JSON, broken JSON, structures of the protocol with wild numbers, bytes, nothing.
_PAYLOADS = (
    *("", "MQ==", "bnVsbA==", "e25vdCBqc29u", "/////w==", "W1tbW1tbW1tb", "TmFO"),
    *("AAAAAAAAAAAAAAAA", "/////////////////////w==", "EAAAAAAAAAAQAAAAAAAAAAIAAABbXTE="),
)


def random_program(rng: random.Random, *, may_stay: bool) -> list[list[Any]]:
    """Return a few deeds; some in a thread that goes on after the job, if they ``may_stay``."""
    program = [_random_deed(rng) for _ in range(rng.randint(1, 5))]
    if not may_stay:
        return [deed for deed in program if deed[0] != "stop"]
    if rng.random() < 0.3:
        later = [["sleep", rng.choice((0.0, 0.01, 0.3))], *random_program(rng, may_stay=False)]
        program.append(["thread", *later])
    return program


def _random_deed(rng: random.Random) -> list[Any]:
    deeds: tuple[list[Any], ...] = (
        ["frame", *_random_frame(rng)],
        ["frame", *_random_frame(rng)],
        ["frame", *_random_frame(rng)],
        ["flood", rng.choice((10, 1000, 30_000)), *_random_frame(rng)],
        ["long", rng.choice(_KINDS), rng.randint(1, 40), rng.choice((0, 1, 65_000)),
         rng.choice((0, 0, 1)), rng.choice((0x5B, 0x31, 0x22, 0xFF))],
        ["shut", rng.randint(0, 2)],
        ["steal", rng.randint(1, 20)],
        ["block"],
        ["tokens", rng.choice((1, 100))],
        ["drain"],
        ["mark", rng.randint(0, 6), rng.choice((0, 1, 2**63, 2**64 - 1))],
        ["held", rng.choice((1, 100, 4000))],
        ["seal", rng.choice(("arena", "mark", "stacks"))],
        ["stop", rng.choice((0.0, 0.05, 0.5))],
        ["stopped"],
        ["die", rng.choice((9, 11, 6))],
        ["leave", rng.choice((0, 1))],
        ["close"],
        ["write", rng.choice((1, 2)), rng.choice((10, 100_000))],
        ["marked", rng.choice(_PAYLOADS)],
        ["sleep", rng.choice((0.01, 0.3, 3.0))],
    )  # fmt: skip
    return rng.choice(deeds)


def _random_frame(rng: random.Random) -> list[Any]:
    """Return kind, number from that of the call, flags, detail, payload, where it is cut off."""
    return [
        rng.choice(_KINDS),
        rng.choice((0, 0, 0, 1, -1, 1000)),
        rng.choice((0, 0, 1, 2, 4, 16, 32, 64, 255)),
        rng.choice((0, 1, 2, 3, 65_535)),
        rng.choice(_PAYLOADS),
        rng.choice((0, 0, 0, 1, 20, 39)),
    ]
