#!/usr/bin/env python3
"""A write-policy plugin in strfry's protocol that does what the content of an event says, and misbehaves on demand.

usage: plugin.py MODE [FILE]     every line that it is asked is appended to FILE

MODE judge      answers each event at once
     reverse    answers three events at a time, the last one first
     no-id      answers without the event's id
     one-only   dies when it is asked about a second event before it has answered the first
     slow MS    answers each event after MS milliseconds, and takes others meanwhile
"""

import heapq
import json
import os
import select
import sys
import time

mode = sys.argv[1]
log = open(sys.argv[-1], "a", buffering=1) if len(sys.argv) > 2 and mode != "slow" else None


def say(*answers):
    os.write(1, "".join(json.dumps(answer) + "\n" for answer in answers).encode())


def verdict(event):
    action, _, message = event["content"].partition(" ")
    if action in ("reject", "shadowReject", "unknown"):
        return {"id": event["id"], "action": action, "msg": message}
    return {"id": event["id"], "action": "accept", "msg": ""}


def hang(until=lambda: False):
    """Neither reads nor answers until then, or for as long as there is a relay."""
    end = select.poll()
    end.register(0, 0)
    while not until():
        if end.poll(20):
            os._exit(0)


def misbehave(event):
    """Returns whether the event is not to be answered as usual."""
    word = event["content"].split(" ")[0]
    if word == "die":
        os._exit(3)
    if word == "hang":
        hang()
    if word == "wait":
        hang(lambda: os.path.exists(log.name + ".go"))
    if word == "ignore":
        return True
    if word == "flood":
        while True:
            os.write(1, b"no answer at all\n" * 1000)
    if word == "endless":
        os.write(1, b"x" * 100_000)
        hang()
    if word == "long":
        os.write(1, b"x" * 9000 + b"\n")
    if word == "complain":
        for number in range(1000):
            print(f"complaint {number}", file=sys.stderr)
    if word == "rubbish":
        os.write(1, b"starting up\n{}\n[1,2]\n\xff\xfe\n\n" + b'{"id":"' + b"0" * 64 + b'","action":"accept"}\n')
    if word == "twice":
        say(verdict(event))
    return False


def requests():
    """The requests that wait, at least one."""
    buffer = b""
    while True:
        chunk = os.read(0, 1 << 16)
        if not chunk:
            return
        *lines, buffer = (buffer + chunk).split(b"\n")
        if lines:
            if log:
                log.write("".join(line.decode() + "\n" for line in lines))
            yield [json.loads(line) for line in lines]


def slow(delay):
    due, buffer = [], b""
    while True:
        wait = max(0, due[0][0] - time.monotonic()) if due else None
        if select.select([0], [], [], wait)[0]:
            chunk = os.read(0, 1 << 16)
            if not chunk:
                return
            *lines, buffer = (buffer + chunk).split(b"\n")
            for line in lines:
                heapq.heappush(due, (time.monotonic() + delay, line))
        answers = []
        while due and due[0][0] <= time.monotonic():
            answers.append(verdict(json.loads(heapq.heappop(due)[1])["event"]))
        say(*answers)


if mode == "slow":
    slow(int(sys.argv[2]) / 1000)
held = []
for batch in requests() if mode != "slow" else []:
    if mode == "one-only" and len(batch) > 1:
        os._exit(4)
    for request in batch:
        event = request["event"]
        if misbehave(event):
            continue
        answer = verdict(event)
        if mode == "no-id":
            del answer["id"]
        held.append(answer)
        # The first answer opens the way for several at a time.
        if mode != "reverse" or len(held) == 3 or event["content"] == "first":
            say(*reversed(held))
            held = []
