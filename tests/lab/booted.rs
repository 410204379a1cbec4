//! A machine with a real systemd: a container over a copy-on-write view of this one's root, with a network of its
//! own. Takes root and systemd-nspawn; without them [`Booted::possible`] says so, loudly.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{DISK_WAIT, bin, wait_until_within};

/// A booted container. Powered off when dropped; its files were never on the disk.
pub struct Booted {
    nspawn: Child,
    leader: u32,
    cgroup: String,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Makes the root and boots it. $1: the folder of this repository, $2: the folder of the programs, $3: a control
/// group, $4: a name. All mounts are in a mount namespace of this script's own, and end with it.
const BOOT: &str = r#"
mkdir -p "$3"; echo $$ > "$3/cgroup.procs"
# It deletes what it made there, and does so on a tmpfs only.
mkdir -p /run/systemd/nspawn; mount -t tmpfs tmpfs /run/systemd/nspawn
mount -t tmpfs -o size=2g tmpfs /mnt; cd /mnt; mkdir up wk root
mount -t overlay overlay -o lowerdir=/,upperdir=up,workdir=wk root
for unit in $(cd root && find etc/systemd/system -maxdepth 2 -path '*.wants/*' -printf '%f\n' | sort -u) \
    console-getty.service systemd-networkd.service systemd-resolved.service systemd-logind.service; do
    ln -sfn /dev/null "root/etc/systemd/system/$unit"
done
: > root/etc/machine-id
mkdir -p root/opt/psentry/bin root/etc/systemd/journald.conf.d
printf '[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\n' > root/etc/systemd/journald.conf.d/test.conf
cp -r "$1/units" "$1/man" "$1/Cargo.toml" "$1/Cargo.lock" "$1/tools" root/opt/psentry/
for name in $(sed -n '/^\[\[bin\]\]/,/^$/s/^name = "\(.*\)"/\1/p' "$1/Cargo.toml"); do
    cp "$2/$name" root/opt/psentry/bin/
done
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
# 133: to be booted anew.
status=133
while [ $status = 133 ]; do
    status=0
    systemd-nspawn --quiet -M "$4" --private-network -D root --keep-unit --register=no --boot --console=pipe || status=$?
done
"#;

/// What booting takes, tried.
const MAY_BOOT: &str = r#"
systemd-nspawn --version > /dev/null
base=/sys/fs/cgroup; [ ! -d $base/unified ] || base=$base/unified
mkdir "$base/psentry-may-$$"; rmdir "$base/psentry-may-$$"
exec unshare --mount bash -ec 'mount -t tmpfs tmpfs /mnt; mkdir /mnt/u /mnt/w /mnt/r
    mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/u,workdir=/mnt/w /mnt/r'
"#;

/// The first child of a process.
fn child_of(pid: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

impl Booted {
    /// Whether a machine can be booted here. If not, the test that asks is not run, and says so; with
    /// `PSENTRY_BOOTED=required` in the environment it fails.
    pub fn possible() -> bool {
        let root = nix::unistd::geteuid().is_root();
        let possible = root
            && Command::new("bash").args(["-ec", MAY_BOOT]).stderr(Stdio::null()).status().unwrap().success();
        if !possible {
            let line =
                "\n*** NOT TESTED on a booted systemd: that takes root, systemd-nspawn and overlayfs ***\n";
            // Past the test runner, which keeps the output of tests that pass to itself.
            let _ = std::io::stderr().write_all(line.as_bytes());
            assert!(std::env::var_os("PSENTRY_BOOTED").is_none(), "a booted systemd is required here");
        }
        possible
    }

    /// Boots one.
    pub fn boot() -> Self {
        let name = format!("psentry-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let unified = "/sys/fs/cgroup/unified";
        let base = if Path::new(unified).exists() { unified } else { "/sys/fs/cgroup" };
        let cgroup = format!("{base}/{name}");
        let programs = Path::new(bin("psentry-listen")).parent().unwrap();
        let nspawn = Command::new("unshare")
            .args([
                "--mount",
                "--propagation",
                "private",
                "bash",
                "-ec",
                BOOT,
                "boot",
                env!("CARGO_MANIFEST_DIR"),
            ])
            .arg(programs)
            .args([&cgroup, &name])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut booted = Booted { nspawn, leader: 0, cgroup };
        booted.comes_up();
        booted
    }

    fn comes_up(&mut self) {
        wait_until_within(DISK_WAIT, "the container has booted", || {
            // Of the script, systemd-nspawn, whose child is the container's first process.
            self.leader = child_of(self.nspawn.id()).and_then(child_of).unwrap_or(0);
            let state = self.run("systemctl is-system-running").stdout;
            ["running\n", "degraded\n"].contains(&&*String::from_utf8_lossy(&state))
        });
    }

    /// Boots it anew: its files are as they were, and it has a new network without a link to anybody.
    pub fn reboot(&mut self) {
        let before = self.leader;
        self.run("systemctl reboot");
        wait_until_within(DISK_WAIT, "the container goes down", || {
            !Path::new(&format!("/proc/{before}")).exists()
        });
        self.comes_up();
    }

    /// The process whose network namespace is the container's.
    pub fn pid(&self) -> u32 {
        self.leader
    }

    /// Where a file of it is for the test: what the test does with it costs no process.
    pub fn path(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{file}", self.leader))
    }

    /// Runs a line of shell in it.
    pub fn run(&self, script: &str) -> Output {
        Command::new("nsenter")
            .args([
                "--target",
                &self.leader.to_string(),
                "--all",
                "env",
                "-i",
                "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            ])
            .args(["HOME=/root", "LANG=C.UTF-8", "bash", "-ec", script])
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Whether a line of shell ends well in it.
    pub fn ok(&self, script: &str) -> bool {
        self.run(script).status.success()
    }

    /// What lines of shell that end well print.
    pub fn sh(&self, script: &str) -> String {
        let output = self.run(script);
        let (said, error) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{script}: {}\n{said}\n{error}", output.status);
        said.into_owned()
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        self.run("systemctl poweroff");
        for _ in 0..100 {
            if self.nspawn.try_wait().ok().flatten().is_some() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        let _ = self.nspawn.kill();
        let _ = self.nspawn.wait();
        // Whatever still runs in it, such as a machine that had not booted yet (cgroups(7)).
        let _ = fs::write(format!("{}/cgroup.kill", self.cgroup), "1");
        let _ = Command::new("find")
            .args([&self.cgroup, "-depth", "-type", "d", "-exec", "rmdir", "{}", "+"])
            .stderr(Stdio::null())
            .status();
    }
}
