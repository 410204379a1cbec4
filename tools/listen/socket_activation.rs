//! The sockets that systemd passes (sd_listen_fds(3)): all of them, in any order. What is no decoy is reported and
//! left alone.

use std::net::{TcpListener, UdpSocket};

use listenfd::ListenFd;
use psentry_stage::Complaints;
use socket2::Socket;

use crate::decoy::{Decoy, Unfit};

/// Takes every socket that was passed. Call it before anything else opens a descriptor: one that was promised and
/// is not there must not turn out to be something else.
pub(crate) fn take(complaints: &mut Complaints) -> Vec<Decoy> {
    let mut passed = ListenFd::from_env();
    (0..passed.len())
        .filter_map(|index| match one(&mut passed, index) {
            Ok(decoy) => Some(decoy),
            Err(unfit) => {
                let number = index + 1;
                complaints.say(&format!("socket {number} of those that systemd passed is ignored: {unfit}"));
                None
            }
        })
        .collect()
}

fn one(passed: &mut ListenFd, index: usize) -> Result<Decoy, Unfit> {
    // Whether a socket fits is checked here only as far as listenfd must, to own it; the rest is Decoy's.
    let tcp = |listener: TcpListener| Socket::from(listener);
    let udp = |socket: UdpSocket| Socket::from(socket);
    let socket = match passed.take_tcp_listener(index) {
        Ok(Some(listener)) => tcp(listener),
        _ => passed.take_udp_socket(index).ok().flatten().map(udp).ok_or(Unfit::Kind)?,
    };
    Decoy::new(socket)
}
