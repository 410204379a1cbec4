//! psentry-block: verdicts in, outcomes out. What is wanted stands in the ledger, what is never done in the guard;
//! backends make it true, one thread each, and say of every change whether it is confirmed.
//!
//! | file | what it holds |
//! |---|---|
//! | `cli.rs`, `help.rs` | flags; what of them the help of each command offers |
//! | `run.rs`, `start.rs`, `ready.rs` | the main loop; how it starts, and when it is ready |
//! | `braking.rs` | what the main loop says of the brake |
//! | `commands.rs`, `readers.rs`, `recall.rs` | `list`, `unblock`, `flush`, `--check`; what they find, and find remembered |
//! | `extent.rs`, `ports.rs` | how far a block reaches, and which backend can do that; blocks of single ports |
//! | `ledger.rs`, `guard.rs`, `schedule.rs` | decisions, without I/O: what is wanted, what is refused, what is due |
//! | `sessions.rs`, `brake.rs`, `room.rs` | decisions, too: who is logged in; how many new blocks, and blocks, are too many |
//! | `pace.rs` | one more: how soon what others took away is put back |
//! | `surroundings.rs`, `logind.rs`, `allow.rs` | what the guard saw last of this machine; whom it leaves alone |
//! | `worker.rs`, `inbox.rs`, `report.rs` | the thread of a backend, what waits for it, what it says |
//! | `control/` | the socket on which a running psentry-block is asked |
//! | `people/`, `panic.rs` | `block`, `status`, `why`, `panic`, `resume`; what a panic is |
//! | `memory.rs`, `left.rs` | what is remembered beyond a reboot; what of it is put back |
//! | `backend.rs`, `backends/` | what a backend is; each of them |
//! | `note.rs`, `lock.rs`, `effort.rs` | what several backends need; netlink and programs are in `tools/kernel` |

#![forbid(unsafe_code)]

mod allow;
pub mod backend;
pub mod backends;
mod brake;
mod braking;
pub mod cli;
mod commands;
mod control;
mod effort;
mod error;
pub mod extent;
pub mod guard;
mod help;
mod inbox;
pub mod ledger;
mod left;
mod listing;
mod lock;
mod logind;
mod memory;
mod note;
mod pace;
mod panic;
mod people;
pub mod ports;
mod readers;
mod ready;
mod recall;
mod report;
mod room;
mod run;
mod schedule;
mod sessions;
mod start;
mod surroundings;
mod worker;

pub use error::Error;
pub use help::Line;
pub use run::run;
