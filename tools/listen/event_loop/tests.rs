//! The loop with real clients over loopback, and records into a list.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::rc::Rc;

use psentry_records::{Kind, Probe};
use psentry_stage::Complaints;
use socket2::Socket;

use super::*;
use crate::counters::Counters;
use crate::recorder::Recorder;
use crate::settings::Handling;

type WriteRecord = Box<dyn FnMut(&Record) -> io::Result<u64>>;

/// An event loop with one TCP and one UDP port of 127.0.0.1, and the records that it wrote.
struct Scene {
    event_loop: EventLoop<WriteRecord>,
    records: Rc<RefCell<Vec<Record>>>,
    tcp: SocketAddr,
    udp: SocketAddr,
}

fn scene(handling: Handling) -> Scene {
    let sockets = [
        Socket::from(TcpListener::bind("127.0.0.1:0").unwrap()),
        Socket::from(UdpSocket::bind("127.0.0.1:0").unwrap()),
    ];
    let decoys: Vec<Decoy> = sockets.into_iter().map(|socket| Decoy::new(socket).unwrap()).collect();
    let (tcp, udp) = (decoys[0].local(), decoys[1].local());
    let records = Rc::new(RefCell::new(Vec::new()));
    let list = Rc::clone(&records);
    let write: WriteRecord = Box::new(move |record| {
        list.borrow_mut().push(record.clone());
        Ok(0)
    });
    let recorder = Recorder::new(Some("gate".to_owned()), 5000, 5000, write);
    let handler = Handler::new(handling, &decoys, recorder, Complaints::new("test"));
    let event_loop = EventLoop::new(Poller::new().unwrap(), decoys, handler).unwrap();
    Scene { event_loop, records, tcp, udp }
}

impl Scene {
    /// The probes so far.
    fn written(&self) -> Vec<Probe> {
        let records = self.records.borrow();
        let probes = records.iter().map(|record| match record {
            Record::Probe(probe) => probe.clone(),
            other => panic!("no probe: {other:?}"),
        });
        probes.collect()
    }

    /// How many contacts the probes so far stand for.
    fn recorded(&self) -> u32 {
        self.written().iter().map(|probe| probe.body.count).sum()
    }

    /// Turns until so many contacts are recorded.
    fn probes(&mut self, count: u32) -> Vec<Probe> {
        while self.recorded() < count {
            self.event_loop.turn(soon()).unwrap();
        }
        self.written()
    }

    /// Turns until no connection is held.
    fn until_closed(&mut self) {
        while self.event_loop.handler.held.oldest().is_some() {
            self.event_loop.turn(soon()).unwrap();
        }
    }

    /// Turns until so many connections were accepted.
    fn until_accepted(&mut self, count: u64) {
        while self.counters().connections < count {
            self.event_loop.turn(soon()).unwrap();
        }
    }

    fn counters(&self) -> Counters {
        self.event_loop.handler.counters
    }
}

fn soon() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(5))
}

fn hold(capture: usize, banner: &[u8]) -> Handling {
    let hold = Duration::from_secs(60);
    Handling { banner: banner.to_vec(), capture, hold, max_held: 10, answer_udp: false }
}

fn payload(probe: &Probe) -> &str {
    probe.body.payload.as_deref().unwrap_or("")
}

#[test]
fn a_connection_is_a_probe_and_reset() {
    let mut scene = scene(Handling::default());
    let mut client = TcpStream::connect(scene.tcp).unwrap();
    let probe = scene.probes(1).remove(0);
    assert_eq!(probe.body.kind, Kind::Connect);
    assert!(probe.body.handshake);
    assert_eq!(probe.common.src_port, Some(client.local_addr().unwrap().port()));
    assert_eq!(probe.common.dest_port, Some(scene.tcp.port()));
    // By a reset, which leaves the kernel nothing to keep; not by a FIN.
    assert_eq!(client.read(&mut [0; 9]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn a_datagram_is_a_probe_and_not_answered() {
    let mut scene = scene(Handling { capture: 3, ..Handling::default() });
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(b"hello", scene.udp).unwrap();
    let probe = scene.probes(1).remove(0);
    assert_eq!((probe.body.kind, probe.body.handshake, payload(&probe)), (Kind::Udp, false, "hel"));
    client.set_nonblocking(true).unwrap();
    assert_eq!(client.recv(&mut [0; 9]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn a_decoy_does_not_answer_itself() {
    let mut scene = scene(Handling { answer_udp: true, ..hold(0, b"banner") });
    let Some(Decoy::Udp(decoy)) = &scene.event_loop.decoys[1] else { panic!("not UDP") };
    decoy.socket.send_to(b"a forged question", &scene.udp.into()).unwrap();
    scene.probes(1);
    assert_eq!(scene.event_loop.turn(Some(Instant::now())).unwrap(), Turn::Quiet);
}

#[test]
fn the_probe_is_written_as_soon_as_the_first_bytes_are_there() {
    let mut scene = scene(hold(5, b""));
    let mut client = TcpStream::connect(scene.tcp).unwrap();
    scene.until_accepted(1);
    client.write_all(b"he").unwrap();
    scene.event_loop.turn(soon()).unwrap();
    assert!(scene.written().is_empty());
    client.write_all(b"llo\r\n").unwrap();
    assert_eq!(payload(&scene.probes(1)[0]), "hello");
    scene.until_closed();
}

#[test]
fn a_client_that_hangs_up_is_a_probe_with_what_it_sent() {
    let mut scene = scene(hold(100, b""));
    let mut client = TcpStream::connect(scene.tcp).unwrap();
    client.write_all(b"\x16\x03").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(payload(&scene.probes(1)[0]), r"\x16\x03");
    // Both sides have said goodbye: an end, and no reset.
    assert_eq!(client.read(&mut [0; 9]).unwrap(), 0);
}

#[test]
fn a_silent_client_is_one_probe_when_the_hold_is_over() {
    let mut scene = scene(Handling { hold: Duration::from_millis(20), ..hold(9, b"") });
    let began = Instant::now();
    let _client = TcpStream::connect(scene.tcp).unwrap();
    assert_eq!(payload(&scene.probes(1)[0]), "");
    assert!(began.elapsed() >= Duration::from_millis(20));
    scene.until_closed();
    assert_eq!(scene.written().len(), 1);
}

#[test]
fn a_banner_is_read_to_its_end_and_the_probe_does_not_wait_for_it() {
    let mut scene = scene(hold(0, b"220 ready\r\n"));
    let mut client = TcpStream::connect(scene.tcp).unwrap();
    scene.probes(1);
    let mut banner = String::new();
    client.read_to_string(&mut banner).unwrap();
    assert_eq!(banner, "220 ready\r\n");
    drop(client);
    scene.until_closed();
    assert_eq!(scene.written().len(), 1);
}

#[test]
fn a_banner_and_a_capture_go_together() {
    let mut scene = scene(hold(4, b"login: "));
    let mut client = TcpStream::connect(scene.tcp).unwrap();
    scene.until_accepted(1);
    let mut prompt = [0; 7];
    client.read_exact(&mut prompt).unwrap();
    client.write_all(b"root and much more").unwrap();
    assert_eq!(payload(&scene.probes(1)[0]), "root");
    // What is beyond the capture is thrown away, and the connection stays for the banner's sake.
    client.write_all(&[b'x'; 10_000]).unwrap();
    assert_eq!(client.read(&mut prompt).unwrap(), 0);
    drop(client);
    scene.until_closed();
    assert_eq!(scene.written().len(), 1);
}

#[test]
fn a_connection_over_the_limit_is_a_probe_and_closed_at_once() {
    let mut scene = scene(Handling { max_held: 2, ..hold(9, b"") });
    let mut clients: Vec<_> = (0..5).map(|_| TcpStream::connect(scene.tcp).unwrap()).collect();
    scene.probes(3);
    assert_eq!(scene.counters().over_limit, 3);
    assert_eq!(clients[4].read(&mut [0; 9]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    // When descriptors run out, one less is held, and the bound is another one.
    scene.event_loop.handler.evict_oldest().unwrap();
    clients.push(TcpStream::connect(scene.tcp).unwrap());
    scene.probes(5);
    assert_eq!((scene.counters().over_limit, scene.counters().no_descriptors), (3, 1));
    drop(clients);
    scene.probes(6);
    assert_eq!(scene.recorded(), 6);
}

#[test]
fn a_hold_without_a_capture_keeps_the_connection_and_writes_the_probe_at_once() {
    let mut scene = scene(hold(0, b""));
    let mut client = TcpStream::connect(scene.tcp).unwrap();
    scene.probes(1);
    client.write_all(b"anybody?").unwrap();
    scene.event_loop.turn(soon()).unwrap();
    assert!(scene.event_loop.handler.held.oldest().is_some());
}

#[test]
fn stopping_writes_the_probes_of_what_is_held_and_of_what_waits() {
    let mut scene = scene(hold(9, b""));
    let mut held = TcpStream::connect(scene.tcp).unwrap();
    held.write_all(b"early").unwrap();
    scene.until_accepted(1);
    let _waits: Vec<_> = (0..100).map(|_| TcpStream::connect(scene.tcp).unwrap()).collect();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    (0..100).for_each(|_| assert_eq!(sender.send_to(b"x", scene.udp).unwrap(), 1));
    scene.event_loop.drain().unwrap();
    assert_eq!(scene.recorded(), 201);
}

#[test]
fn a_broken_decoy_is_closed_and_the_last_one_ends_the_program() {
    let mut scene = scene(Handling::default());
    let shut = |event_loop: &EventLoop<_>, number: usize| {
        let Some(Decoy::Tcp(decoy)) = &event_loop.decoys[number] else { panic!("not TCP") };
        // A listening socket that is shut down does not listen any more: EINVAL.
        decoy.socket.shutdown(Shutdown::Both).unwrap();
    };
    shut(&scene.event_loop, 0);
    scene.event_loop.turn(soon()).unwrap();
    assert!(scene.event_loop.decoys[0].is_none());
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.send_to(b"x", scene.udp).unwrap();
    scene.probes(1);

    let socket = Socket::from(TcpListener::bind("127.0.0.1:0").unwrap());
    scene.event_loop.decoys = vec![Some(Decoy::new(socket).unwrap())];
    scene.event_loop.poller = Poller::new().unwrap();
    scene.event_loop.poller.add(scene.event_loop.decoys[0].as_ref().unwrap(), Token::Decoy(0)).unwrap();
    shut(&scene.event_loop, 0);
    assert!(matches!(scene.event_loop.turn(soon()), Err(ListenError::AllLost)));
}

#[test]
fn a_reader_that_is_gone_ends_the_program() {
    let mut scene = scene(Handling::default());
    let (reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
    scene.event_loop.poller.add_for_errors(&writer, Token::Reader).unwrap();
    drop(reader);
    assert!(matches!(scene.event_loop.turn(soon()), Err(ListenError::ReaderGone)));
}

#[test]
fn the_counters_are_a_record() {
    let mut scene = scene(hold(9, b""));
    let _held = TcpStream::connect(scene.tcp).unwrap();
    scene.until_accepted(1);
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    (0..2).for_each(|_| assert_eq!(sender.send_to(b"x", scene.udp).unwrap(), 1));
    scene.probes(2);
    scene.event_loop.handler.write_stats().unwrap();
    let Some(Record::Stats(stats)) = scene.records.borrow_mut().pop() else { panic!("no counters") };
    assert_eq!((stats.common.host.as_deref(), &*stats.body.stage), (Some("gate"), "listen"));
    let counters: Vec<(&str, u64)> =
        stats.body.counters.iter().map(|(name, value)| (&**name, *value)).collect();
    let named = |names: &[&str]| names.iter().map(|name| stats.body.counter(name)).collect::<Vec<_>>();
    assert_eq!(named(&["connections", "datagrams", "probes", "duplicates", "open"]), [1, 2, 2, 0, 1]);
    assert_eq!(counters.iter().map(|(_, value)| value).sum::<u64>(), 6, "the others are 0: {counters:?}");
}
