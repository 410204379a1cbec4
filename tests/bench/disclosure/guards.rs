//! What stands between the scanner and the services.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::lab::{Lab, Program, bin, wait_until};
use crate::services::{EIGHT, TWENTY};

/// Decoys on ports that scanners try first and nobody here uses.
const DECOYS: &str = "21,23,79,88,113,119,135,139,389,445,512,513,514,515,548,554,1025,1433,1720,1723,3389,5060,5900,8443,8888,9999,10000,49152";

/// All services are behind the veil, or hidden. The scanner is in a network of the guard's.
const VEIL: &[&str] = &["--veil", TWENTY_LIST, "--veil-own"];
const HIDE: &[&str] = &["--hide", TWENTY_LIST];
const TWENTY_LIST: &str =
    "22,25,53,80,110,111,143,443,465,587,631,993,995,2049,3306,5432,8000,8080,8081,9100";

/// The guard with which others are compared.
pub(crate) const TRAP: &str = "psentry with trap";

/// One way to guard.
pub(crate) struct Guard {
    pub(crate) name: String,
    /// What the machine behind it serves.
    pub(crate) services: &'static [u16],
    /// How many forged packets a second arrive meanwhile.
    pub(crate) flood: u32,
    /// Whether it is asked by scans that are aimed at services, too.
    pub(crate) aimed_at: bool,
    what: What,
}

/// What guards.
enum What {
    Nothing,
    /// PortSentry in this mode.
    PortSentry(&'static str),
    /// psentry with this sensor, and with programs of this folder, or of this source.
    Psentry(&'static str, &'static [&'static str], Option<PathBuf>),
}

/// What is running, for as long as it is held.
#[derive(Default)]
pub(crate) struct Standing {
    _programs: Vec<Program>,
    /// A peer's files; a daemon that runs from among them is ended.
    files: Option<TempDir>,
}

impl Drop for Standing {
    fn drop(&mut self) {
        let Some(files) = &self.files else { return };
        let processes = fs::read_dir("/proc").unwrap().flatten();
        for process in processes {
            let runs =
                fs::read_link(process.path().join("exe")).is_ok_and(|exe| exe.starts_with(files.path()));
            if let (true, Ok(pid)) = (runs, process.file_name().to_string_lossy().parse()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}

impl Guard {
    fn new(name: impl Into<String>, what: What) -> Self {
        Guard { name: name.into(), services: &TWENTY, flood: 0, aimed_at: false, what }
    }

    /// All of them; with the programs of an older release beside these, if `older` is a folder with those.
    pub(crate) fn all(older: Option<&Path>) -> Vec<Guard> {
        let trap = |programs: Option<&Path>| What::Psentry("psentry-trap", &[], programs.map(Path::to_owned));
        let unseen = |name: &str, flags| Guard {
            aimed_at: true,
            ..Guard::new(name, What::Psentry("psentry-trap", flags, None))
        };
        let mut all = vec![
            Guard { aimed_at: true, ..Guard::new("nothing", What::Nothing) },
            Guard::new("PortSentry 1.2 -tcp", What::PortSentry("-tcp")),
            Guard::new("PortSentry 1.2 -atcp", What::PortSentry("-atcp")),
            Guard::new("psentry, decoys only", What::Psentry("psentry-listen", &["--tcp", DECOYS], None)),
            Guard { aimed_at: true, ..Guard::new(TRAP, trap(None)) },
            unseen("psentry with trap and veil", VEIL),
            unseen("psentry with trap that hides", HIDE),
            Guard { services: &EIGHT, ..Guard::new("nothing, eight services", What::Nothing) },
            Guard { services: &EIGHT, ..Guard::new("psentry with trap, eight services", trap(None)) },
            Guard {
                flood: 5_000,
                ..Guard::new("psentry with trap, in a flood of 5,000 a second", trap(None))
            },
            Guard {
                flood: 50_000,
                ..Guard::new("psentry with trap, in a flood of 50,000 a second", trap(None))
            },
        ];
        if let Some(older) = older {
            let of = |name: &str| Guard::new(name, trap(Some(older)));
            all.push(of("older psentry with trap"));
            all.push(Guard { services: &EIGHT, ..of("older psentry with trap, eight services") });
            all.push(Guard { flood: 5_000, ..of("older psentry with trap, in a flood of 5,000 a second") });
            all.push(Guard { flood: 50_000, ..of("older psentry with trap, in a flood of 50,000 a second") });
        }
        all
    }

    /// Starts it, and waits until it stands.
    pub(crate) fn start(&self, lab: &Lab) -> Standing {
        match &self.what {
            What::Nothing => Standing::default(),
            What::PortSentry(mode) => portsentry(lab, mode),
            What::Psentry(sensor, flags, programs) => psentry(lab, sensor, flags, programs.as_deref()),
        }
    }
}

/// A sensor, the judge and the blocker, as in a shell.
fn psentry(lab: &Lab, sensor: &str, flags: &[&str], programs: Option<&Path>) -> Standing {
    let command = |name: &str| {
        let program = programs.map_or_else(|| bin(name).into(), |folder| folder.join(name));
        lab.guard.command(program.to_str().unwrap())
    };
    let mut sensor_program = Program::start_piped(command(sensor).args(flags).stdin(Stdio::null()));
    let mut judge =
        Program::start_piped(command("psentry-judge").stdin(Stdio::from(sensor_program.stdout())));
    let mut block = Program::start_piped(
        command("psentry-block").args(["--backend", "nft", "--pass"]).stdin(Stdio::from(judge.stdout())),
    );
    block.read_output();
    wait_until("the blocker has its table", || lab.guard.ok(&["nft", "list", "table", "inet", "psentry"]));
    match sensor {
        "psentry-trap" => {
            wait_until("the trap is set", || lab.guard.ok(&["nft", "list", "table", "inet", "psentry_trap"]));
        }
        _ => wait_until("the decoys stand", || lab.guard.sh("ss -Hltn").contains(":49152 ")),
    }
    Standing { _programs: vec![sensor_program, judge, block], files: None }
}

/// Debian's package of PortSentry, fetched by the first run that needs it.
const PACKAGE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/portsentry");

/// Debian's PortSentry, unpacked, with the one line of its settings changed that makes it block.
fn portsentry(lab: &Lab, mode: &str) -> Standing {
    let files = tempfile::tempdir().unwrap();
    let at = files.path();
    fs::create_dir_all(PACKAGE).unwrap();
    let script = "ls $0/portsentry_*.deb || (cd $0 && apt-get download portsentry)
                  dpkg-deb -x $0/portsentry_*.deb unpacked";
    let mut unpack = Command::new("sh");
    let unpack = unpack.args(["-ec", script, PACKAGE]).stdout(Stdio::null()).stderr(Stdio::null());
    let unpacked = unpack.current_dir(at).status().unwrap();
    assert!(unpacked.success(), "apt-get download portsentry: Debian's package is needed for its column");
    let settings = at.join("unpacked/etc/portsentry/portsentry.conf");
    let text: String = fs::read_to_string(&settings)
        .unwrap()
        .lines()
        .filter(|line| !line.starts_with("KILL_ROUTE=") && !line.starts_with("BLOCK_TCP="))
        .map(|line| format!("{line}\n"))
        .collect();
    let block = "BLOCK_TCP=\"1\"\nKILL_ROUTE=\"/usr/sbin/iptables -I INPUT -s $TARGET$ -j DROP\"\n";
    fs::write(&settings, format!("{text}{block}")).unwrap();
    // It reads and writes at fixed places: an overlay that only the guard sees gives it those.
    lab.guard.sh(&format!(
        "cd {at}; mkdir -p upper work varupper varwork
         cp -r unpacked/etc/portsentry upper/; : > upper/portsentry/portsentry.ignore
         mount -t overlay overlay -o lowerdir=/etc,upperdir={at}/upper,workdir={at}/work /etc
         mkdir -p varupper/portsentry
         mount -t overlay overlay -o lowerdir=/var/lib,upperdir={at}/varupper,workdir={at}/varwork /var/lib",
        at = at.display()
    ));
    let program = at.join("unpacked/usr/sbin/portsentry");
    lab.guard.sh(&format!("{} {mode}", program.display()));
    wait_until("PortSentry listens", || match mode {
        "-tcp" => lab.guard.sh("ss -Hltn").contains(":12345 "),
        _ => lab.guard.sh("ss -Hwan").contains("UNCONN"),
    });
    Standing { _programs: Vec::new(), files: Some(files) }
}
