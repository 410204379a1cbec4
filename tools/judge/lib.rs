//! psentry-judge: reads probes, and writes a verdict about each source whose probes convict it.
//!
//! What decides is pure ([`step`]): it sees the policy, what it remembers, and one record; it asks no clock, opens
//! nothing and writes nothing. The same records under the same policy give the same verdicts, at any speed, in one run
//! or in many.
//!
//! | file | what it holds |
//! |---|---|
//! | `step.rs`, `step/` | from a record to verdicts: the whole decision in one place |
//! | `sentence.rs` | how dangerous, for how long, and why: what a verdict says |
//! | `evidence/` | what a touch is evidence of, and what it adds up to |
//! | `rules/` | what convicts; to add a rule, add a file and name it in `policy/mod.rs` |
//! | `guard/` | what stands between a conviction and a block: the clock, vouchers, the brake; and sweeps |
//! | `memory/` | what is known of sources, bounded |
//! | `state.rs`, `counters.rs` | all that is remembered |
//! | `policy/` | the administrator's dials, and every default |
//! | `journal/` | the memory on disk |
//! | `sighting.rs`, `decode.rs` | what the judge needs of a probe, and how it is read fast |
//! | `run.rs`, `reload.rs`, `stats.rs` | standard input to standard output; what changes under it; what it counts |
//! | `explain.rs`, `replay.rs`, `input.rs` | looking back at files of records |
//! | `cli.rs`, `error.rs` | flags, what can go wrong |

mod cli;
mod counters;
mod decode;
mod error;
pub mod evidence;
mod explain;
pub mod guard;
mod input;
pub mod journal;
pub mod memory;
pub mod policy;
mod reload;
mod replay;
mod rules;
mod run;
mod sentence;
mod sighting;
mod state;
pub mod stats;
mod step;

pub use cli::{Command, Flags, PolicyFlags};
pub use counters::Counters;
pub use decode::{Heard, hear};
pub use error::JudgeError;
pub use policy::{Policy, PolicyError};
pub use rules::{Rule, Sequential, SlowScan, Trigger, Weight};
pub use run::run;
pub use sighting::Sighting;
pub use state::State;
pub use step::{complete, step, step_sighting};
