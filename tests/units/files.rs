//! The unit files: systemd understands all of them, and each sandbox is as tight as it was meant to be.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn units() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("units")
}

/// All unit files in a folder of their own, with programs that are there; templates get an instance.
fn installed() -> (tempfile::TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for entry in fs::read_dir(units()).unwrap() {
        let path = entry.unwrap().path();
        if !["service", "socket", "target", "timer"]
            .map(Some)
            .contains(&path.extension().and_then(|e| e.to_str()))
        {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path)
            .unwrap()
            .replace("/usr/local/bin/psentry-", "/usr/bin/true #")
            .replace("/usr/local/lib/psentry/selftest", "/usr/bin/true")
            .replace("/usr/local/lib/psentry/logins", "/usr/bin/true");
        fs::write(folder.path().join(&name), text).unwrap();
        files.push(folder.path().join(name.replace("@.", "@2323.")));
    }
    assert!(files.len() >= 8, "{files:?}");
    (folder, files)
}

/// psentry-block.service with the rights of one backend.
fn with_rights(drop_in: &Path) -> (tempfile::TempDir, PathBuf) {
    let (folder, _) = installed();
    let unit = folder.path().join("psentry-block.service");
    let drop_ins = folder.path().join("psentry-block.service.d");
    fs::create_dir(&drop_ins).unwrap();
    fs::copy(drop_in, drop_ins.join(drop_in.file_name().unwrap())).unwrap();
    (folder, unit)
}

/// Ends well only if systemd has nothing to say.
fn verify(files: &[PathBuf]) {
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).args(files).output().unwrap();
    // It ends well even on a misspelt directive, but not in silence.
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.status.success());
}

/// Whether a sandbox is no wider than so many tenths.
fn is_tight(unit: &Path, tenths: u32) {
    let output = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager", &format!("--threshold={tenths}")])
        .arg(unit)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}: {}", unit.display(), told.lines().last().unwrap_or_default());
    assert!(told.contains("Overall exposure level"), "{}: {told}", unit.display());
}

#[test]
fn systemd_understands_every_unit_without_a_word() {
    verify(&installed().1);
    for (drop_in, _) in DROP_INS {
        let drop_in = units().join("rights").join(drop_in);
        verify(&[with_rights(&drop_in).1]);
    }
}

/// The drop-ins, and how wide the sandbox is with each; psentry-block(8) says so.
const DROP_INS: [(&str, u32); 4] =
    [("exec-network.conf", 15), ("hosts-deny.conf", 16), ("ipset.conf", 15), ("iptables-legacy.conf", 15)];

#[test]
fn every_sandbox_is_tight() {
    for (unit, tenths) in [
        ("psentry-listen", 3),
        ("psentry-trap", 13),
        ("psentry-judge", 3),
        ("psentry-block", 11),
        ("psentry-logins", 6),
        ("psentry-selftest", 25),
        ("psentry-ipset-sets", 14),
    ] {
        is_tight(&units().join(format!("{unit}.service")), tenths);
    }
    let folder = units().join("rights");
    let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, DROP_INS.map(|(name, _)| name));
    for (drop_in, tenths) in DROP_INS {
        let (_folder, unit) = with_rights(&folder.join(drop_in));
        is_tight(&unit, tenths);
    }
}

/// What psentry-generator chooses for settings: the names of the drop-ins, and whether sets are made at boot.
fn chosen(settings: &str) -> (Vec<String>, bool) {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    fs::write(file("psentry.conf"), settings).unwrap();
    let script = fs::read_to_string(units().join("psentry-generator")).unwrap();
    let script = script.replace("/etc/psentry/psentry.conf", file("psentry.conf").to_str().unwrap());
    fs::write(file("generator"), script).unwrap();
    let output =
        Command::new("sh").arg(file("generator")).args([&file("normal"), &file("early")]).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{settings}: {output:?}");
    let drop_ins = fs::read_dir(file("normal/psentry-block.service.d")).into_iter().flatten();
    let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap().replace(".conf", "");
    let mut names: Vec<String> = drop_ins.map(|entry| name(entry.unwrap())).collect();
    names.sort();
    (names, file("normal/sysinit.target.wants/psentry-ipset-sets.service").is_symlink())
}

#[test]
fn the_settings_say_which_rights_are_given() {
    for (settings, rights) in [
        ("", ""),
        ("BLOCK=--backend nft", ""),
        ("BLOCK=--backend nft --backend route --backend exec --exec '/bin/true {scope}'", ""),
        ("BLOCK=--backend hosts-deny", "hosts-deny"),
        ("BLOCK=\"--backend=nft --backend=hosts-deny\"", "hosts-deny"),
        ("  BLOCK='--brake 9/min --backend  nft \\\n  --backend hosts-deny'", "hosts-deny"),
        ("#BLOCK=--backend hosts-deny\nBLOCK=--backend ipset\nBLOCK=--backend nft", ""),
        ("BLOCK=--backend exec\nEXEC_NETWORK=no", ""),
        ("BLOCK=--backend exec\nEXEC_NETWORK=yes", "exec-network"),
        ("BLOCK=--backend nft\nEXEC_NETWORK=yes", ""),
        (
            "EXEC_NETWORK=\"yes\"\nBLOCK=--backend hosts-deny --backend exec --exec /bin/true",
            "exec-network hosts-deny",
        ),
        ("BLOCK=--backend-of-another hosts-deny * $(touch /) `true`", ""),
    ] {
        let rights: Vec<String> = rights.split_whitespace().map(str::to_owned).collect();
        assert_eq!(chosen(settings), (rights, false), "{settings}");
    }
    let (rights, sets) = chosen("BLOCK=--backend ipset");
    assert!(sets && rights.contains(&"ipset".to_owned()), "{rights:?}");
}

#[test]
fn no_stage_complains_into_the_stream() {
    for stage in ["listen", "trap", "judge", "block"] {
        let text = fs::read_to_string(units().join(format!("psentry-{stage}.service"))).unwrap();
        // Where standard output is a file, standard error is the same one by default (systemd.exec(5)).
        assert!(text.contains("\nStandardOutput=") && text.contains("\nStandardError=journal\n"), "{stage}");
    }
}
