//! A real sshd on a booted guard, and a real ssh that logs in there.

use std::process::Output;

use super::{Booted, Host, wait_until};

/// A key that the guard takes, in a folder that both see.
pub struct Key(tempfile::TempDir);

/// Starts sshd on port 22 of the guard as a distribution does, as a service of its own, for root with a key.
pub fn serve(guard: &Booted) -> Key {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&key)
        .status()
        .unwrap();
    assert!(made.success());
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    guard.sh(&format!(
        "getent passwd sshd >/dev/null || useradd --system --home /run/sshd --shell /usr/sbin/nologin sshd
         mkdir -p /run/sshd /root/.ssh; chmod 700 /root/.ssh; echo '{public}' > /root/.ssh/authorized_keys
         [ -e /etc/ssh/ssh_host_ed25519_key ] || ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
         systemd-run --quiet --unit sshd \"$(command -v sshd)\" -D -f /dev/null -o UsePAM=no -o PermitRootLogin=yes \
            -o StrictModes=no -o HostKey=/etc/ssh/ssh_host_ed25519_key"
    ));
    wait_until("sshd listens", || guard.ok("ss -Hltn 'sport = :22' | grep -q ."));
    Key(folder)
}

impl Key {
    /// Logs in and runs a line there; gives up after so many seconds.
    pub fn login(&self, host: &Host, source: &str, address: &str, patience: u32, line: &str) -> Output {
        let key = self.0.path().join("key");
        host.run(&[
            "ssh",
            "-F",
            "none",
            "-b",
            source,
            "-i",
            key.to_str().unwrap(),
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            &format!("ConnectTimeout={patience}"),
            &format!("root@{address}"),
            line,
        ])
    }
}
