//! psentry-listen: decoy ports. It accepts whoever comes, notes who it was, and closes.
//!
//! It needs no right and no network of its own when systemd passes the sockets. It judges nobody: what it writes
//! are probes, one a connection and one a datagram.
//!
//! | file | what it holds |
//! |---|---|
//! | `cli.rs`, `settings.rs`, `ports.rs` | flags, what they mean, lists of ports |
//! | `decoy.rs`, `inherited.rs`, `bound.rs` | a decoy port, passed by systemd or bound here |
//! | `mirage.rs` | the one socket that stands for every port |
//! | `tcp.rs`, `udp.rs` | one connection, one datagram |
//! | `handshake.rs` | what a handshake proves, and whose handwriting its SYN is in |
//! | `answer.rs` | what a datagram is answered, so that nobody gains by forging it |
//! | `setback.rs` | which error of accept(2) costs what |
//! | `held.rs` | connections that are kept for their first bytes, bounded |
//! | `sighting.rs`, `tally.rs` | who was seen where, and how many |
//! | `reception.rs` | what happens to a visitor |
//! | `listener.rs`, `watch.rs` | the one loop, and epoll(7) |
//! | `service.rs` | what systemd is told |
//! | `run.rs`, `error.rs` | the whole program, and what can go wrong |

mod answer;
mod bound;
mod cli;
mod decoy;
mod error;
mod handshake;
mod held;
mod inherited;
mod listener;
mod mirage;
mod ports;
mod reception;
mod run;
mod service;
mod setback;
mod settings;
mod sighting;
mod tally;
mod tcp;
mod udp;
mod watch;

pub use cli::Flags;
pub use error::ListenError;
pub use run::run;
