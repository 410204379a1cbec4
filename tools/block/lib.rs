//! psentry-block: verdicts in, outcomes out. What is wanted stands in the ledger, what is never done in the guard;
//! backends make it true, one thread each, and say of every change whether it is confirmed.
//!
//! | file | what it holds |
//! |---|---|
//! | `cli.rs`, `help.rs`, `extent.rs` | flags; what of them each command heeds; how far a block reaches |
//! | `run.rs`, `run/` | the main loop; how it starts, what becomes of a verdict, how many new blocks are too many |
//! | `ledger.rs`, `ports.rs` | decisions, without I/O: what is wanted; blocks of single ports |
//! | `guard.rs`, `guard/` | who is never blocked, and who not yet: what of this machine tells it, who is logged in |
//! | `worker.rs`, `worker/` | the thread of a backend: what is due, what is repaired, what came of it |
//! | `inbox.rs`, `report.rs`, `counters.rs` | what waits for that thread, what it says, what is counted |
//! | `sink.rs` | where records go: standard output, or the log of `tools/log` |
//! | `memory.rs`, `memory/` | what is remembered beyond a reboot; what of it is put back |
//! | `backend.rs`, `backend/` | what a backend is, and what a block |
//! | `backends/`, `note.rs`, `lock.rs` | each of them; what several of them need |
//! | `control/` | the socket on which a running psentry-block is asked |
//! | `people/`, `panic.rs` | the commands: `list`, `block`, `status`, `why`, `unblock`, `flush`, `panic`; what a panic is |
//! | `effort.rs`, `watchdog.rs` | what something costs, for what is to be looked at often; whether all loops are alive |
//!
//! Netlink and programs are in `tools/linux`.

#![forbid(unsafe_code)]

pub mod backend;
pub mod backends;
pub mod cli;
mod control;
mod counters;
mod effort;
mod error;
pub mod extent;
pub mod guard;
mod help;
mod inbox;
pub mod ledger;
mod lock;
mod memory;
mod note;
mod panic;
mod people;
pub mod ports;
mod report;

mod run;
mod sink;
mod watchdog;
mod worker;

pub use error::Error;
pub use help::Line;
pub use run::run;
