//! psentry-listen: decoy ports. It accepts every connection, writes a probe, and closes.
//!
//! It needs no right and no network of its own when systemd passes the sockets. It decides about nobody: what it writes
//! are probes, the first contact at once and alike ones as one, and once a minute its counters.
//!
//! | file | what it holds |
//! |---|---|
//! | `cli.rs`, `settings.rs`, `limits.rs`, `ports.rs` | flags, what they mean, their defaults and bounds, lists of ports |
//! | `decoy.rs`, `socket_activation.rs`, `bind.rs` | a decoy port, passed by systemd or bound here |
//! | `mirage.rs` | the one socket that receives connections to every port |
//! | `tcp.rs`, `udp.rs` | accept(2) of a connection, recvmsg(2) of a datagram |
//! | `handshake.rs` | what a handshake proves, and which scanner built its SYN |
//! | `answer.rs` | what a datagram is answered, so that nobody gains by forging it |
//! | `accept_errors.rs` | which error of accept(2) costs what |
//! | `connection_table.rs` | connections that are held for their first bytes, bounded |
//! | `probe.rs`, `counters.rs` | who touched what, as a record; how many did |
//! | `recorder.rs`, `rate_limit.rs` | which contacts become records: alike ones are one, and so many a second |
//! | `handler.rs` | what happens to a connection and to a datagram |
//! | `event_loop.rs`, `poller.rs` | the one loop, and epoll(7) |
//! | `ready.rs` | what is said once the decoys are open |
//! | `run.rs`, `error.rs` | the whole program, and what can go wrong |

mod accept_errors;
mod answer;
mod bind;
mod cli;
mod connection_table;
mod counters;
mod decoy;
mod error;
mod event_loop;
mod handler;
mod handshake;
mod limits;
mod mirage;
mod poller;
mod ports;
mod probe;
mod rate_limit;
mod ready;
mod recorder;
mod run;
mod settings;
mod socket_activation;
mod tcp;
mod udp;

pub use cli::Flags;
pub use error::ListenError;
pub use run::run;
