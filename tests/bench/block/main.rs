//! What blocking costs: a confirmed block, beside other ways to make one; the restoring of thousands after a reboot; and
//! what blocks cost the packets of everybody else. All in one run, in throw-away network namespaces, so that nothing on
//! this machine is blocked and the ratios are fair.
//!
//! `cargo bench --bench block`, or one of it: `cargo bench --bench block -- price`, `restore` or `packets`. Needs no root.
//! With `--older DIR` the psentry-block of an older release in that folder is measured in the same run.
//! fail2ban is measured where it is installed.

// A benchmark may end at the first surprise.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code, unreachable_pub, unused_imports)] // the tests use the rest of it
#[path = "../../lab/mod.rs"]
mod lab;

mod packets;
mod price;
mod remembered;
mod restore;
mod visits;

use std::env;
use std::path::{Path, PathBuf};

/// The arguments that make this program somebody else.
const INSIDE: &str = "--inside";
const SERVICE: &str = "--service";
const CLIENT: &str = "--client";

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some(INSIDE) => {
            let older = args.get(2).map(PathBuf::from);
            return price::inside(args.get(1).is_some_and(|print| print == "print"), older.as_deref());
        }
        Some(SERVICE) => return visits::serve(),
        Some(CLIENT) => return visits::visit(),
        _ => {}
    }
    // As a test (`cargo test --benches`) each is looked at once, and nothing is printed.
    let print = args.iter().any(|arg| arg == "--bench");
    let older = args.iter().position(|arg| arg == "--older").and_then(|at| args.get(at + 1));
    let older = older.map(|folder| Path::new(folder).join("psentry-block"));
    let names = ["price", "restore", "packets"];
    let all = !args.iter().any(|arg| names.contains(&&**arg));
    let chosen = |name: &str| all || args.iter().any(|arg| arg == name);
    if chosen("price") {
        price::measure(print, older.as_deref());
    }
    if chosen("restore") {
        restore::measure(print, older.as_deref());
    }
    if chosen("packets") {
        packets::measure(print);
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Address number `n`.
fn address(n: u32) -> String {
    format!("10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255)
}

/// A verdict that blocks it for a day.
fn verdict(n: u32) -> String {
    let now = psentry_records::Timestamp::now();
    format!(
        "{{\"timestamp\":\"{now}\",\"event_type\":\"verdict\",\"verdict\":{{\"action\":\"block\",\"scope\":\"{}/32\",\
         \"duration\":86400,\"rule\":\"bench\"}}}}\n",
        address(n)
    )
}
