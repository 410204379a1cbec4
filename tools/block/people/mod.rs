//! What people ask of psentry-block, whether or not it runs: to block by hand, how it is, why an address is blocked, and
//! to stop blocking.
//!
//! | file | what it holds |
//! |---|---|
//! | `commands.rs`, `listing.rs` | `list`, `unblock` and `--check`; tables |
//! | `by_hand.rs` | `block` |
//! | `commanded.rs` | ending what a command of the administrator's blocked |
//! | `sentences.rs` | what came of it, for people |
//! | `status.rs`, `report.rs` | `status`; how one backend is |
//! | `why.rs` | `why` |
//! | `opening.rs` | `flush`, `panic` and `resume` |
//! | `taking_back.rs`, `running.rs` | what a running one still tries; whether one runs that cannot be asked |

mod by_hand;
pub(crate) mod commanded;
pub(crate) mod commands;
mod listing;
mod opening;
pub(crate) mod readers;
mod report;
mod running;
mod sentences;
mod status;
mod taking_back;
mod why;

pub(crate) use by_hand::block;
pub(crate) use opening::{flush, panic, resume};
pub(crate) use report::Report;
pub(crate) use sentences::{remark, show};
pub(crate) use status::status;
pub(crate) use taking_back::take_back;
pub(crate) use why::why;
