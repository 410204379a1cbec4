//! What psentry-listen costs per connection, against a loop that only accepts and closes.
//!
//! Both are processes of their own, have the same client and the same linger of zero, and run in turns, so that
//! the ratio stands whatever else the machine does. Loopback only.

// A benchmark may end at the first surprise.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::env;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use socket2::SockRef;

/// How many connections are open at once: fewer than the 128 that the standard library lets wait.
const BATCH: u32 = 100;

/// How many batches of each the ratio is taken of.
const ROUNDS: usize = 500;

/// The argument that makes this program the loop to compare with.
const BARE: &str = "--bare-loop";

fn main() {
    if env::args().any(|arg| arg == BARE) {
        return bare_loop();
    }
    let (bare, mut listen) = (Server::bare(), Server::psentry());
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("connections");
    group.throughput(Throughput::Elements(BATCH.into()));
    group.bench_function("bare loop", |bencher| bencher.iter(|| visit(bare.addr)));
    group.bench_function("psentry-listen", |bencher| bencher.iter(|| visit(listen.addr)));
    group.finish();
    criterion.final_summary();
    assert!(listen.is_alive());
    // As a test (`cargo test --benches`) nothing is measured.
    if env::args().any(|arg| arg == "--bench") {
        let ratio = ratio(bare.addr, listen.addr);
        println!("psentry-listen takes {ratio:.2} times as long as the bare loop");
    }
}

/// The median of batches in turns.
fn ratio(bare: SocketAddr, listen: SocketAddr) -> f64 {
    let time = |addr| {
        let began = Instant::now();
        visit(addr);
        began.elapsed()
    };
    let mut times: Vec<(Duration, Duration)> = (0..ROUNDS).map(|_| (time(bare), time(listen))).collect();
    times.sort_by_key(|&(bare, _)| bare);
    let bare = times[ROUNDS / 2].0;
    times.sort_by_key(|&(_, listen)| listen);
    times[ROUNDS / 2].1.as_secs_f64() / bare.as_secs_f64()
}

/// Opens a batch of connections and waits until each is reset by the other side.
fn visit(addr: SocketAddr) {
    let reset = |error: io::Error| assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    // The reset may come before connect(2) has even returned.
    let streams: Vec<_> = (0..BATCH).map(|_| TcpStream::connect(addr)).collect();
    for stream in streams {
        stream.and_then(|mut stream| stream.read(&mut [0])).map_or_else(reset, |_| panic!("not reset"));
    }
}

/// A process that accepts.
struct Server {
    child: Child,
    addr: SocketAddr,
}

impl Server {
    fn bare() -> Self {
        let mut child =
            Command::new(env::current_exe().unwrap()).arg(BARE).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut port = String::new();
        stdout.read_line(&mut port).unwrap();
        let addr = (Ipv4Addr::LOCALHOST, port.trim().parse().unwrap()).into();
        Server { child, addr }
    }

    fn psentry() -> Self {
        // A port that was free a moment ago.
        let port = TcpListener::bind("[::]:0").unwrap().local_addr().unwrap().port();
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("notify");
        let notify = UnixDatagram::bind(&path).unwrap();
        notify.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_psentry-listen"))
            .args(["--tcp", &port.to_string()])
            .env("NOTIFY_SOCKET", &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = child.stdout.take().unwrap();
        thread::spawn(move || io::copy(&mut stdout, &mut io::sink()));
        notify.recv(&mut [0; 200]).expect("psentry-listen is ready");
        Server { child, addr: (Ipv4Addr::LOCALHOST, port).into() }
    }

    fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The least that a server can do: accept and close.
fn bare_loop() {
    let listener = TcpListener::bind("[::]:0").unwrap();
    SockRef::from(&listener).set_linger(Some(Duration::ZERO)).unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    loop {
        match listener.accept() {
            Ok(visitor) => drop(visitor),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => panic!("{error}"),
        }
    }
}
