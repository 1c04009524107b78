"""Machines and a network between them, on one machine: network namespaces whose only link has a bandwidth and a delay.

    netlab.py run --hosts 2 --rate 1gbit --delay 1ms -- COMMAND...     as root: the command, in the namespace of host 0
    netlab.py mpirun --hosts 2 --rate 1gbit -- PROGRAM...              one rank of a program on every host (Open MPI)
    netlab.py run --cut 1:20 -- COMMAND...                             the cable of host 1 is pulled after 20 s: a node that is gone
    netlab.py ssh HOST COMMAND...                                      inside of that: the command on another host; for
                                                                       mpirun --mca plm_rsh_agent, which thinks it is ssh

Host i has the address 10.77.0.(i + 1) on a TAP device `eth0`, whose way out is shaped by tc (tbf: a token bucket); this
program is the switch between them and holds each frame for the delay (tc's netem does the same, where the kernel has it).
Frames are large (MTU 60000), so that the switch has little to do.  Hosts share the cores: host i is kept on core i mod cores.
"""
import argparse
import collections
import fcntl
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

MTU = 60000
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
BURST = MTU + 1000  # bytes that a token bucket lets through at once after a rest: one frame, the least it can be


def address(host):
    return f"10.77.0.{host + 1}"


def namespace(host):
    return f"fdmlab{host}"


def sh(*words, check=True):
    return subprocess.run(words, check=check, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE if check else subprocess.DEVNULL,
                          text=True)


def inside(host):
    """The words in front of a command that run it on a host."""
    return ["ip", "netns", "exec", namespace(host), "taskset", "-c", str(host % os.cpu_count())]


def seconds(text):
    number, unit = re.fullmatch(r"([0-9.]+)(us|ms|s)", text).groups()
    return float(number) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[unit]


def bytes_per_second(text):
    number, unit = re.fullmatch(r"([0-9.]+)(k|m|g)bit", text).groups()
    return float(number) * {"k": 1e3, "m": 1e6, "g": 1e9}[unit] / 8


def make_host(host, rate):
    """A namespace with its device; returns the file that the switch reads the device's frames from."""
    name = f"fdmtap{host}"
    sh("ip", "netns", "add", namespace(host))
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    sh("ip", "link", "set", name, "netns", namespace(host), "name", "eth0")
    within = ["ip", "-n", namespace(host)]
    sh(*within, "link", "set", "eth0", "address", f"02:77:00:00:00:{host + 1:02x}", "mtu", str(MTU), "txqueuelen", "4000")
    sh(*within, "addr", "add", address(host) + "/24", "dev", "eth0")
    sh(*within, "link", "set", "eth0", "up")
    sh(*within, "link", "set", "lo", "up")
    if rate:
        sh("ip", "netns", "exec", namespace(host), "tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", rate, "burst",
           str(BURST), "limit", str(64 << 20))
    return tap


def remove_hosts(hosts):
    for host in range(hosts):
        sh("ip", "netns", "del", namespace(host), check=False)


def switch(taps, delay):
    """Carries frames between the hosts for ever, each held for the delay."""
    waiting = collections.deque()  # (when it is due, where to, frame): in order, as all are held alike
    while True:
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, host, frame = waiting.popleft()
            for i in range(len(taps)) if host is None else [host]:
                try:
                    os.write(taps[i], frame)
                except OSError:
                    pass  # a full queue: TCP sends it again
        ready, _, _ = select.select(taps, [], [], max(0.0, waiting[0][0] - now) if waiting else 1.0)
        for tap in ready:
            try:
                frame = os.read(tap, MTU + 64)
            except BlockingIOError:
                continue
            host = frame[5] - 1 if frame[0] == 2 else None  # else a broadcast: ARP
            if host is None or host < len(taps):
                waiting.append((time.monotonic() + delay, host, frame))


def mpirun(ranks, *options):
    """The words in front of a program that start a rank of it on each of the first hosts; for Lab.run on host 0."""
    agent = f"{sys.executable} {os.path.abspath(__file__)} ssh"
    hosts = ",".join(address(i) for i in range(ranks))
    launcher = "mpirun.openmpi" if shutil.which("mpirun.openmpi") else "mpirun"
    return [launcher, "--allow-run-as-root", "--host", hosts, "-n", str(ranks), "--bind-to", "none", "--mca", "plm_rsh_agent", agent,
            "--mca", "btl", "self,tcp", "--mca", "pml", "ob1", "--mca", "btl_tcp_if_include", "eth0", "--mca", "oob_tcp_if_include",
            "eth0", *options]


class Lab:
    """with Lab(hosts, rate, delay) as lab: lab.run(host, command)"""

    def __init__(self, hosts, rate=None, delay="0s"):
        self.hosts, self.rate, self.delay, self.process = hosts, rate, delay, None

    def __enter__(self):
        remove_hosts(self.hosts)
        try:
            taps = [make_host(host, self.rate) for host in range(self.hosts)]
        except (OSError, subprocess.CalledProcessError) as e:
            remove_hosts(self.hosts)
            raise SystemExit(f"netlab: no network of namespaces here (needs root, ip, tc, /dev/net/tun): {getattr(e, 'stderr', None) or e}")
        self.process = os.fork()
        if self.process == 0:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            try:
                switch(taps, seconds(self.delay))
            finally:
                os._exit(0)
        for tap in taps:
            os.close(tap)
        return self

    def __exit__(self, *_):
        os.kill(self.process, signal.SIGTERM)
        os.waitpid(self.process, 0)
        remove_hosts(self.hosts)

    def run(self, host, command, **how):
        return subprocess.run(inside(host) + command, check=False, **how)

    def cut(self, host):
        """Pulls a host's cable, for good.  The others are not told: what they send is lost."""
        sh("ip", "-n", namespace(host), "link", "set", "eth0", "down")

    def pair(self, what):
        """What a program at host 0 prints that talks to one at host 1; and the core seconds of all three, switch included."""
        me = [sys.executable, os.path.abspath(__file__), what]
        before, children = cpu_seconds(self.process), os.times()
        other = subprocess.Popen(inside(1) + me + ["serve"], stdout=subprocess.PIPE)
        other.stdout.readline()  # it listens
        done = self.run(0, me + [address(1)], stdout=subprocess.PIPE, text=True)
        other.wait()
        after = os.times()
        cpu = cpu_seconds(self.process) - before + sum(after[2:4]) - sum(children[2:4])
        return float(done.stdout), cpu

    def round_trip(self):
        """Seconds of a short message there and back, the median of many: twice the latency."""
        return self.pair("ping")[0]

    def stream(self):
        """(bytes per second in each direction when both are used, core seconds of a byte)"""
        start = self.pair("nothing")[1]
        seconds_taken, cpu = self.pair("stream")
        return STREAM / seconds_taken, max(0.0, cpu - start) / (2 * STREAM)


STREAM = 24 << 20  # bytes that go each way to find the bandwidth


def cpu_seconds(process):
    with open(f"/proc/{process}/stat", encoding="utf-8") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def connect(where):
    if where != "serve":
        peer = socket.create_connection((where, 7777))
    else:
        with socket.create_server(("", 7777)) as server:
            print("ready", flush=True)
            peer, _ = server.accept()
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return peer


def ping(where, count=50):
    times = []
    with connect(where) as peer:
        if where == "serve":
            while data := peer.recv(64):
                peer.sendall(data)
            return
        for _ in range(count):
            start = time.monotonic()
            peer.sendall(b"x")
            peer.recv(64)
            times.append(time.monotonic() - start)
    print(sorted(times)[count // 2])


def stream(where):
    """Both send and receive STREAM bytes; prints the seconds of that, from those of the last three quarters: TCP starts slowly."""
    with connect(where) as peer:
        start, left = None, STREAM
        thread = threading.Thread(target=peer.sendall, args=(bytes(STREAM),))
        thread.start()
        while left > 0:
            left -= len(peer.recv(1 << 20))
            if start is None and left <= STREAM * 3 // 4:
                start, timed = time.monotonic(), left
        taken = (time.monotonic() - start) * STREAM / timed
        thread.join()
        if where != "serve":
            print(taken)


def nothing(where):
    connect(where).close()
    if where != "serve":
        print(0)


def ssh(words):
    """What mpirun calls: options of ssh, the host, the command as one or more words."""
    words = [w for w in words if w not in ("-x", "-n", "-T")]
    host = int(words[0].rsplit(".", 1)[1]) - 1
    command = inside(host) + ["sh", "-c", " ".join(words[1:])]
    os.execvp(command[0], command)


def host_and_seconds(text):
    host, after = text.split(":")
    return int(host), float(after)


def run_and_cut(lab, command, host, after):
    """Says how long the command goes on without the host."""
    def pull():
        lab.cut(host)
        pulled.append(time.monotonic())
    pulled, timer = [], threading.Timer(after, pull)
    timer.start()
    code = lab.run(0, command).returncode
    timer.cancel()
    when = f"{time.monotonic() - pulled[0]:.1f} s after host {host} was cut off" if pulled else f"before host {host} was cut off"
    print(f"netlab: exit code {code}, {when}", file=sys.stderr)
    return code


def main():
    if len(sys.argv) > 2 and sys.argv[1] in ("ssh", "ping", "stream", "nothing"):
        return {"ssh": lambda: ssh(sys.argv[2:]), "ping": lambda: ping(sys.argv[2]), "stream": lambda: stream(sys.argv[2]),
                "nothing": lambda: nothing(sys.argv[2])}[sys.argv[1]]()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "mpirun"])
    parser.add_argument("--hosts", type=int, default=2)
    parser.add_argument("--rate", help="bandwidth out of each host, as tc takes it (1gbit); default: none")
    parser.add_argument("--delay", default="0s", help="of every frame (1ms)")
    parser.add_argument("--cut", metavar="HOST:SECONDS", type=host_and_seconds, help="take a host off the network after so long")
    parser.add_argument("command", nargs="+")
    args = parser.parse_args()
    if args.cut and args.cut[0] >= args.hosts:
        parser.error(f"--cut {args.cut[0]}: there are {args.hosts} hosts")
    command = mpirun(args.hosts) + args.command if args.what == "mpirun" else args.command
    with Lab(args.hosts, args.rate, args.delay) as lab:
        if not args.cut:
            return lab.run(0, command).returncode
        return run_and_cut(lab, command, *args.cut)


if __name__ == "__main__":
    sys.exit(main())
