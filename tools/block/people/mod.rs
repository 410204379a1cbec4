//! What people ask of psentry-block, whether or not it runs: to block by hand, how it is, why an address is blocked, and
//! to stop blocking at once.
//!
//! | file | what it holds |
//! |---|---|
//! | `by_hand.rs` | `block` |
//! | `commanded.rs` | ending what a command of the administrator's blocked |
//! | `sentences.rs` | what came of it, for people |
//! | `status.rs`, `report.rs` | `status`; how one backend is |
//! | `why.rs` | `why` |
//! | `taking_back.rs` | `unblock`, of what a running one still tries |
//! | `opening.rs` | `panic` and `resume` |

mod by_hand;
pub(crate) mod commanded;
mod opening;
mod report;
mod sentences;
mod status;
mod taking_back;
mod why;

pub(crate) use by_hand::block;
pub(crate) use opening::{panic, resume};
pub(crate) use report::Report;
pub(crate) use sentences::{remark, show};
pub(crate) use status::status;
pub(crate) use taking_back::take_back;
pub(crate) use why::why;
