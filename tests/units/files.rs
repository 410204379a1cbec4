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
            .replace("/usr/local/lib/psentry/selftest", "/usr/bin/true");
        fs::write(folder.path().join(&name), text).unwrap();
        files.push(folder.path().join(name.replace("@.", "@2323.")));
    }
    assert!(files.len() >= 8, "{files:?}");
    (folder, files)
}

#[test]
fn systemd_understands_every_unit_without_a_word() {
    let (_folder, files) = installed();
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&files).output().unwrap();
    // It ends well even on a misspelt directive, but not in silence.
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.status.success());
}

#[test]
fn every_sandbox_is_tight() {
    for (unit, tenths) in [
        ("psentry-listen", 3),
        ("psentry-trap", 13),
        ("psentry-judge", 3),
        ("psentry-block", 13),
        ("psentry-selftest", 25),
        ("psentry-ipset-sets", 14),
    ] {
        let output = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager", &format!("--threshold={tenths}")])
            .arg(units().join(format!("{unit}.service")))
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{unit}: {}", told.lines().last().unwrap_or_default());
        assert!(told.contains("Overall exposure level"), "{unit}: {told}");
    }
}

#[test]
fn no_stage_complains_into_the_stream() {
    for stage in ["listen", "trap", "judge", "block"] {
        let text = fs::read_to_string(units().join(format!("psentry-{stage}.service"))).unwrap();
        // Where standard output is a file, standard error is the same one by default (systemd.exec(5)).
        assert!(text.contains("\nStandardOutput=") && text.contains("\nStandardError=journal\n"), "{stage}");
    }
}
