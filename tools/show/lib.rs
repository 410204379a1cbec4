//! psentry-show: reads any of psentry's records, of files or of standard input, and renders each as one line that a person reads at a
//! glance. With
//! `--tee` it stands in the middle of a pipe: the records go on unchanged, the lines go to standard error.
//!
//! It decides nothing and keeps nothing. Whatever text a stranger could have put into a record is escaped.
//!
//! | file | what it holds |
//! |---|---|
//! | `line.rs` | a record in words |
//! | `cli.rs`, `run.rs`, `error.rs` | flags, standard input and output, what can go wrong |

mod cli;
mod error;
mod line;
mod run;

pub use cli::Flags;
pub use error::ShowError;
pub use line::{Line, Tone, port, render};
pub use run::{Renderer, run};
