//! Reads the headers of a captured packet, from the IP header on: who sent what to where, which kind of probe that
//! is, and whether it bears the handwriting of a scanner. The bytes are a stranger's: whatever they are, the answer
//! is a [`Packet`] or a typed [`Unreadable`], never a panic. It opens nothing, and decides nothing about anybody.
//!
//! | file | what it holds |
//! |---|---|
//! | `packet.rs` | [`Packet`]: both IP versions, and what follows their headers |
//! | `carried.rs` | extension headers, fragments, what is cut off |
//! | `tcp.rs` | flags and options of TCP; the kind of probe that flags make |
//! | `signature.rs` | scanners that build their own SYN, told by its fields |

mod carried;
mod packet;
mod signature;
mod tcp;

pub use packet::{Packet, Transport, Unreadable};
pub use signature::Signature;
pub use tcp::{Flags, Options, Tcp};
