//! The log of all records: one file that is appended to, rotated into numbered ones, and kept within its size by whoever
//! writes it. A log that is cleaned up from outside, once a day, is full before that.
//!
//! A flood must neither fill the disk nor wash out of the log what matters in it. So there are two bounds: the size and
//! the number of the files, which nothing passes; and a rate, beyond which most of a flood is left out, and the first
//! contact of each source and what was decided are written.
//!
//! | file | what it holds |
//! |---|---|
//! | `settings.rs` | where the log is, how large it may become |
//! | `log.rs` | [`Log`]: a record is admitted and appended, or counted; what is reported of that |
//! | `admission.rs`, `sources.rs` | which records are written beyond the rate; which sources are known. Without I/O |
//! | `log_file.rs` | the file that is appended to, whatever becomes of it |
//! | `rotation.rs` | the names of the rotated files, for whoever writes them and whoever reads them |

mod admission;
mod log;
mod log_file;
mod rotation;
mod settings;
mod sources;

pub use log::{Log, LogCounts};
pub use settings::{LogRate, LogSettings};
