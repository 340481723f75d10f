"""Python's nostr-sdk as the client: the same things as libraries.mjs has other libraries do.

Started by tests/interop/run, which names the binary (WEIR), its configuration (CONFIG) and a directory (DIRECTORY).
"""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
import traceback
from datetime import timedelta
from pathlib import Path

from nostr_sdk import (ClientBuilder, EventBuilder, Filter, Keys, Kind, RelayOptions, RelayUrl, ReqTarget,
                       SignerAuthenticator, SleepWhenIdle, Tag, Timestamp, uniffi_set_event_loop)

PATIENCE = 60  # seconds for anything to come
STORED, PAGE, PAGING = 5000, 500, 5.0  # events to page through, events of a page, seconds beside the client's own work

directory = Path(os.environ["DIRECTORY"]) / "sdk"


class Relay:
    """The relay as a process, which can be stopped and started again at the same address."""

    def __init__(self, address="127.0.0.1:0"):
        arguments = ["serve", "--listen", address, "--data", directory, "--config", os.environ["CONFIG"]]
        self.log = (Path(os.environ["DIRECTORY"]) / "sdk.log").open("w+")
        self.process = subprocess.Popen([os.environ["WEIR"], *arguments], stderr=self.log)
        end = time.monotonic() + PATIENCE
        while not (found := re.search(r"listening on (\S+)", Path(self.log.name).read_text())):
            assert self.process.poll() is None and time.monotonic() < end, "the relay starts"
            time.sleep(0.05)
        self.address = found[1]
        self.url = RelayUrl.parse(f"ws://{self.address}")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE) == 0, "the relay ends well"


async def connected(relay, keys=None):
    builder = ClientBuilder().sleep_when_idle(SleepWhenIdle.DISABLED())
    if keys:
        builder = builder.authenticator(SignerAuthenticator(keys))
    client = builder.build()
    # Its own interval is ten seconds.
    options = RelayOptions().retry_interval(timedelta(seconds=5)).adjust_retry_interval(False)
    await client.add_relay(relay.url, opts=options)
    await client.connect(timedelta(seconds=PATIENCE))
    return client


def note(keys, content, at=None, kind=1, tags=()):
    builder = EventBuilder(Kind(kind), content).tags([Tag.parse(list(tag)) for tag in tags])
    return (builder.custom_created_at(Timestamp.from_secs(at)) if at else builder).finalize(keys)


def hexes(events):
    return sorted(event.id().to_hex() for event in events)


def by(keys):
    return Filter().kind(Kind(1)).author(keys.public_key())


async def query(client, relay, wanted):
    return await client.fetch_events(ReqTarget.single(relay.url, [wanted]), timedelta(seconds=PATIENCE))


async def publish(client, event):
    output = await client.send_event(event)
    assert output.success and not output.failed, output


async def follow(client, relay, wanted):
    """Subscribes; gives a function that waits for an event by its id."""
    notifications = client.notifications()
    await client.subscribe(ReqTarget.single(relay.url, [wanted]))

    async def until(event):
        while True:
            notification = await notifications.next()
            if notification.is_new_event() and notification.event.id().to_hex() == event.id().to_hex():
                return

    return lambda event: asyncio.wait_for(until(event), PATIENCE)


async def it_publishes_queries_to_the_end_and_follows(relay):
    client, alice = await connected(relay), Keys.generate()
    stored = [note(alice, f"stored {n}", int(time.time()) - 100 + n) for n in range(20)]
    for event in stored:
        await publish(client, event)
    assert hexes(await query(client, relay, by(alice))) == hexes(stored)
    assert hexes(await query(client, relay, by(alice).limit(1))) == hexes(stored[-1:])
    assert hexes(await query(client, relay, by(Keys.generate()))) == [], "a query without a result ends"
    until = await follow(client, relay, by(alice))
    live = note(alice, "live")
    await publish(await connected(relay), live)
    await until(live)


async def it_proves_its_key_when_it_is_asked_to(relay):
    alice, bob = Keys.generate(), Keys.generate()
    message = note(alice, "hello", kind=1059, tags=[["p", bob.public_key().to_hex()]])
    await publish(await connected(relay), message)
    client = await connected(relay, bob)
    found = await query(client, relay, Filter().kind(Kind(1059)).pubkey(bob.public_key()))
    assert hexes(found) == hexes([message])


async def it_pages_through_5000_events_without_waiting(relay):
    alice, until = Keys.generate(), int(time.time()) - 10
    events = [note(alice, f"page {n}", until - n) for n in range(STORED)]
    file = Path(os.environ["DIRECTORY"]) / "sdk.jsonl"
    file.write_text("\n".join(event.as_json() for event in events))
    subprocess.run([os.environ["WEIR"], "--data", directory, "import", "--no-verify", file], check=True, capture_output=True)
    client, found = await connected(relay), {}
    began, computed = time.monotonic(), time.process_time()
    while len(found) < STORED:
        page = await query(client, relay, by(alice).until(Timestamp.from_secs(until)).limit(PAGE))
        assert page, f"{len(found)} events, and no more"
        found.update((event.id().to_hex(), event) for event in page)
        until = min(event.created_at().as_secs() for event in page) - 1
    took, own = time.monotonic() - began, time.process_time() - computed
    assert sorted(found) == hexes(events)
    print(f"        nostr-sdk: {STORED} events in {took * 1000:.0f} ms, {own * 1000:.0f} ms of them its own")
    assert took - own < PAGING, "it waits"


async def it_comes_back_after_a_restart(relay):
    client, alice = await connected(relay), Keys.generate()
    until = await follow(client, relay, by(alice))
    relay.stop()
    again = Relay(relay.address)
    relay.process = again.process
    event = note(alice, "after the restart")
    await publish(await connected(again), event)
    await until(event)


async def main():
    # The library calls the authenticator from a thread of its own.
    uniffi_set_event_loop(asyncio.get_running_loop())
    tests = [it_publishes_queries_to_the_end_and_follows, it_proves_its_key_when_it_is_asked_to,
             it_pages_through_5000_events_without_waiting, it_comes_back_after_a_restart]
    relay, failed = Relay(), 0
    try:
        for test in tests:
            try:
                await asyncio.wait_for(test(relay), 2 * PATIENCE)
                print(f"ok      nostr-sdk: {test.__name__.replace('_', ' ')}")
            except Exception:
                failed += 1
                print(f"FAILED  nostr-sdk: {test.__name__.replace('_', ' ')}\n{traceback.format_exc()}")
    finally:
        relay.process.terminate()
    print(f"{len(tests) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


asyncio.run(main())
