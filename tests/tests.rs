//! The programs as an administrator meets them: real sockets, real nmap, real firewalls, in throw-away network
//! namespaces that cannot reach the host's own.
//!
//! | file | what it shows |
//! |---|---|
//! | `lab/` | a guard, a scanner and an innocent, each a network namespace; programs running in them |
//! | `block.rs`, `block/` | the blocker alone: verdicts, guard, reach, repair, commands, state, faults, and a model of it all |
//! | `trap.rs`, `trap/` | closed ports: every scan is seen and shut out, nobody else is |
//! | `listen.rs`, `listen/` | sockets passed by systemd, signals, broken readers; the mirage, one socket for every port |
//! | `judge.rs`, `judge/` | psentry-judge: golden cases (`cases/`), reloads, state, counters, explain, replay |
//! | `pipeline.rs`, `pipeline/` | the stages together: nmap is blocked on every backend, FIFOs, signals, bad input |
//! | `psentry.rs`, `psentry/` | the command psentry: list, why, unblock, log, status, settings, NixOS |
//! | `units.rs`, `units/` | the unit files, read by systemd-analyze and on a really booted systemd; `units/try` |
//! | `nix.rs`, `nix/` | the NixOS module without NixOS: evaluated, refused, run on containers |
//! | `surface.rs` | help and manual agree, exit codes, --check, completions |
//! | `modules.rs` | the modules of psentry-block use each other in no circle |

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
mod judge;
mod listen;
mod modules;
mod nix;
mod pipeline;
mod psentry;
mod surface;
mod trap;
mod units;
