//! psentry-block alone, fed by hand.
//!
//! | file | what it shows |
//! |---|---|
//! | `verdicts.rs` | what it refuses, and what it does with longer, shorter and old verdicts |
//! | `guard.rs` | whom it never shuts out: who is logged in, resolvers, `--allow`; the brake |
//! | `reach.rs`, `reach/` | how far a block reaches: what real clients see of each flag on each backend |
//! | `repair.rs`, `repair/` | what others take away is put back; on a booted systemd, too |
//! | `commands.rs`, `commands/` | block, unblock, flush, status, why, panic, and the control socket |
//! | `state.rs`, `state/` | what outlives a kill, a reboot, a clock that is wrong, a broken disk, and an earlier version |
//! | `faults.rs` | full sets, held locks, read-only files, floods and signals |
//! | `exec.rs` | the backend exec: what a command is given, what becomes of one that fails or hangs, and what is known after a restart |
//! | `expiry.rs` | how blocks end, and how psentry-block stops |
//! | `leftovers.rs` | what is made again where it is gone, and left as it was found |
//! | `messages.rs` | what is said to people and programs, with rights and without |
//! | `model.rs`, `model/` | random sequences of all of this against a simple model |

mod commands;
mod exec;
mod expiry;
mod faults;
mod guard;
mod leftovers;
mod messages;
mod model;
mod reach;
mod repair;
mod state;
mod verdicts;
