//! Linux as several stages need it: netlink, facts of this machine (addresses, gateways, resolvers, sockets), and other
//! programs run with a limit. It owns nothing in the kernel itself; what to change is decided by the stage that calls.
//!
//! | file | what it holds |
//! |---|---|
//! | `netlink.rs` | a socket to the kernel: requests, and the answer to each |
//! | `watch.rs`, `port.rs` | what the kernel tells of changes unasked; by which address it tells psentry's own |
//! | `surroundings.rs`, `resolvers.rs` | own addresses, broadcast addresses, gateways and resolvers |
//! | `connections.rs` | which connections stand |
//! | `ending.rs`, `sockets.rs`, `tracked.rs` | connections of some sources: found, and ended |
//! | `filter.rs`, `filter/` | the filters with which the kernel picks sockets, by ports or by prefixes |
//! | `program.rs` | nft, iptables and their like, run without a shell and with a limit |
//! | `error.rs` | what can go wrong |

#![forbid(unsafe_code)]

mod connections;
mod ending;
mod error;
mod filter;
mod netlink;
mod port;
mod program;
mod resolvers;
mod sockets;
mod surroundings;
mod tracked;
pub mod watch;

pub use connections::{Connection, Ports, Transport, connections, listening};
pub use ending::{Ending, Peer};
pub use error::Error;
pub use netlink::{Link, Request};
pub use port::is_psentry;
pub use program::{Program, Ran, failure, locate, run};
pub use surroundings::{Surroundings, look};
pub use watch::Watch;
