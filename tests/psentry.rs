//! The command psentry beside real tools, on a host with settings, a log and sockets where an installed suite has them.
//!
//! | file | what it shows |
//! |---|---|
//! | `shut_out.rs` | list, why, unblock, block, panic and resume; the log; the status of a pipeline |
//! | `settings.rs` | the settings that it changes, and those that NixOS declares |
//! | `booted.rs` | the status, decoys and the mode on a booted systemd |
//! | `surface.rs` | help, manual, exit codes, completions |

use std::process::Output;

use crate::lab::{Lab, Program, bin, wait_until};

mod booted;
mod settings;
mod shut_out;
mod surface;

/// A lab whose guard has an /etc and a /var/log of its own, with these lines in psentry.conf.
fn installed(conf: &str) -> Lab {
    let lab = Lab::new();
    lab.guard.sh(&format!(
        "mkdir /run/etc; cp -a /etc/. /run/etc/ 2>/dev/null || true; mount --bind /run/etc /etc
         mount -t tmpfs tmpfs /var/log; mkdir -p /var/log/psentry /etc/psentry
         printf '%s' '{conf}' > /etc/psentry/psentry.conf
         echo '127.0.0.0/8  # this machine' > /etc/psentry/ignore"
    ));
    lab
}

/// psentry-block as the installed service runs it, and its input.
fn blocker(lab: &Lab) -> (Program, std::process::ChildStdin) {
    let log = "/var/log/psentry/records.jsonl,1M,3";
    let flags =
        ["--pass", "--log", log, "--state", "/var/lib/psentry-block", "--allow", "/etc/psentry/ignore"];
    let mut block = Program::start_fed(lab.guard.command(bin("psentry-block")).args(flags));
    let stdin = block.stdin();
    block.complaint("ready");
    (block, stdin)
}

/// Runs psentry on the guard: its exit code, and what it prints and says.
fn psentry(lab: &Lab, line: &[&str]) -> (Option<i32>, String) {
    told(&lab.guard.run(&[&[bin("psentry")], line].concat()))
}

fn told(output: &Output) -> (Option<i32>, String) {
    let [out, error] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    (output.status.code(), out + &error)
}
