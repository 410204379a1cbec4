//! The programs as an administrator meets them: real sockets, real nmap, real firewalls, in throw-away network
//! namespaces that cannot reach the host's own.
//!
//! | file | what it shows |
//! |---|---|
//! | `lab/` | a guard, a scanner and an innocent, each a network namespace; programs running in them |
//! | `scans.rs` | nmap is seen, judged and blocked, on every backend, and let in again |
//! | `listen.rs` | sockets passed by systemd, signals, broken readers |
//! | `mirage.rs` | one socket that stands for every port |
//! | `trap.rs`, `trap/` | closed ports: every scan is seen and shut out, nobody else is |
//! | `block.rs` | the blocker alone: what it refuses, restores and takes away |
//! | `fuse.rs` | the blocker alone: who is logged in, whom `--allow` names, the brake |
//! | `scope.rs`, `scope/` | how far a block reaches: what real clients see of each flag on each backend |
//! | `heal.rs`, `heal/`, `heal_booted.rs` | the blocker puts back what others take away; on a booted systemd, too |
//! | `people.rs`, `people/` | what people ask of the blocker: block, status, why, panic, the control socket |
//! | `remember.rs`, `remember/` | the blocker alone: what it remembers beyond a kill and a reboot |
//! | `model.rs`, `model/` | random sequences of everything that happens to the blocker, against a simple model |
//! | `trouble.rs` | what the blocker does about full sets, held locks, read-only files, floods and signals |
//! | `booted.rs` | units/install on a really booted systemd |
//! | `stream.rs` | the stream is a Unix stream: printf, jq, FIFOs, cut lines |
//! | `stages.rs` | signals, neighbours that are gone, terminals that are paused |
//! | `hostile.rs` | bad input kills nothing and blocks nobody |
//! | `cases.rs` | `cases/*.events` in, `cases/*.verdicts` out |
//! | `judge.rs`, `judge/` | psentry-judge beside its records: reloads, state, counters, explain, replay |
//! | `surface.rs` | help and manual agree, exit codes, --check, completions |
//! | `units.rs` | the unit files, read by systemd-analyze |
//! | `nix.rs`, `nix/` | the NixOS module without NixOS: evaluated, refused, run on containers |
//! | `demo.rs` | `units/try` |

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice
)]
#![allow(missing_docs, unreachable_pub)]

mod lab;

mod block;
mod booted;
mod cases;
mod demo;
mod fuse;
mod heal;
mod heal_booted;
mod hostile;
mod judge;
mod listen;
mod mirage;
mod model;
mod nix;
mod people;
mod remember;
mod scans;
mod scope;
mod stages;
mod stream;
mod surface;
mod trap;
mod trouble;
mod units;
