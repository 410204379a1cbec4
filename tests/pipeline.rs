//! The stages together, as a shell joins them.
//!
//! | file | what it shows |
//! |---|---|
//! | `scans.rs` | nmap is seen, judged and blocked, on every backend, and released again |
//! | `stream.rs` | the stream is a Unix stream: printf, jq, FIFOs, cut lines |
//! | `stages.rs` | signals, neighbours that are gone, terminals that are paused |
//! | `log.rs` | the log that psentry-block keeps: floods, kills, full disks |
//! | `hostile.rs` | bad input ends no stage and blocks nobody |
//! | `released.rs` | who was released is blocked again by a new scan |
//! | `full_disk.rs` | a full disk behind the log stops no stage |
//! | `innocents.rs` | real programs that touch several ports by one command convict nobody |

mod full_disk;
mod hostile;
mod innocents;
mod log;
mod released;
mod scans;
mod stages;
mod stream;
