//! One host of the lab: a process that holds a network namespace open until we let go of it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Program;

/// A network namespace, and the programs to run in it.
pub struct Host {
    holder: Child,
    /// What a program has to enter to be on this host.
    enter: &'static [&'static str],
}

/// A host in a user namespace.
const OWN_USERS: &[&str] = &["--user", "--net", "--mount", "--preserve-credentials"];

/// What the holder does: a private /run (locks, nsswitch sockets) with what services send, a private /var/lib (a panic),
/// loopback, then nothing until its input ends.
const HOLD: &str = "mount -t tmpfs tmpfs /run 2>/dev/null; mount -t tmpfs tmpfs /var/lib 2>/dev/null
    mkdir -p /run/psentry; echo hello > /run/hello
    ip link set lo up; echo ready; exec cat";

impl Host {
    /// A host in a user namespace of its own, with its own mounts.
    pub fn new_in_user_namespace() -> Self {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--net", "--mount", "sh", "-c", HOLD]);
        Self::hold(unshare, OWN_USERS)
    }

    /// A host in the same user namespace as `other`.
    pub fn new_beside(other: &Host) -> Self {
        let mut unshare = other.command("unshare");
        unshare.args(["--net", "sh", "-c", HOLD]);
        Self::hold(unshare, OWN_USERS)
    }

    /// A host on this machine, next to a booted container: takes root.
    pub fn new_in_network_namespace() -> Self {
        let mut unshare = Command::new("unshare");
        unshare.args(["--net", "--mount", "sh", "-c", HOLD]);
        Self::hold(unshare, &["--net", "--mount"])
    }

    fn hold(mut command: Command, enter: &'static [&'static str]) -> Self {
        let mut holder = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare and nsenter come with util-linux");
        let mut ready = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n", "user namespaces are needed: see kernel.unprivileged_userns_clone");
        Host { holder, enter }
    }

    /// The process whose namespaces these are.
    pub fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// A program to be run on this host. It keeps the test's own process id, so that a signal to it arrives.
    pub fn command(&self, program: &str) -> Command {
        let mut nsenter = Command::new("nsenter");
        let pid = self.pid().to_string();
        // Whoever started the tests is not who waits for a program to be ready.
        nsenter.env_remove("NOTIFY_SOCKET");
        nsenter.args(["--target", &pid]).args(self.enter).args(["--", program]);
        nsenter
    }

    /// Runs a program to its end.
    pub fn run(&self, line: &[&str]) -> Output {
        self.command(line[0]).args(&line[1..]).stdin(Stdio::null()).output().unwrap()
    }

    /// Whether a program ends well.
    pub fn ok(&self, line: &[&str]) -> bool {
        self.run(line).status.success()
    }

    /// What a program that ends well prints.
    pub fn read(&self, line: &[&str]) -> String {
        let output = self.run(line);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line:?}: {}: {error}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs lines of shell, each of which must end well.
    pub fn sh(&self, script: &str) -> String {
        self.read(&["sh", "-ec", script])
    }

    /// A service that sends a file to whoever connects, and closes; where it listens is an address of socat(1). Without
    /// a process for each connection: socat 1.8 sends nothing if that has ended before socat looks at it.
    pub fn sends(&self, listen: &str, file: &str) -> Program {
        let file = format!("OPEN:{file},rdonly!!OPEN:/dev/null,wronly");
        Program::start(self.command("socat").args([listen, &file]))
    }

    /// Touches a decoy: it takes the connection and resets it at once, so how that looks from here is chance.
    pub fn touch(&self, address: &str, port: u16) {
        self.run(&["nc", "-z", "-n", "-w", "5", address, &port.to_string()]);
    }

    /// Whether a TCP connection from here is taken.
    pub fn reaches(&self, address: &str, port: u16) -> bool {
        self.ok(&["nc", "-z", "-n", "-w", "5", address, &port.to_string()])
    }

    /// Whether a TCP connection from here is not taken within a second.
    pub fn is_shut_out(&self, address: &str, port: u16) -> bool {
        !self.ok(&["nc", "-z", "-n", "-w", "1", address, &port.to_string()])
    }
}

impl Host {
    /// Ends what still runs on this host, such as the process that a service has for a connection which nobody closed.
    /// What was started meanwhile is found by the next look.
    fn end_all(&self) {
        let network = |process: &Path| fs::read_link(process.join("ns/net")).ok();
        let own = PathBuf::from(format!("/proc/{}", self.pid()));
        let Some(here) = network(&own) else { return };
        for _ in 0..100 {
            let processes = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
            let left: Vec<_> =
                processes.filter(|p| *p != own && network(p).as_ref() == Some(&here)).collect();
            for process in &left {
                let number = process.file_name().and_then(|name| name.to_str()).and_then(|n| n.parse().ok());
                let _ = number.map(|number| kill(Pid::from_raw(number), Signal::SIGKILL));
            }
            if left.is_empty() {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.end_all();
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}
