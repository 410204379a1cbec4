//! Reads the headers of a captured packet, from the IP header on: the addresses and ports, which kind of probe it is,
//! and whether it has the signature of a scanner. Strangers write these bytes: whatever they are, the answer is a
//! [`Packet`] or a [`ParseError`], never a panic. It opens nothing, and decides nothing about anybody.
//!
//! | file | what it holds |
//! |---|---|
//! | `packet.rs` | [`Packet`]: the IP header of both versions, and the kind of probe |
//! | `ip_payload.rs` | extension headers, fragments, packets that are cut off |
//! | `transport.rs` | [`Transport`]: the header of TCP, UDP or ICMP |
//! | `tcp.rs` | flags and options of TCP; the kind of probe that flags make |
//! | `signature.rs` | signatures of scanners that build their own SYN |

mod ip_payload;
mod packet;
mod signature;
mod tcp;
mod transport;

pub use packet::{Packet, ParseError};
pub use signature::Signature;
pub use tcp::{TcpFlags, TcpHeader, TcpOptions};
pub use transport::Transport;
