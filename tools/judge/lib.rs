//! psentry-judge: reads probes, and writes a verdict about each source whose probes convict it.
//!
//! What decides is pure ([`step`]): it sees the policy, what it remembers, and one record; it asks no clock, opens
//! nothing and writes nothing. The same records under the same policy give the same verdicts, at any speed, in one run
//! or in many.
//!
//! | file | what it holds |
//! |---|---|
//! | `step.rs`, `step/` | from a record to verdicts: the whole decision in one place |
//! | `penalty.rs`, `wording.rs` | how dangerous and for how long; and why, in sentences |
//! | `tally.rs` | the evidence against one source, added up |
//! | `evidence/` | what a touch is evidence of, and the sums that rules see |
//! | `rules/` | what convicts; to add a rule, add a file and name it in `policy/compile.rs` |
//! | `clock.rs` | the time of the stream |
//! | `vouchers.rs`, `brake.rs` | what turns a block down: a login, and too many blocks at a time |
//! | `sweeps.rs` | when a prefix is blocked as a whole |
//! | `memory/` | what is known of sources, bounded |
//! | `state.rs`, `counters.rs` | all that is remembered |
//! | `policy/` | the administrator's dials, and every default |
//! | `machine.rs` | the networks and client ports of the machine that is probed |
//! | `limits.rs` | bounds on which several of these have to agree |
//! | `journal/` | the memory on disk |
//! | `observation.rs`, `decode.rs` | what the judge needs of a probe, and how it is read fast |
//! | `run.rs`, `reload.rs`, `stats.rs`, `summary.rs` | standard input to standard output; what changes under it; what it counts; what it says of itself |
//! | `explain.rs`, `explain/`, `replay.rs`, `input.rs` | questions about files of records, and about the memory on disk |
//! | `cli.rs`, `error.rs` | flags, what can go wrong |
//!
//! Imports go one way: `evidence` and `rules` know no policy, `policy` no source, and `memory`, `clock`, `vouchers`,
//! `brake` and `sweeps` no decision.

pub mod brake;
mod cli;
pub mod clock;
mod counters;
mod decode;
mod error;
pub mod evidence;
mod explain;
mod input;
pub mod journal;
mod limits;
pub mod machine;
pub mod memory;
mod observation;
mod penalty;
pub mod policy;
mod reload;
mod replay;
mod rules;
mod run;
mod state;
pub mod stats;
mod step;
mod summary;
pub mod sweeps;
mod tally;
pub mod vouchers;
mod wording;

pub use cli::{Command, Flags};
pub use counters::Counters;
pub use decode::{Decoded, decode};
pub use error::JudgeError;
pub use observation::Observation;
pub use policy::{Policy, PolicyError, PolicyFlags};
pub use rules::{Evaluation, Rule, Sequential, SlowScan, Touches, Trigger};
pub use run::run;
pub use state::State;
pub use step::{complete, step, step_observation};
