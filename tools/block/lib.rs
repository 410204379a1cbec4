//! psentry-block: verdicts in, outcomes out. What is wanted stands in the ledger, what is never done in the guard;
//! backends make it true, one thread each, and say of every change whether it is confirmed.
//!
//! | file | what it holds |
//! |---|---|
//! | `cli.rs`, `run.rs`, `start.rs` | flags; the main loop; how it starts |
//! | `commands.rs`, `recall.rs` | `list`, `unblock`, `flush`, `--check`; what they find remembered |
//! | `extent.rs`, `ports.rs` | how far a block reaches, and which backend can do that; blocks of single ports |
//! | `ledger.rs`, `guard.rs`, `schedule.rs` | decisions, without I/O: what is wanted, what is refused, what is due |
//! | `pace.rs` | a decision, too: how soon what others took away is put back |
//! | `surroundings.rs` | what the guard saw last of this machine |
//! | `worker.rs`, `inbox.rs`, `report.rs` | the thread of a backend, what waits for it, what it says |
//! | `memory.rs`, `left.rs` | what is remembered beyond a reboot; what of it is put back |
//! | `backend.rs`, `backends/` | what a backend is; each of them |
//! | `note.rs`, `lock.rs` | what several backends need; netlink and programs are in `tools/kernel` |

#![forbid(unsafe_code)]

pub mod backend;
pub mod backends;
pub mod cli;
mod commands;
mod error;
pub mod extent;
pub mod guard;
mod inbox;
pub mod ledger;
mod left;
mod listing;
mod lock;
mod memory;
mod note;
mod pace;
pub mod ports;
mod recall;
mod report;
mod run;
mod schedule;
mod start;
mod surroundings;
mod worker;

pub use error::Error;
pub use run::run;
