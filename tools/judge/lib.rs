//! psentry-judge: reads probes, and writes a verdict about each source whose probes convict it.
//!
//! What decides is pure ([`step`]): it sees the policy, what it remembers, and one record; it asks no clock, opens
//! nothing and writes nothing. The same records under the same policy give the same verdicts, at any speed.
//!
//! | file | what it holds |
//! |---|---|
//! | `step.rs` | from a record to a verdict: the whole decision in one place |
//! | `rules/` | what convicts; to add a rule, add a file and name it in `policy.rs` |
//! | `source.rs` | what is known of one source |
//! | `state.rs` | all sources, bounded |
//! | `policy.rs` | the administrator's dials, and every default |
//! | `ignore.rs` | whom to leave alone: PortSentry's ignore file |
//! | `cli.rs`, `run.rs`, `error.rs` | flags, standard input and output, what can go wrong |

mod cli;
mod error;
mod ignore;
mod policy;
mod rules;
mod run;
mod source;
mod state;
mod step;

pub use cli::Flags;
pub use error::JudgeError;
pub use ignore::{Ignore, IgnoreError};
pub use policy::Policy;
pub use rules::{Rule, Sequential, Trigger, Weight};
pub use run::run;
pub use source::{Contact, Source};
pub use state::State;
pub use step::step;
