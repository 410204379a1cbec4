//! What a thousand decoy ports cost: how long psentry-listen takes until it is ready and until each port has answered,
//! and how much memory, for ports that it binds and for ports that are passed to it as systemd passes them; beside ten
//! ports, and beside a bare loop that only binds. All in one run, in turns, in a network namespace of its own.
//!
//! `cargo bench --bench decoys`

// A benchmark may end at the first surprise.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::env;
use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV6, TcpStream};
use std::ops::RangeInclusive;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use socket2::{Domain, Socket, Type};

/// Says that this process is inside its namespace.
const INSIDE: &str = "PSENTRY_BENCH_INSIDE";

/// How often each is measured; what is printed is the median.
const ROUNDS: usize = 15;

/// The first port.
const FIRST: u16 = 10_000;

/// The arguments that make this program one that only binds, and one that binds and becomes psentry-listen.
const BARE: &str = "--only-bind";
const PASS: &str = "--bind-and-pass";

/// Who opens the ports.
const WAYS: [&str; 3] = ["only bound", "psentry-listen --tcp", "passed to psentry-listen"];

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    match &args[..] {
        [way, count] if way == BARE => only_bind(count.parse().unwrap()),
        [way, count] if way == PASS => bind_and_pass(count.parse().unwrap()),
        _ if env::var_os(INSIDE).is_some() => measure(args.iter().any(|arg| arg == "--bench")),
        _ => return enter(&args),
    }
    ExitCode::SUCCESS
}

/// Becomes the same in a network namespace of its own, with as many descriptors as may be had, and none but the usual
/// three open.
fn enter(args: &[String]) -> ExitCode {
    let ready = r#"ip link set lo up; ulimit -n "$(ulimit -Hn)"
        for fd in /proc/$$/fd/*; do fd=${fd##*/}; [ "$fd" -lt 3 ] || eval "exec $fd>&-"; done; exec "$@""#;
    let error = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--", "bash", "-ec", ready, "bash"])
        .arg(env::current_exe().unwrap())
        .args(args)
        .env(INSIDE, "1")
        .exec();
    eprintln!("unshare: {error}");
    ExitCode::FAILURE
}

/// What one start costs.
struct Cost {
    ready: Duration,
    answered: Duration,
    /// Kilobytes of the process.
    resident: u64,
}

/// As a test (`cargo test --benches`) each is started once, and nothing is printed.
fn measure(print: bool) {
    let rounds = if print { ROUNDS } else { 1 };
    let counts = [10, 1000];
    let mut costs: [[Vec<Cost>; 3]; 2] = Default::default();
    for _ in 0..rounds {
        for (count, costs) in counts.into_iter().zip(&mut costs) {
            for (way, costs) in WAYS.into_iter().zip(costs) {
                costs.push(start(way, count));
            }
        }
    }
    if !print {
        return;
    }
    println!("medians of {rounds} starts, from exec(2) on");
    for (count, costs) in counts.into_iter().zip(&costs) {
        for (way, costs) in WAYS.into_iter().zip(costs) {
            let ready = median(costs.iter().map(|cost| cost.ready));
            let answered = median(costs.iter().map(|cost| cost.answered));
            let resident = median(costs.iter().map(|cost| cost.resident));
            print!("{count:4} ports {way:24} ready {:6.2} ms, ", ready.as_secs_f64() * 1e3);
            if way != WAYS[0] {
                print!("all have answered {:6.2} ms, ", answered.as_secs_f64() * 1e3);
            }
            println!("resident {resident} kB");
        }
    }
}

fn median<T: Ord>(values: impl Iterator<Item = T>) -> T {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable();
    let middle = values.len() / 2;
    values.swap_remove(middle)
}

/// A process that is killed at the end.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts `count` ports, and visits each.
fn start(way: &str, count: u16) -> Cost {
    let place = tempfile::tempdir().unwrap();
    let notify = UnixDatagram::bind(place.path().join("notify")).unwrap();
    notify.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let this = env::current_exe().unwrap();
    let mut command = if way == WAYS[1] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_psentry-listen"));
        command.args(["--tcp", &format!("{}-{}", ports(count).start(), ports(count).end())]);
        command
    } else {
        let mut command = Command::new(this);
        command.arg(if way == WAYS[0] { BARE } else { PASS }).arg(count.to_string());
        command
    };
    command.env("NOTIFY_SOCKET", place.path().join("notify")).stdout(Stdio::null()).stderr(Stdio::null());
    let began = Instant::now();
    let server = Server(command.spawn().unwrap());
    notify.recv(&mut [0; 200]).expect("it is ready");
    let ready = began.elapsed();
    if way != WAYS[0] {
        ports(count).for_each(visit);
    }
    let answered = began.elapsed();
    let status = fs::read_to_string(format!("/proc/{}/status", server.0.id())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    Cost { ready, answered, resident: resident.trim().trim_end_matches(" kB").parse().unwrap() }
}

fn ports(count: u16) -> RangeInclusive<u16> {
    FIRST..=FIRST + count - 1
}

/// Visits a port, which is to reset the connection, perhaps before connect(2) has even returned.
fn visit(port: u16) {
    let result = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).and_then(|mut stream| stream.read(&mut [0]));
    let error = result.expect_err("a decoy says nothing");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "port {port}");
}

/// Binds as psentry-listen does.
fn bind(count: u16) -> Vec<Socket> {
    let bind = |port| {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
        socket.set_only_v6(false).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0).into()).unwrap();
        socket.listen(4096).unwrap();
        socket
    };
    ports(count).map(bind).collect()
}

/// The least that opening ports can cost.
fn only_bind(count: u16) {
    let _sockets = bind(count);
    let notify = UnixDatagram::unbound().unwrap();
    notify.send_to(b"READY=1", env::var_os("NOTIFY_SOCKET").unwrap()).unwrap();
    loop {
        std::thread::park();
    }
}

/// Passes its sockets as sd_listen_fds(3) has them: from 3 on, open beyond exec(2).
fn bind_and_pass(count: u16) {
    let sockets = bind(count);
    for (socket, number) in sockets.iter().zip(3..) {
        assert_eq!(socket.as_raw_fd(), number, "a descriptor that is not the benchmark's is open");
        fcntl(socket, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    }
    let error = Command::new(env!("CARGO_BIN_EXE_psentry-listen"))
        .env("LISTEN_PID", std::process::id().to_string())
        .env("LISTEN_FDS", count.to_string())
        .exec();
    panic!("psentry-listen: {error}");
}
