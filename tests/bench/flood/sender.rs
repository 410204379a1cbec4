//! The sender: SYNs like masscan's from as many forged sources as it is told. It hands whole frames to its interface, past
//! what its own kernel would do for each, since on this machine that is time that the guard lacks.

use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::{self, AddressFamily, MsgFlags, SockFlag, SockType, sockopt::SndBuf};
use nix::unistd::Pid;

use crate::lab::GUARD;

/// The network of the forged sources, which must be routed to where they come from.
pub(crate) const SOURCES: &str = "10.0.0.0/8";
const FIRST: u32 = 0x0a00_0000;

/// Bytes of frames that the guard's kernel has not begun with, beyond which the sender waits. The kernel doubles it, and
/// counts some 700 for each; of a thousand it keeps no more.
const UNDER_WAY: usize = 300_000;

/// Sends to the card with the address `to`, `rate` a second if the machine can, from each of so many sources in turn; and at
/// last says how many it sent.
pub(crate) fn send(to: &str, seconds: u64, rate: u64, sources: u64) {
    let mut interfaces = getifaddrs().unwrap().filter(|found| found.interface_name == "eth0");
    let cable = interfaces.find_map(|found| found.address?.as_link_addr().copied()).unwrap();
    let mut first = CpuSet::new();
    let _ = first.set(0).and_then(|()| sched_setaffinity(Pid::from_raw(0), &first));
    let raw = socket::socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), None).unwrap();
    socket::bind(raw.as_raw_fd(), &cable).unwrap();
    socket::setsockopt(&raw, SndBuf, &UNDER_WAY).unwrap();
    let guard: Ipv4Addr = GUARD[0].parse().unwrap();
    let mut frame = [0; 54];
    let to: Vec<u8> = to.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    frame[..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&cable.addr().unwrap());
    frame[12..14].copy_from_slice(&[8, 0]);
    let (began, all, mut sent) = (Instant::now(), Duration::from_secs(seconds), 0);
    while began.elapsed() < all {
        let due = (began.elapsed().as_secs_f64() * rate as f64) as u64;
        if sent >= due {
            thread::sleep(Duration::from_micros(200));
        }
        // It catches up in turns of a tenth of a second at most.
        for _ in 0..due.saturating_sub(sent).min(rate / 10) {
            let syn = syn(guard, (sent % sources) as u32, (sent / 7 % 5000) as u16 + 1);
            frame[14..].copy_from_slice(&syn);
            sent += u64::from(socket::send(raw.as_raw_fd(), &frame, MsgFlags::empty()).is_ok());
        }
    }
    println!("{sent}");
}

/// A SYN like masscan's.
fn syn(to: Ipv4Addr, source: u32, port: u16) -> [u8; 40] {
    let mut packet = [0; 40];
    packet[..12].copy_from_slice(&[0x45, 0, 0, 40, 0, 1, 0, 0, 255, 6, 0, 0]);
    packet[12..16].copy_from_slice(&(FIRST + source).to_be_bytes());
    packet[16..20].copy_from_slice(&to.octets());
    packet[20..24].copy_from_slice(&[0x9c, 0x40, (port >> 8) as u8, port as u8]);
    packet[32..36].copy_from_slice(&[0x50, 2, 4, 0]);
    // Of TCP, addresses, protocol and length count, too.
    let [head, rest] = [sum(&packet[..20], 0), sum(&packet[12..], 6 + 20)];
    packet[10..12].copy_from_slice(&head);
    packet[36..38].copy_from_slice(&rest);
    packet
}

/// The checksum of the Internet, over words and what else counts.
fn sum(words: &[u8], more: u32) -> [u8; 2] {
    let words = words.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let mut sum = words.sum::<u32>() + more;
    while sum >> 16 > 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!sum as u16).to_be_bytes()
}
