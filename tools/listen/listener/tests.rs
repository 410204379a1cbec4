//! The loop with real visitors over loopback, and records into a list.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::rc::Rc;

use psentry_records::{Kind, Probe};
use psentry_stage::Complaints;
use socket2::Socket;

use super::*;
use crate::settings::Manners;
use crate::sighting::Journal;

type WriteRecord = Box<dyn FnMut(&Record) -> io::Result<()>>;

/// A listener on one TCP and one UDP port of 127.0.0.1, and what it noted.
struct Scene {
    listener: Listener<WriteRecord>,
    noted: Rc<RefCell<Vec<Probe>>>,
    tcp: SocketAddr,
    udp: SocketAddr,
}

fn scene(manners: Manners) -> Scene {
    let sockets = [
        Socket::from(TcpListener::bind("127.0.0.1:0").unwrap()),
        Socket::from(UdpSocket::bind("127.0.0.1:0").unwrap()),
    ];
    let decoys: Vec<Decoy> = sockets.into_iter().map(|socket| Decoy::new(socket).unwrap()).collect();
    let (tcp, udp) = (decoys[0].local(), decoys[1].local());
    let noted = Rc::new(RefCell::new(Vec::new()));
    let list = Rc::clone(&noted);
    let write: WriteRecord = Box::new(move |record| {
        let Record::Probe(probe) = record else { panic!("no probe: {record:?}") };
        list.borrow_mut().push(probe.clone());
        Ok(())
    });
    let reception = Reception::new(manners, &decoys, Journal::new(None, write), Complaints::new("test"));
    Scene { listener: Listener::new(Watch::new().unwrap(), decoys, reception).unwrap(), noted, tcp, udp }
}

impl Scene {
    /// Turns until that many are noted.
    fn noted(&mut self, count: usize) -> Vec<Probe> {
        while self.noted.borrow().len() < count {
            self.listener.turn(soon()).unwrap();
        }
        self.noted.borrow().clone()
    }

    /// Turns until nobody is held.
    fn emptied(&mut self) {
        while self.listener.reception.held.oldest().is_some() {
            self.listener.turn(soon()).unwrap();
        }
    }

    /// Turns until somebody is held.
    fn holding(&mut self, count: u64) {
        while self.listener.tally().connections < count {
            self.listener.turn(soon()).unwrap();
        }
    }
}

fn soon() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(5))
}

fn hold(capture: usize, banner: &[u8]) -> Manners {
    let hold = Duration::from_secs(60);
    Manners { banner: banner.to_vec(), capture, hold, max_held: 10, answer_udp: false }
}

fn payload(probe: &Probe) -> &str {
    probe.body.payload.as_deref().unwrap_or("")
}

#[test]
fn a_connection_is_noted_and_reset() {
    let mut scene = scene(Manners::default());
    let mut client = TcpStream::connect(scene.tcp).unwrap();
    let probe = scene.noted(1).remove(0);
    assert_eq!(probe.body.kind, Kind::Connect);
    assert!(probe.body.handshake);
    assert_eq!(probe.common.src_port, Some(client.local_addr().unwrap().port()));
    assert_eq!(probe.common.dest_port, Some(scene.tcp.port()));
    // By a reset, which leaves the kernel nothing to keep; not by a FIN.
    assert_eq!(client.read(&mut [0; 9]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn a_datagram_is_noted_and_not_answered() {
    let mut scene = scene(Manners { capture: 3, ..Manners::default() });
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(b"hello", scene.udp).unwrap();
    let probe = scene.noted(1).remove(0);
    assert_eq!((probe.body.kind, probe.body.handshake, payload(&probe)), (Kind::Udp, false, "hel"));
    client.set_nonblocking(true).unwrap();
    assert_eq!(client.recv(&mut [0; 9]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn a_decoy_does_not_answer_itself() {
    let mut scene = scene(Manners { answer_udp: true, ..hold(0, b"banner") });
    let Some(Decoy::Udp(decoy)) = &scene.listener.decoys[1] else { panic!("not UDP") };
    decoy.socket.send_to(b"a forged question", &scene.udp.into()).unwrap();
    scene.noted(1);
    assert_eq!(scene.listener.turn(Some(Instant::now())).unwrap(), Turn::Quiet);
}

#[test]
fn the_first_bytes_are_noted_as_soon_as_they_are_there() {
    let mut scene = scene(hold(5, b""));
    let mut client = TcpStream::connect(scene.tcp).unwrap();
    scene.holding(1);
    client.write_all(b"he").unwrap();
    scene.listener.turn(soon()).unwrap();
    assert!(scene.noted.borrow().is_empty());
    client.write_all(b"llo\r\n").unwrap();
    assert_eq!(payload(&scene.noted(1)[0]), "hello");
    scene.emptied();
}

#[test]
fn who_hangs_up_is_noted_with_what_was_said() {
    let mut scene = scene(hold(100, b""));
    let mut client = TcpStream::connect(scene.tcp).unwrap();
    client.write_all(b"\x16\x03").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(payload(&scene.noted(1)[0]), r"\x16\x03");
    // Both sides have said goodbye: an end, and no reset.
    assert_eq!(client.read(&mut [0; 9]).unwrap(), 0);
}

#[test]
fn a_silent_visitor_is_noted_when_its_time_is_over_and_only_once() {
    let mut scene = scene(Manners { hold: Duration::from_millis(20), ..hold(9, b"") });
    let began = Instant::now();
    let _client = TcpStream::connect(scene.tcp).unwrap();
    assert_eq!(payload(&scene.noted(1)[0]), "");
    assert!(began.elapsed() >= Duration::from_millis(20));
    scene.emptied();
    assert_eq!(scene.noted.borrow().len(), 1);
}

#[test]
fn a_banner_is_read_to_its_end_and_the_probe_does_not_wait_for_it() {
    let mut scene = scene(hold(0, b"220 ready\r\n"));
    let mut client = TcpStream::connect(scene.tcp).unwrap();
    scene.noted(1);
    let mut banner = String::new();
    client.read_to_string(&mut banner).unwrap();
    assert_eq!(banner, "220 ready\r\n");
    drop(client);
    scene.emptied();
    assert_eq!(scene.noted.borrow().len(), 1);
}

#[test]
fn a_banner_and_a_capture_go_together() {
    let mut scene = scene(hold(4, b"login: "));
    let mut client = TcpStream::connect(scene.tcp).unwrap();
    scene.holding(1);
    let mut prompt = [0; 7];
    client.read_exact(&mut prompt).unwrap();
    client.write_all(b"root and much more").unwrap();
    assert_eq!(payload(&scene.noted(1)[0]), "root");
    // What is beyond the capture is thrown away, and the connection stays for the banner's sake.
    client.write_all(&[b'x'; 10_000]).unwrap();
    assert_eq!(client.read(&mut prompt).unwrap(), 0);
    drop(client);
    scene.emptied();
    assert_eq!(scene.noted.borrow().len(), 1);
}

#[test]
fn who_is_over_the_limit_is_noted_and_closed_at_once() {
    let mut scene = scene(Manners { max_held: 2, ..hold(9, b"") });
    let mut clients: Vec<_> = (0..5).map(|_| TcpStream::connect(scene.tcp).unwrap()).collect();
    scene.noted(3);
    assert_eq!(scene.listener.tally().turned_away, 3);
    assert_eq!(clients[4].read(&mut [0; 9]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    // When descriptors run out, one less is held, and the bound is another one.
    scene.listener.reception.make_room().unwrap();
    clients.push(TcpStream::connect(scene.tcp).unwrap());
    scene.noted(5);
    assert_eq!((scene.listener.tally().turned_away, scene.listener.tally().crowded_out), (3, 1));
    drop(clients);
    assert_eq!(scene.noted(6).len(), 6);
}

#[test]
fn a_hold_without_anything_to_hear_keeps_the_connection_and_notes_it_at_once() {
    let mut scene = scene(hold(0, b""));
    let mut client = TcpStream::connect(scene.tcp).unwrap();
    scene.noted(1);
    client.write_all(b"anybody?").unwrap();
    scene.listener.turn(soon()).unwrap();
    assert!(scene.listener.reception.held.oldest().is_some());
}

#[test]
fn stopping_notes_who_is_held_and_who_waits() {
    let mut scene = scene(hold(9, b""));
    let mut held = TcpStream::connect(scene.tcp).unwrap();
    held.write_all(b"early").unwrap();
    scene.holding(1);
    let _waits: Vec<_> = (0..100).map(|_| TcpStream::connect(scene.tcp).unwrap()).collect();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    (0..100).for_each(|_| assert_eq!(sender.send_to(b"x", scene.udp).unwrap(), 1));
    scene.listener.drain().unwrap();
    assert_eq!(scene.noted.borrow().len(), 201);
}

#[test]
fn a_broken_decoy_is_let_go_and_the_last_one_ends_the_program() {
    let mut scene = scene(Manners::default());
    let shut = |listener: &Listener<_>, number: usize| {
        let Some(Decoy::Tcp(decoy)) = &listener.decoys[number] else { panic!("not TCP") };
        // A listening socket that is shut down does not listen any more: EINVAL.
        decoy.socket.shutdown(Shutdown::Both).unwrap();
    };
    shut(&scene.listener, 0);
    scene.listener.turn(soon()).unwrap();
    assert!(scene.listener.decoys[0].is_none());
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.send_to(b"x", scene.udp).unwrap();
    scene.noted(1);

    let socket = Socket::from(TcpListener::bind("127.0.0.1:0").unwrap());
    scene.listener.decoys = vec![Some(Decoy::new(socket).unwrap())];
    scene.listener.watch = Watch::new().unwrap();
    scene.listener.watch.add(scene.listener.decoys[0].as_ref().unwrap(), Token::Decoy(0)).unwrap();
    shut(&scene.listener, 0);
    assert!(matches!(scene.listener.turn(soon()), Err(ListenError::AllLost)));
}

#[test]
fn a_reader_that_is_gone_ends_the_program() {
    let mut scene = scene(Manners::default());
    let (reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
    scene.listener.watch.add_for_errors(&writer, Token::Reader).unwrap();
    drop(reader);
    assert!(matches!(scene.listener.turn(soon()), Err(ListenError::ReaderGone)));
}
