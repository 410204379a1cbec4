//! What the stages that own a piece of the kernel share: how it is asked and told, and what stands around this
//! machine. It owns nothing itself, and what is changed is decided by whoever calls.
//!
//! | file | what it holds |
//! |---|---|
//! | `netlink.rs` | a socket to the kernel: requests, and the answer to each |
//! | `surroundings.rs` | own addresses, broadcast addresses and gateways |
//! | `program.rs` | nft, iptables and their like, run without a shell and with a limit |
//! | `error.rs` | what can go wrong |

#![forbid(unsafe_code)]

mod error;
mod netlink;
mod program;
mod surroundings;

pub use error::Error;
pub use netlink::{Link, Request};
pub use program::{Program, Ran, failure, locate, run};
pub use surroundings::{Surroundings, look};
