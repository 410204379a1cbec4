//! A UDP decoy: takes one datagram at a time, and learns from the kernel which address it was sent to, and a mirage
//! also which port. An answer goes out from that address; what it may be is `answer.rs`'s affair. A mirage answers
//! nothing: it would be from the wrong port.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
};
use psentry_records::{Timestamp, canonical};
use socket2::Socket;

use crate::mirage::is_mirage;
use crate::probe::{Contact, Transport};

/// A bound socket that is a decoy.
#[derive(Debug)]
pub(crate) struct UdpDecoy {
    pub(crate) socket: Socket,
    pub(crate) local: SocketAddr,
    /// Whether what is sent to other ports comes here.
    pub(crate) mirage: bool,
}

/// Where a datagram is received into: its first bytes, and what the kernel says about it.
pub(crate) struct ReceiveBuffer {
    bytes: Vec<u8>,
    control: Vec<u8>,
}

impl ReceiveBuffer {
    /// For the first `capture` bytes.
    pub(crate) fn new(capture: usize) -> Self {
        let control = nix::cmsg_space!(libc::in_pktinfo, libc::in6_pktinfo, libc::sockaddr_in6);
        ReceiveBuffer { bytes: vec![0; capture], control }
    }

    /// The first bytes of a datagram of that length.
    pub(crate) fn head(&self, length: usize) -> &[u8] {
        self.bytes.get(..length).unwrap_or(&self.bytes)
    }
}

/// A datagram that was received; its first bytes are in the [`ReceiveBuffer`].
#[derive(Debug)]
pub(crate) struct Datagram {
    pub(crate) contact: Contact,
    /// How long it was, whatever was kept of it.
    pub(crate) length: usize,
    /// Whether it was sent to a broadcast or multicast address. That is no probe.
    pub(crate) to_all: bool,
}

impl UdpDecoy {
    /// Makes a decoy of a bound socket, whoever opened it.
    ///
    /// # Errors
    /// fcntl(2)'s; a mirage's, setsockopt(2)'s too.
    pub(crate) fn new(socket: Socket, local: SocketAddr) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        // An IPv6 socket takes IPv4 datagrams too, and only IPv4's own option tells a broadcast from them. Where
        // an option is refused, the address that the socket is bound to has to do.
        let _ = setsockopt(&socket, sockopt::Ipv4PacketInfo, &true);
        if local.is_ipv6() {
            let _ = setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true);
        }
        let mirage = is_mirage(&socket);
        if mirage {
            // Here a refusal is one: without the port a probe would tell of another than was touched.
            setsockopt(&socket, sockopt::Ipv4OrigDstAddr, &true)?;
            if local.is_ipv6() {
                setsockopt(&socket, sockopt::Ipv6OrigDstAddr, &true)?;
            }
        }
        Ok(UdpDecoy { socket, local, mirage })
    }

    /// Receives the next datagram.
    ///
    /// # Errors
    /// recvmsg(2)'s; EAGAIN when none waits.
    pub(crate) fn receive(&self, buffer: &mut ReceiveBuffer) -> Result<Datagram, Errno> {
        let mut head = [IoSliceMut::new(&mut buffer.bytes)];
        // With MSG_TRUNC the length is the datagram's own, not the buffer's.
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
        let fd = self.socket.as_raw_fd();
        let message = recvmsg::<SockaddrStorage>(fd, &mut head, Some(&mut buffer.control), flags)?;
        let at = Timestamp::now();
        let source = message.address.as_ref().and_then(address).ok_or(Errno::ECONNABORTED)?;
        let (mut dest, mut to_all) = (self.local, false);
        for control in message.cmsgs().into_iter().flatten() {
            if let Some((addr, all)) = reached(&control) {
                dest.set_ip(addr);
                to_all |= all;
            }
            if let Some(port) = original_port(&control) {
                dest.set_port(port);
            }
        }
        let contact = Contact { at, source, dest, transport: Transport::Udp, mirage: self.mirage };
        Ok(Datagram { contact, length: message.bytes, to_all })
    }

    /// Sends `answer`, if there is any, from the address that `datagram` came to. What cannot be sent is not sent:
    /// no client was promised an answer.
    pub(crate) fn answer(&self, datagram: &Datagram, answer: &[u8]) {
        if answer.is_empty() || self.mirage {
            return;
        }
        let Contact { source, dest, .. } = datagram.contact;
        let (v4, v6);
        let from = match dest.ip() {
            IpAddr::V4(addr) if self.local.is_ipv4() => {
                let addr = libc::in_addr { s_addr: u32::from_ne_bytes(addr.octets()) };
                v4 = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: addr, ipi_addr: addr };
                ControlMessage::Ipv4PacketInfo(&v4)
            }
            addr => {
                let addr = match addr {
                    IpAddr::V4(addr) => addr.to_ipv6_mapped(),
                    IpAddr::V6(addr) => addr,
                };
                let s6_addr = addr.octets();
                v6 = libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr }, ipi6_ifindex: 0 };
                ControlMessage::Ipv6PacketInfo(&v6)
            }
        };
        let fd = self.socket.as_raw_fd();
        let (answer, to) = ([IoSlice::new(answer)], SockaddrStorage::from(source));
        let _ = sendmsg(fd, &answer, &[from], MsgFlags::MSG_DONTWAIT, Some(&to));
    }
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = || storage.as_sockaddr_in().map(|&addr| SocketAddrV4::from(addr).into());
    let v6 = || storage.as_sockaddr_in6().map(|&addr| SocketAddrV6::from(addr).into());
    v4().or_else(v6)
}

/// The destination address in a datagram's header, and whether it is a broadcast or multicast address.
fn reached(control: &ControlMessageOwned) -> Option<(IpAddr, bool)> {
    match control {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            let header = Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes());
            // What the kernel would answer from: the header's own address, unless that is a broadcast's or a
            // multicast group's. So it knows the broadcast of each network, which nothing in the address tells.
            // It does not know it of a datagram that came before the socket was asked to tell.
            let own = Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes());
            let odd = header != own && !own.is_unspecified();
            Some((header.into(), odd || header.is_multicast() || header.is_broadcast()))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            let header = canonical(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
            Some((header, header.is_multicast()))
        }
        _ => None,
    }
}

/// The port in a datagram's header, which the kernel gives to a mirage.
fn original_port(control: &ControlMessageOwned) -> Option<u16> {
    match control {
        ControlMessageOwned::Ipv4OrigDstAddr(addr) => Some(u16::from_be(addr.sin_port)),
        ControlMessageOwned::Ipv6OrigDstAddr(addr) => Some(u16::from_be(addr.sin6_port)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
