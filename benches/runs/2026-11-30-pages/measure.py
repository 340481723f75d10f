#!/usr/bin/env python3
"""What the pages for browsers cost the relay.

    measure.py pages WEIR LOADTEST SECONDS CPU time for each request, with a million bans and a full audit, once somebody
                                           has been logged in for so long
    measure.py turns WEIR LOADTEST ROUNDS  CPU time for each event and each delivery with the dashboard off (A), on while
                                           nobody looks (B) and with a page open (C), in turn: A B C C B A

CPU time is user and system time of the whole relay, from /proc/PID/stat.
"""

import atexit
import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time

TICK = os.sysconf("SC_CLK_TCK")
BANS = 1_000_000
RATES = '[rates]\nexempt_addresses = ["127.0.0.0/8"]\n[server]\nmax_connections_per_address = 2000\n'
DASHBOARD = "[dashboard]\non_relay_address = true\n"
HTML = {"Accept": "text/html"}


class Relay:
    def __init__(self, weir, config, prepare=lambda data: None):
        self.home = tempfile.TemporaryDirectory(dir=os.environ.get("MEASURE_DIR"))
        self.weir, self.file, self.data = weir, f"{self.home.name}/weir.toml", f"{self.home.name}/data"
        with open(self.file, "w") as out:
            out.write(config)
        prepare(self.data)
        began = time.monotonic()
        command = [weir, "--config", self.file, "--data", self.data, "serve", "--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        atexit.register(self.process.kill)
        for line in self.process.stderr:
            if found := re.search(r"listening on ([0-9.]+):(\d+)", line):
                self.port = int(found[2])
                break
        self.started_s = time.monotonic() - began
        threading.Thread(target=lambda: [None for _ in self.process.stderr], daemon=True).start()
        self.cookie, self.socket = "", None

    def cpu_s(self):
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def cpu_ns(self):
        """The same by the scheduler's clock, for a single request."""
        used = 0
        for task in os.listdir(f"/proc/{self.process.pid}/task"):
            with open(f"/proc/{self.process.pid}/task/{task}/schedstat") as file:
                used += int(file.read().split()[0])
        return used

    def rss_mib(self):
        with open(f"/proc/{self.process.pid}/status") as file:
            return int(re.search(r"RssAnon:\s+(\d+)", file.read())[1]) >> 10

    def ask(self, method, path, body=None, headers=()):
        headers = {"Host": f"127.0.0.1:{self.port}", "Cookie": self.cookie, **dict(headers)}
        if method == "POST":
            headers["Origin"] = f"http://127.0.0.1:{self.port}"
        if self.socket is None:
            self.socket = http.client.HTTPConnection("127.0.0.1", self.port)
        self.socket.request(method, path, body, headers)
        answer = self.socket.getresponse()
        text = answer.read()
        if answer.will_close:
            self.socket = None
        return answer, text

    def enter(self):
        command = [self.weir, "--config", self.file, "--data", self.data, "dashboard"]
        link = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("#")[1].strip()
        answer, text = self.ask("POST", "/dashboard/login", link)
        assert answer.status == 200, text
        self.cookie = answer.headers["Set-Cookie"].split(";")[0]

    def call(self, method, *params):
        answer, text = self.ask("POST", "/dashboard/call", json.dumps({"method": method, "params": params}))
        told = json.loads(text)
        assert "result" in told, text
        return told["result"]

    def end(self):
        self.process.terminate()
        self.process.wait()
        self.home.cleanup()


def bans(data):
    os.makedirs(f"{data}/management", mode=0o700)
    last = BANS + 60_000
    with open(f"{data}/management/state.jsonl", "w") as out:
        out.write(json.dumps({"format": 1, "last": last, "decisions": BANS}) + "\n")
        by = "ab" * 32
        for number in range(1, BANS + 1):
            key = f"{number * 0x9E3779B97F4A7C15 % (1 << 256):064x}"
            decision = f'{{"verdict":"ban","text":"spam and scams","number":{number},"at":1790000000,"by":"{by}"}}'
            out.write(f'{{"subject":"key:{key}","decision":{decision}}}\n')
    for file, acts in [("audit.4", 10_000), ("audit.3", 20_000), ("audit.2", 30_000), ("audit.1", 40_000), ("audit", 50_000)]:
        with open(f"{data}/management/{file}.jsonl", "w") as out:
            for number in range(BANS + acts + 1, BANS + acts + 10_001):
                out.write(json.dumps({"number": number, "at": 1790000000, "by": "ab" * 32, "method": "purge",
                                      "subject": f"key:{number:064x}", "reason": "x" * 200, "events": 7}) + "\n")


def size(answer):
    """Bytes of the texts of one or more answers, or of a result as JSON."""
    if isinstance(answer, tuple):
        return len(answer[1])
    if isinstance(answer, list) and answer and isinstance(answer[0], tuple):
        return sum(len(text) for _, text in answer)
    return len(json.dumps(answer))


def pages(weir, loadtest, seconds):
    management = '[management]\nadmins = ["' + "ab" * 32 + '"]\n'
    info = '[info]\npublic_stats = true\npubkey = "' + "ab" * 32 + '"\n'
    relay = Relay(weir, RATES + DASHBOARD + management + info, bans)
    print(f"a million bans: started after {relay.started_s:.1f} s, {relay.rss_mib()} MiB of anonymous memory\n")
    url = f"ws://127.0.0.1:{relay.port}"
    command = [loadtest, "run", "-q", "--url", url, "--scenario", "publish-new", "--no-read-back"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    relay.enter()
    time.sleep(int(seconds))
    relay.socket = None
    tag = relay.ask("GET", "/", headers=HTML)[0].headers["ETag"]
    end = relay.call("figures", "recent", 0)["series"]["end"]
    call = lambda *of: lambda: relay.call(*of)
    get = lambda path, **headers: lambda: relay.ask("GET", path, headers=headers)
    files = ["dashboard.css", "main.js", "dom.js", "plot.js", "overview.js", "acts.js"]
    everything = lambda: [relay.ask("GET", f"/dashboard/{file}") for file in files]
    rows = [
        ("front door", get("/", **HTML), 4000),
        ("front door, which the browser has", get("/", **HTML, **{"If-None-Match": tag}), 4000),
        ("dashboard, its page", get("/dashboard"), 4000),
        ("dashboard, its six files", everything, 1000),
        ("dashboard, who is logged in", get("/dashboard/session"), 4000),
        ("figures: two seconds more", call("figures", "recent", end), 2000),
        ("figures: ten minutes", call("figures", "recent", 0), 1000),
        ("figures: a day", call("figures", "day", 0), 1000),
        ("storage by kind, with a forecast that is kept", call("storage"), 1000),
        ("slow queries", call("view", 0), 1000),
        ("bans: 50, the first page", call("listbannedpubkeys", 50, 0), 2000),
        ("bans: 50, the last page", call("listbannedpubkeys", 50, BANS - 50), 2000),
        ("bans: how many", call("countdecisions"), 2000),
        ("audit: 50, the first page", call("audit", 50, 0), 2000),
        ("audit: 50, the last page", call("audit", 50, 49_950), 2000),
        ("look up a key without events", call("lookup", "e" * 64), 2000),
        ("configuration", call("configuration"), 1000),
        ("purges", call("purges"), 2000),
    ]
    print("| request | bytes | CPU, ms |\n|---|---:|---:|")
    for name, ask, count in rows:
        before = relay.cpu_ns()
        answer, asked = ask(), 1
        if name.startswith("storage"):
            while answer["forecast"]["read"] < answer["forecast"]["to_read"]:
                answer, asked = ask(), asked + 1
            used = (relay.cpu_ns() - before) / 1e6 / asked
            print(f"| storage by kind, of {asked} requests that read for a forecast | | {used:.3f} |")
        before = relay.cpu_s()
        for _ in range(count):
            ask()
        used = 1000 * (relay.cpu_s() - before) / count
        print(f"| {name} | {size(answer):,} | {used:.3f} |", flush=True)
    for name, seconds in [("logged in, half a minute without a request", 30)]:
        before = relay.cpu_s()
        time.sleep(seconds)
        print(f"| {name} | | {1000 * (relay.cpu_s() - before):.0f} |", flush=True)
    relay.end()


def look(relay, is_over):
    """The calls of an open page, as often as it makes them."""
    turns, end = 0, 0
    while not is_over.wait(0 if turns == 0 else 2):
        end = relay.call("figures", "recent", end)["series"]["end"]
        if turns % 5 == 0:
            relay.call("storage")
            relay.call("view", 0)
        turns += 1


def turn(weir, loadtest, kind, scenario, arguments):
    relay = Relay(weir, RATES + ("" if kind == "A" else DASHBOARD))
    is_over = threading.Event()
    page = None
    if kind == "C":
        relay.enter()
        page = threading.Thread(target=look, args=(relay, is_over))
        page.start()
    report = f"{relay.home.name}/report.json"
    command = [loadtest, "run", "-q", "--url", f"ws://127.0.0.1:{relay.port}", "--scenario", scenario, "--no-read-back",
               "--pid", str(relay.process.pid), "--json", report, *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    is_over.set()
    if page:
        page.join()
    with open(report) as file:
        told = json.load(file)
    relay.end()
    return told["phases"][0]["relay_cpu_us_per_unit"]


def turns(weir, loadtest, rounds):
    scenarios = [
        ("publish-new", []),
        ("publish-new", ["--rate", "6000", "--count", "30000"]),
        ("fanout-few-to-many", ["--duration", "5"]),
    ]
    for scenario, arguments in scenarios:
        found = {kind: [] for kind in "ABC"}
        for _ in range(int(rounds)):
            for kind in "ABCCBA":
                found[kind].append(turn(weir, loadtest, kind, scenario, arguments))
        print(f"{' '.join([scenario, *arguments])}, µs of CPU for each unit:")
        for kind, values in found.items():
            print(f"  {kind} median {statistics.median(values):.3f}  {' '.join(f'{value:.2f}' for value in values)}")
        sys.stdout.flush()


{"pages": pages, "turns": turns}[sys.argv[1]](*sys.argv[2:])
