#!/usr/bin/env python3
"""Runs a NixOS test where there is no NixOS: each of its nodes is a systemd-nspawn container with the units that its
configuration makes, and the test script is the test's own, word by word.

    unshare --mount --net --pid --fork --kill-child --mount-proc driver.py TEST.nix PROGRAMS WORK NAME

PROGRAMS is a folder that stands for the package psentry, WORK an empty one, NAME what the control groups begin with.
Takes root. In those namespaces all that it makes ends with it, whatever ends it; only control groups do not, and are removed.
"""

import concurrent.futures
import contextlib
import json
import os
import signal
import subprocess
import sys
import time

from machine import PREFIX, Failed, Machine, run

HERE = os.path.dirname(os.path.abspath(__file__))


def evaluate(test, work):
    """The nodes of the test, as text, and its script."""
    line = ["nix-instantiate", "--eval", "--strict", "--json", f"{HERE}/eval.nix"]
    line += ["--arg", "test", os.path.abspath(test), "--argstr", "prefix", PREFIX]
    line += ["--argstr", "nixpkgsLib", os.environ.get("NIXPKGS_LIB", "")]
    # Nothing of Nix is written or looked for anywhere else.
    own = {"NIX_STATE_DIR": f"{work}/nix/state", "NIX_STORE_DIR": f"{work}/nix/store", "HOME": work}
    own["NIX_CONFIG"] = "build-users-group ="
    return json.loads(run(*line, stdout=subprocess.PIPE, env=os.environ | own).stdout)


@contextlib.contextmanager
def subtest(what):
    began = time.monotonic()
    try:
        yield
    except Exception:
        print(f"FAILED  {what}", flush=True)
        raise
    print(f"ok      {what} ({time.monotonic() - began:.1f} s)", flush=True)


def all_at_once(what, machines):
    with concurrent.futures.ThreadPoolExecutor(len(machines)) as pool:
        for done in [pool.submit(what, machine) for machine in machines]:
            done.result()


def drive(test, machines):
    start_all = lambda: all_at_once(Machine.start, machines)
    scope = {machine.name: machine for machine in machines}
    scope |= {"start_all": start_all, "subtest": subtest, "machines": machines}
    try:
        exec(compile(test["testScript"], test["name"], "exec"), scope)
    except (Failed, AssertionError) as failure:
        for machine in machines:
            if machine.leader:
                journal = machine.execute("journalctl -b -n 30 --no-pager -u 'psentry-*.service' -u nftables")[1]
                print(f"--- {machine.name}\n{journal}", flush=True)
        sys.exit(f"the test {test['name']} failed: {failure}")


def main():
    test, programs, work, name = sys.argv[1:]
    base = "/sys/fs/cgroup"
    base += "/unified" if os.path.isdir(f"{base}/unified") else ""
    # A signal is an exception, so that what stands below `finally` is done.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("asked to stop"))
    machines = []
    # Where nspawn keeps locks and folders for each machine.
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    run("mount", "-t", "tmpfs", "-o", "size=2g", "tmpfs", work)
    try:
        test = evaluate(test, work)
        run("ip", "link", "add", "bridge", "type", "bridge")
        run("ip", "link", "set", "bridge", "up")
        for number, (node, made) in enumerate(sorted(test["nodes"].items()), 1):
            machines.append(Machine(node, number, made, programs, work, f"{base}/{name}"))
        drive(test, machines)
    finally:
        if machines:
            all_at_once(Machine.remove, machines)


main()
