#!/usr/bin/env python3
"""Asks several builds of the relay the same queries in turn, and prints the CPU of each per query.

usage: in_turn.py CORPUS BURST ROUNDS [reps=N] [rows=NAME,…] NAME=BINARY …

Each build serves the events of CORPUS (JSONL) on a free port of loopback. In each round, for each row, every build is
sent the same N bursts of BURST queries on one connection: REQs, and once all are answered their CLOSEs. Printed are the
median in microseconds and the median of the ratios to the first build.
"""
import json
import os
import random
import re
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

REQUEST = (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
           b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
PING, PONG = b"\x89\x82\0\0\0\0zz", b"\x8a\x02zz"


def frame(message):
    """A masked text frame (RFC 6455); the mask is zero."""
    payload = json.dumps(message, separators=(",", ":")).encode()
    if len(payload) < 126:
        header = bytes([0x81, 0x80 | len(payload)])
    elif len(payload) < 1 << 16:
        header = b"\x81\xfe" + struct.pack(">H", len(payload))
    else:
        header = b"\x81\xff" + struct.pack(">Q", len(payload))
    return header + b"\0\0\0\0" + payload


class Queries:
    """One filter of each sort that clients send, about events of the corpus."""

    def __init__(self, events):
        self.random = random.Random(7)
        notes = [event for event in events if event["kind"] == 1]
        self.ids = [event["id"] for event in events]
        self.times = [event["created_at"] for event in events]
        self.authors = sorted({event["pubkey"] for event in events})
        self.note_authors = [event["pubkey"] for event in notes]
        self.profiles = [event["pubkey"] for event in events if event["kind"] == 0]
        self.tagged = [event for event in notes if any(tag[0] == "t" for tag in event["tags"])]
        values = lambda name: [tag[1] for event in events for tag in event["tags"] if tag[0] == name and len(tag) > 1]
        self.p, self.e, self.t = values("p"), values("e"), values("t")

    def filter(self, row):
        pick, some = self.random.choice, self.random.sample
        match row:
            case "by-id": return {"ids": [pick(self.ids)]}
            case "profile": return {"kinds": [0], "authors": [pick(self.profiles)]}
            case "thread": return {"kinds": [1], "#e": [pick(self.e)]}
            case "notifications": return {"kinds": [1, 6, 7, 9735], "#p": [pick(self.p)], "limit": 50}
            case "author-notes": return {"kinds": [1], "authors": [pick(self.note_authors)], "limit": 50}
            case "newest-20": return {"kinds": [1], "limit": 20}
            case "ids-100": return {"ids": some(self.ids, 100)}
            case "newest-100": return {"kinds": [1], "limit": 100}
            case "feed-300": return {"authors": some(self.authors, 300), "kinds": [1, 6], "limit": 100}
            case "profiles-300": return {"authors": some(self.authors, 300), "kinds": [0]}
            case "hashtag": return {"kinds": [1], "#t": [pick(self.t)], "limit": 50}
            case "window":
                since = pick(self.times)
                return {"kinds": [7], "since": since, "until": since + 3600}
            case "rare":
                note = pick(self.tagged)
                tag = next(tag[1] for tag in note["tags"] if tag[0] == "t")
                return {"kinds": [1], "authors": [note["pubkey"]], "#t": [tag]}
            case "nothing": return {"ids": [f"{self.random.getrandbits(256):064x}"]}


ROWS = ["by-id", "profile", "thread", "notifications", "author-notes", "newest-20", "ids-100", "newest-100", "feed-300",
        "profiles-300", "hashtag", "window", "rare", "nothing"]


class Relay:
    """A relay on a free port, with one connection."""

    def __init__(self, name, binary, corpus):
        self.name, self.directory = name, tempfile.mkdtemp(prefix="in-turn-")
        data, log = self.directory + "/data", self.directory + "/log"
        subprocess.run([binary, "--data", data, "import", corpus], check=True, capture_output=True)
        self.process = subprocess.Popen([binary, "serve", "--data", data, "--listen", "127.0.0.1:0"],
                                        stdout=subprocess.DEVNULL, stderr=open(log, "wb"))
        while not (port := re.search(r"listening on 127\.0\.0\.1:(\d+)", open(log).read())):
            if self.process.poll() is not None:
                sys.exit(open(log).read())
            time.sleep(0.02)
        self.socket = socket.create_connection(("127.0.0.1", int(port[1])))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(REQUEST)
        self.read_until(b"\r\n\r\n", 1)

    def read_until(self, what, count):
        """Reads until `what` has come so often."""
        rest = b""
        while count > 0:
            data = self.socket.recv(1 << 20)
            if not data:
                sys.exit(f"{self.name} closed the connection")
            data = rest + data
            count -= data.count(what)
            rest = data[1 - len(what):]

    def cpu_ns(self):
        tasks = f"/proc/{self.process.pid}/task"
        return sum(int(open(f"{tasks}/{task}/schedstat").read().split()[0]) for task in os.listdir(tasks))

    def ask(self, bursts, closes, queries):
        """CPU per query in microseconds."""
        before = self.cpu_ns()
        for burst in bursts:
            self.socket.sendall(burst)
            self.read_until(b'["EOSE",', queries)
            self.socket.sendall(closes + PING)
            self.read_until(PONG, 1)
        time.sleep(0.0004)
        return (self.cpu_ns() - before) / queries / len(bursts) / 1e3

    def stop(self):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.directory)


def main():
    corpus, burst, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    named = [argument.split("=", 1) for argument in sys.argv[4:]]
    options = {name: value for name, value in named if name in ("reps", "rows")}
    rows, reps = options.get("rows", ",".join(ROWS)).split(","), int(options.get("reps", 1))
    queries = Queries([json.loads(line) for line in open(corpus)])
    relays = [Relay(name, binary, corpus) for name, binary in named if name not in options]
    taken = {row: {relay.name: [] for relay in relays} for row in rows}
    closes = b"".join(frame(["CLOSE", f"q{number}"]) for number in range(burst))
    for number in range(rounds):
        for row in rows:
            bursts = [b"".join(frame(["REQ", f"q{place}", queries.filter(row)]) for place in range(burst))
                      for _ in range(reps)]
            for relay in relays if number % 2 == 0 else reversed(relays):
                taken[row][relay.name].append(relay.ask(bursts, closes, burst))
    for row, by_name in taken.items():
        first = by_name[relays[0].name]
        line = f"{row:14}"
        for name, values in by_name.items():
            line += f"  {name} {statistics.median(values):7.2f}"
            if values is not first:
                ratio = statistics.median(value / other for value, other in zip(values, first))
                line += f" ({100 * (ratio - 1):+.1f}%)"
        print(line)
    for relay in relays:
        relay.stop()


if __name__ == "__main__":
    main()
