//! A steady load on a guard, while something happens to it: probes written into the FIFO as a script writes them, and
//! visits to the decoys. Each is known by a number of its own, so that it is looked up one by one what became of it.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::libc::O_NONBLOCK;
use nix::sched::{CloneFlags, setns};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use super::{GUARD, SCANNER};
use crate::lab::{Booted, Host, WAIT, wait_until};

/// Probes a second through the FIFO.
pub const PROBES: u32 = 500;

/// Visits a second, to all decoys together. A stage is away for a second, and 64 visitors of each decoy may wait.
pub const VISITS: u32 = 100;

/// Where visitors come from: each from an address of its own, since alike visits of a second would be one record.
pub const VISITORS: &str = "10.20.0.0/16";

/// How many probes a script writes before it opens the FIFO again.
const HANDFUL: u32 = 20;

/// How long a script waits before it tries again.
const RETRY: Duration = Duration::from_millis(1);

/// The load, and the numbers that are next.
pub struct Load {
    fifo: PathBuf,
    network: PathBuf,
    decoys: Vec<u16>,
    probe: u32,
    visit: u16,
}

/// What was sent.
pub struct Sent {
    /// The probes that write(2) took.
    pub probes: Range<u32>,
    /// The visits whose handshake was completed, by the port they came from.
    pub visits: Vec<u16>,
    /// How often the FIFO was not there, or nobody had it open.
    pub missing: u32,
    /// How many visitors a decoy refused, because nothing listened on it.
    pub refused: u32,
    /// Probes a second, and visits a second.
    pub rates: (u32, u32),
}

/// How far a load has come.
#[derive(Default)]
pub struct Progress {
    probes: AtomicU32,
    enough: AtomicBool,
}

impl Progress {
    /// Waits until so many more probes were written.
    pub fn more(&self, count: u32) {
        let before = self.probes.load(Ordering::Relaxed);
        wait_until("more probes are written", || self.probes.load(Ordering::Relaxed) >= before + count);
    }

    fn go_on(&self) -> bool {
        !self.enough.load(Ordering::Relaxed)
    }
}

/// Ends a load, also when what happens meanwhile panics.
struct Enough<'a>(&'a Progress);

impl Drop for Enough<'_> {
    fn drop(&mut self) {
        self.0.enough.store(true, Ordering::Relaxed);
    }
}

impl Load {
    /// On `guard`, whose decoys are those ports; visitors come from `scanner`.
    pub fn new(guard: &Booted, scanner: &Host, decoys: Vec<u16>) -> Self {
        scanner.sh(&format!("ip route add local {VISITORS} dev lo"));
        guard.sh(&format!("ip route add {VISITORS} via {SCANNER}"));
        let network = format!("/proc/{}/ns/net", scanner.pid()).into();
        Load { fifo: guard.path("/run/psentry/events"), network, decoys, probe: 0, visit: 10_000 }
    }

    /// Whose probe has that number.
    pub fn source(number: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 0).to_bits() + number)
    }

    /// Who visits from that port.
    pub fn visitor(port: u16) -> Ipv4Addr {
        let [high, low] = port.to_be_bytes();
        Ipv4Addr::new(10, 20, high, low)
    }

    /// The probe of that number, all equally long.
    pub fn probe(number: u32) -> String {
        let source = Self::source(number).to_string();
        format!(
            "{{\"timestamp\":\"{}\",\"event_type\":\"probe\",\"src_ip\":\"{source}\",\"dest_port\":23,\"proto\":\"TCP\",{:pad$}\"probe\":{{\"handshake\":true}}}}\n",
            psentry_records::Timestamp::now(),
            "",
            pad = 15 - source.len()
        )
    }

    /// Sends while `meanwhile` happens. When it returns, each visitor has been received, and a last probe is written
    /// after all others: when that one has arrived, whatever has not arrived is lost.
    pub fn during(&mut self, meanwhile: impl FnOnce(&Progress)) -> Sent {
        // Visitors of a second or two stay open, and a shell may allow a thousand files.
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
        let progress = Progress::default();
        let (first_probe, first_visit) = (self.probe, self.visit);
        let began = Instant::now();
        let (visits, refused, missing) = thread::scope(|scope| {
            let enough = Enough(&progress);
            let visitor = scope.spawn(|| visit(&self.network, &self.decoys, first_visit, &progress));
            let writer = scope.spawn(|| feed(&self.fifo, first_probe, &progress));
            meanwhile(&progress);
            drop(enough);
            let missing = writer.join().unwrap();
            let (visits, refused) = visitor.join().unwrap();
            (visits, refused, missing)
        });
        let took = began.elapsed().as_millis().try_into().unwrap_or(u32::MAX);
        let probes = progress.probes.into_inner();
        let mut fifo = OpenOptions::new().write(true).open(&self.fifo).unwrap();
        fifo.write_all(Self::probe(first_probe + probes).as_bytes()).unwrap();
        self.probe += probes + 1;
        self.visit = visits.last().map_or(first_visit, |last| last + 1);
        let rates = (probes * 1000 / took, u32::try_from(visits.len()).unwrap() * 1000 / took);
        Sent { probes: first_probe..self.probe, visits, missing, refused, rates }
    }
}

/// When the thing of that number is due, at so many a second.
fn due(began: Instant, number: u32, rate: u32) -> Duration {
    (began + Duration::from_secs(1) * number / rate).saturating_duration_since(Instant::now())
}

/// Writes probes, each in one write(2), and counts those that were taken. Says how often the FIFO was not there.
fn feed(fifo: &Path, first: u32, progress: &Progress) -> u32 {
    let (began, mut written, mut missing) = (Instant::now(), 0, 0);
    while progress.go_on() {
        // Without O_NONBLOCK, opening a FIFO that was removed in the same moment would wait for ever.
        let Ok(mut pipe) = OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(fifo) else {
            missing += 1;
            thread::sleep(RETRY);
            continue;
        };
        for _ in 0..HANDFUL {
            match pipe.write(Load::probe(first + written).as_bytes()) {
                Ok(_) => written += 1,
                Err(full) if full.kind() == io::ErrorKind::WouldBlock => thread::sleep(RETRY),
                Err(_) => {
                    missing += 1;
                    break;
                }
            }
        }
        progress.probes.store(written, Ordering::Relaxed);
        thread::sleep(due(began, written, PROBES));
    }
    missing
}

/// Visits one decoy after the other, from an address and a port of its own each time, and stays until it is sent away. Gives the
/// ports of those whose handshake was completed, and how many were refused.
fn visit(network: &Path, decoys: &[u16], first: u16, progress: &Progress) -> (Vec<u16>, u32) {
    setns(File::open(network).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
    let guard: Ipv4Addr = GUARD.parse().unwrap();
    let (began, mut visits, mut refused, mut waiting) = (Instant::now(), Vec::new(), 0, VecDeque::new());
    for (decoy, port) in decoys.iter().cycle().zip(first..) {
        if !progress.go_on() {
            break;
        }
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddrV4::new(Load::visitor(port), port).into()).unwrap();
        match socket.connect(&SocketAddrV4::new(guard, *decoy).into()) {
            Ok(()) => waiting.push_back(TcpStream::from(socket)),
            // Received and sent away before connect(2) returned.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            // So busy a machine that the decoy's queue stayed full: nobody was received, and nobody was refused.
            Err(error) if error.kind() == io::ErrorKind::TimedOut => continue,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                refused += 1;
                thread::sleep(Duration::from_secs(1) / VISITS);
                continue;
            }
            Err(error) => panic!("a visit to port {decoy}: {error}"),
        }
        visits.push(port);
        while waiting.front().is_some_and(|stream| sent_away(stream, RETRY / 100)) {
            waiting.pop_front();
        }
        thread::sleep(due(began, visits.len().try_into().unwrap(), VISITS));
    }
    for stream in waiting {
        assert!(sent_away(&stream, WAIT), "a visitor waits in vain to be received");
    }
    (visits, refused)
}

/// Whether a connection has ended, or does so within `patience`. No decoy says anything before.
fn sent_away(mut stream: &TcpStream, patience: Duration) -> bool {
    stream.set_read_timeout(Some(patience)).unwrap();
    match stream.read(&mut [0]) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => true,
        // Not by a decoy, but by whoever had its socket.
        Ok(0) => true,
        other => panic!("an end of a connection was expected, and not {other:?}"),
    }
}
