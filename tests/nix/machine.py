"""A machine of a NixOS test as a systemd-nspawn container over a copy-on-write view of this one's root, with the part
of the NixOS test driver's Machine that nix/test.py uses. What it lacks is an AttributeError."""

import os
import shlex
import subprocess
import time

# Where the packages of a machine are.
PREFIX = "/opt/nix"
PATH = f"{PREFIX}/psentry/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# How often a condition is looked at, and for how long.
LOOK, PATIENCE = 0.1, 60


class Failed(Exception):
    """What a test asked for is not so."""


def run(*line, **more):
    return subprocess.run(line, check=True, text=True, **more)


class Machine:
    def __init__(self, name, number, made, programs, work, cgroup):
        self.name, self.number, self.made, self.programs = name, number, made, programs
        self.folder, self.cgroup = f"{work}/{name}", f"{cgroup}-{name}"
        self.root = f"{self.folder}/root"
        self.nspawn = self.leader = None
        for part in ["up", "wk", "root"]:
            os.makedirs(f"{self.folder}/{part}")
        layers = f"lowerdir=/,upperdir={self.folder}/up,workdir={self.folder}/wk"
        run("mount", "-t", "overlay", "overlay", "-o", layers, self.root)
        self._install()

    # What a switch to the configuration would have left on the disk.

    def _write(self, path, text):
        path = self.root + path
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if os.path.islink(path):
            os.unlink(path)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)

    def _link(self, path, target):
        path = self.root + path
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if os.path.lexists(path):
            os.unlink(path)
        os.symlink(target, path)

    def _install(self):
        made, system = self.made, "/etc/systemd/system"
        # No service of this machine: neither what is enabled here nor what only a whole machine needs.
        enabled = run("find", f"{self.root}{system}", "-path", "*.wants/*", "-printf", "%f\n", stdout=subprocess.PIPE)
        alone = ["console-getty", "systemd-networkd", "systemd-resolved", "systemd-logind"]
        for unit in enabled.stdout.split() + [f"{name}.service" for name in alone]:
            self._link(f"{system}/{unit}", "/dev/null")
        self._write("/etc/machine-id", "")
        self._write("/etc/hostname", f"{self.name}\n")
        self._write("/etc/greeting", "SSH-2.0-stand-in\n")
        self._write("/etc/systemd/journald.conf.d/test.conf", "[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\n")
        for unit, text in (made["units"] | self._stand_ins()).items():
            self._write(f"{system}/{unit}", text)
        for link in made["links"] + [f"multi-user.target.wants/{unit}" for unit in self._stand_ins()]:
            self._link(f"{system}/{link}", f"../{os.path.basename(link)}")
        for name, file in made["etc"].items():
            self._write(file["path"], file["text"])
            self._link(f"/etc/{name}", file["path"])
        self._write("/etc/sysusers.d/nixos.conf", made["sysusers"])
        self._write("/etc/tmpfiles.d/nixos.conf", made["tmpfiles"])
        # A package has its programs in bin; Debian has this one elsewhere.
        self._link("/usr/bin/ipset", "../sbin/ipset")
        self._write("/etc/nftables.conf", self._ruleset())

    def _stand_ins(self):
        """Services that NixOS brings and that are no part of psentry."""
        units = {}
        for port in self.made["ssh"]:
            # All that is asked of sshd here is whether it is reached.
            listen = f"TCP6-LISTEN:{port},ipv6only=0,reuseaddr,fork"
            # From a file: socat 1.8 sends nothing if the process that it runs has ended before it looks at it.
            greeting = "OPEN:/etc/greeting,rdonly!!OPEN:/dev/null,wronly"
            units[f"sshd-{port}.service"] = f"[Service]\nExecStart=socat {listen} {greeting}\n"
        if self.made["nftables"]["enable"]:
            load = "nft -f /etc/nftables.conf"
            units["nftables.service"] = (
                "[Unit]\nBefore=network-pre.target\nWants=network-pre.target\nDefaultDependencies=no\n[Service]\n"
                f"Type=oneshot\nRemainAfterExit=yes\nExecStart={load}\nExecReload={load}\nExecStop=nft flush ruleset\n"
            )
        return units

    def _ruleset(self):
        """The firewall of NixOS in short: what is not allowed is refused."""
        firewall, flush = self.made["firewall"], self.made["nftables"]["flushRuleset"]
        lines = ["flush ruleset"] if flush else ["table inet nixos-fw", "delete table inet nixos-fw"]
        lines += ["table inet nixos-fw {", "chain input {", "type filter hook input priority filter; policy drop;"]
        lines += ["iifname lo accept", "ct state established,related accept", "meta l4proto { icmp, icmpv6 } accept"]
        for protocol in ["tcp", "udp"]:
            ports = [str(port) for port in firewall[f"allowed{protocol.upper()}Ports"]]
            ranges = firewall[f"allowed{protocol.upper()}PortRanges"]
            ports += ["{from}-{to}".format(**both) for both in ranges]
            lines += [f"{protocol} dport {{ {', '.join(ports)} }} accept"] if ports else []
        lines.append(firewall["extraInputRules"])
        return "\n".join(lines + ["}", "}", ""])

    # The machine on and off.

    def start(self, allow_reboot=False):
        """Boots, and waits until it has."""
        if self.nspawn:
            return
        base, name = os.path.dirname(self.cgroup), os.path.basename(self.cgroup)
        os.makedirs(f"{base}/{name}", exist_ok=True)
        nspawn = ["systemd-nspawn", "--quiet", "-M", name, "--private-network", "-D", self.root, "--keep-unit"]
        nspawn += [f"--bind-ro={self.programs}:{PREFIX}/psentry", "--register=no", "--boot", "--console=pipe"]
        # Two containers in one control group would be one tree of services.
        script = 'echo $$ > "$0/cgroup.procs"; export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1; exec "$@"'
        with open(f"{self.folder}/console", "w", encoding="utf-8") as console:
            self.nspawn = subprocess.Popen(
                ["bash", "-ec", script, self.cgroup, *nspawn],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console,
            )
        self._until("the first process is there", self._leader)
        self._network()
        states = ["running\n", "degraded\n"]
        self._until("it has booted", lambda: self.execute("systemctl is-system-running")[1] in states)

    def _leader(self):
        if self.nspawn.poll() is not None:
            with open(f"{self.folder}/console", encoding="utf-8") as console:
                raise Failed(f"{self.name}: systemd-nspawn ended: {console.read()}")
        net = lambda pid: os.readlink(f"/proc/{pid}/ns/net")
        try:
            with open(f"/proc/{self.nspawn.pid}/task/{self.nspawn.pid}/children", encoding="utf-8") as children:
                self.leader = children.read().split()[0]
            # A helper of nspawn comes first, and goes; only the container has a network of its own.
            return net(self.leader) != net("self") and self.execute("test -d /run/systemd/system")[0] == 0
        except (OSError, IndexError):
            return False

    def _network(self):
        """A cable from eth1 to the bridge that all machines hang on."""
        cable = f"cable{self.number}"
        # The same after a reboot, as of a real card: the others remember it.
        card = f"52:54:00:12:01:{self.number:02x}"
        peer = ["peer", "name", "eth1", "address", card, "netns", self.leader]
        run("ip", "link", "add", cable, "type", "veth", *peer)
        run("ip", "link", "set", cable, "master", "bridge", "up")
        inside = ["nsenter", "--target", self.leader, "--net", "ip"]
        eth1 = self.made["interfaces"]["eth1"]
        for family, more in [("ipv4", []), ("ipv6", ["nodad"])]:
            for address in eth1[family]["addresses"]:
                run(*inside, "address", "add", f"{address['address']}/{address['prefixLength']}", "dev", "eth1", *more)
        run(*inside, "link", "set", "lo", "up")
        run(*inside, "link", "set", "eth1", "up")

    def shutdown(self):
        if self.nspawn is None:
            return
        if self.leader is None or self.execute("systemctl poweroff")[0] != 0:
            self.nspawn.terminate()
        try:
            self.nspawn.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.nspawn.kill()
            self.nspawn.wait()
        self.nspawn = self.leader = None

    def remove(self):
        """Off, and all that is left of it is gone."""
        self.shutdown()
        # nspawn makes one in the old hierarchy of systemd, too, where a kernel has both.
        name = os.path.basename(self.cgroup)
        for group in [self.cgroup, f"/sys/fs/cgroup/systemd/{name}"]:
            line = ["find", group, "-depth", "-type", "d", "-exec", "rmdir", "{}", "+"]
            subprocess.run(line, stderr=subprocess.DEVNULL, check=False)

    # What tests ask.

    def execute(self, command, check_return=True, check_output=True, timeout=900):
        clean = ["env", "-i", f"PATH={PATH}", "HOME=/root", "TERM=dumb", "LANG=C.UTF-8"]
        line = ["nsenter", "--target", self.leader, "--all", *clean, "timeout", str(timeout), "bash", "-c"]
        done = subprocess.run(line + ["set -euo pipefail; " + command], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
        self.said = done.stderr
        return done.returncode, done.stdout

    def succeed(self, *commands, timeout=None):
        output = ""
        for command in commands:
            status, said = self.execute(command, timeout=timeout or 900)
            if status != 0:
                raise Failed(f"{self.name}: `{command}` ended with {status}\n{said}{self.said}")
            output += said
        return output

    def fail(self, *commands, timeout=None):
        output = ""
        for command in commands:
            status, said = self.execute(command, timeout=timeout or 900)
            if status == 0:
                raise Failed(f"{self.name}: `{command}` ended well, and should not\n{said}")
            output += said
        return output

    def _until(self, what, condition, timeout=PATIENCE):
        end = time.monotonic() + timeout
        while not (result := condition()):
            if time.monotonic() > end:
                raise Failed(f"{self.name}: waited in vain until {what}")
            time.sleep(LOOK)
        return result

    def wait_until_succeeds(self, command, timeout=PATIENCE):
        return self._until(f"`{command}` ends well", lambda: self.execute(command)[0] == 0, timeout)

    def wait_for_unit(self, unit, user=None, timeout=PATIENCE):
        def active():
            state = self.execute(f"systemctl show -P ActiveState {shlex.quote(unit)}")[1].strip()
            if state == "failed":
                raise Failed(f"{self.name}: {unit} failed\n" + self.execute(f"journalctl -u {unit} -n 30")[1])
            return state == "active"

        self._until(f"{unit} is active", active, timeout)

    def wait_for_open_port(self, port, addr="localhost", timeout=PATIENCE):
        self.wait_until_succeeds(f"exec 3<>/dev/tcp/{addr}/{port}", timeout)
