//! The stages together, as a shell joins them.
//!
//! | file | what it shows |
//! |---|---|
//! | `scans.rs` | nmap is seen, judged and blocked, on every backend, and released again |
//! | `stream.rs` | the stream is a Unix stream: printf, jq, FIFOs, cut lines |
//! | `stages.rs` | signals, neighbours that are gone, terminals that are paused |
//! | `hostile.rs` | bad input ends no stage and blocks nobody |
//! | `innocents.rs` | real programs that touch several ports by one command convict nobody |

mod hostile;
mod innocents;
mod scans;
mod stages;
mod stream;
