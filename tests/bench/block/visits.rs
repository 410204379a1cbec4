//! The service and its client, each a process in a namespace of its own, on one processor: what counts is the work, not
//! how soon another processor wakes up.

use std::io::{self, BufRead, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use socket2::SockRef;

use crate::lab::GUARD;
use crate::median;

/// Where a service says hello and closes, where one says everything again, and where datagrams are only counted.
pub(crate) const HELLO: u16 = 8088;
const ECHO: u16 = 8089;
const COUNT: u16 = 8090;

fn pin() {
    let mut one = CpuSet::new();
    one.set(0).unwrap();
    sched_setaffinity(Pid::from_raw(0), &one).unwrap();
}

/// Is the service, until killed.
pub(crate) fn serve() {
    pin();
    let listen = |port| TcpListener::bind(("0.0.0.0", port)).unwrap();
    let (hello, echo) = (listen(HELLO), listen(ECHO));
    // Answers come from the address that was asked.
    let count = UdpSocket::bind((GUARD[0], COUNT)).unwrap();
    thread::spawn(move || {
        for mut client in echo.incoming().flatten() {
            client.set_nodelay(true).unwrap();
            thread::spawn(move || {
                let mut byte = [0];
                while client.read(&mut byte).is_ok_and(|got| got > 0) && client.write_all(&byte).is_ok() {}
            });
        }
    });
    thread::spawn(move || {
        let mut datagram = [0; 64];
        loop {
            let (length, client) = count.recv_from(&mut datagram).unwrap();
            // The last of many, which is answered.
            if length == 1 {
                count.send_to(b"x", client).unwrap();
            }
        }
    });
    for mut client in hello.incoming().flatten() {
        let _ = client.write_all(b"h");
    }
}

/// Is the client: for each line, such as `trip 100`, does it so often, and says how many nanoseconds one of them took.
pub(crate) fn visit() {
    pin();
    let mut session = TcpStream::connect((GUARD[0], ECHO)).unwrap();
    session.set_nodelay(true).unwrap();
    let socket = UdpSocket::bind(("0.0.0.0", 0)).unwrap();
    socket.connect((GUARD[0], COUNT)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    for line in io::stdin().lock().lines() {
        let line = line.unwrap();
        let (what, many) = line.split_once(' ').unwrap();
        let many = many.parse().unwrap();
        println!(
            "{}",
            match what {
                "connection" => each(many, connect),
                "trip" => each(many, || {
                    session.write_all(b"x").unwrap();
                    session.read_exact(&mut [0]).unwrap();
                }),
                _ => flood(&socket, many),
            }
        );
        io::stdout().flush().unwrap();
    }
}

fn each(many: usize, mut visit: impl FnMut()) -> f64 {
    let times = (0..many).map(|_| {
        let began = Instant::now();
        visit();
        began.elapsed().as_nanos() as f64
    });
    median(&times.collect::<Vec<_>>())
}

/// Sends datagrams in portions of a hundred, each of which has arrived before the next one is sent; what one of them
/// takes.
fn flood(socket: &UdpSocket, many: usize) -> f64 {
    let portion = || {
        for _ in 0..99 {
            socket.send(&[0; 64]).unwrap();
        }
        socket.send(b"x").unwrap();
        // A datagram may be lost.
        while socket.recv(&mut [0]).is_err() {
            socket.send(b"x").unwrap();
        }
    };
    each(many / 100, portion) / 100.0
}

/// Connects, reads what the service says, and closes, by a reset: else the client would soon be out of ports.
fn connect() {
    let mut stream = TcpStream::connect((GUARD[0], HELLO)).unwrap();
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    stream.read_exact(&mut [0]).unwrap();
}
