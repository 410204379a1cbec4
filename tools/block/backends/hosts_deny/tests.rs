//! The file as others find it: its mode, its links, its bytes; and whose changes count.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;
use crate::block::Block;

fn put(scope: &str) -> Op {
    Op::Put { scope: scope.parse().unwrap(), block: Block::default(), was: None }
}

fn delete(scope: &str) -> Op {
    Op::Delete { scope: scope.parse().unwrap(), was: Block::default() }
}

fn apply(backend: &mut HostsDeny, ops: &[Op]) {
    let results = backend.apply(ops, Timestamp::now());
    assert!(results.len() == ops.len() && results.iter().all(Result::is_ok), "{results:?}");
}

fn scopes(backend: &mut HostsDeny) -> Vec<String> {
    backend.list().unwrap().entries.iter().map(|entry| entry.scope.to_string()).collect()
}

#[test]
fn a_file_behind_a_link_keeps_its_mode_and_its_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let (real, link) = (directory.path().join("real"), directory.path().join("link"));
    fs::write(&real, b"\xff\xfe no text\nALL: x").unwrap();
    fs::set_permissions(&real, Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink("real", &link).unwrap();
    let mut backend = HostsDeny::new(&link);
    apply(&mut backend, &[put("192.0.2.7")]);
    apply(&mut backend, &[put("192.0.2.7"), put("192.0.2.9")]);
    assert_eq!(scopes(&mut backend), ["192.0.2.7/32", "192.0.2.9/32"]);
    assert_eq!(fs::metadata(&real).unwrap().mode() & 0o777, 0o640);
    assert!(link.is_symlink());
    apply(&mut backend, &[delete("192.0.2.8"), put("192.0.2.10"), delete("192.0.2.7")]);
    assert_eq!(scopes(&mut backend), ["192.0.2.9/32", "192.0.2.10/32"]);
    apply(&mut backend, &[delete("192.0.2.9"), delete("192.0.2.10")]);
    assert_eq!(fs::read(&real).unwrap(), b"\xff\xfe no text\nALL: x");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[test]
fn a_section_without_blocks_goes_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hosts.deny");
    fs::write(&path, "mine\n# BEGIN psentry\n# END psentry\ntheirs").unwrap();
    HostsDeny::new(&path).purge().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine\ntheirs");
}

#[test]
fn a_file_that_was_not_there_is_not_there_afterwards() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hosts.deny");
    let mut backend = HostsDeny::new(&path);
    backend.ensure().unwrap();
    assert!(!path.exists());
    apply(&mut backend, &[put("2001:db8::/64")]);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, MODE);
    backend.purge().unwrap();
    assert!(!path.exists());
    backend.purge().unwrap();
}

#[test]
fn a_directory_that_is_not_there_is_an_error_with_its_name() {
    let mut backend = HostsDeny::new(Path::new("/nonexistent/hosts.deny"));
    assert!(backend.ensure().unwrap_err().to_string().starts_with("/nonexistent: "));
}

#[test]
fn a_block_that_is_there_twice_is_damaged_until_it_is_put_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hosts.deny");
    let line = "# until unblocked psentry\nALL: 192.0.2.7\n";
    fs::write(&path, format!("# BEGIN psentry\n{line}{line}ALL: 192.0.2.8\n# END psentry\n")).unwrap();
    let mut backend = HostsDeny::new(&path);
    let damaged = |backend: &mut HostsDeny| {
        backend.list().unwrap().entries.iter().map(|entry| entry.damaged).collect::<Vec<_>>()
    };
    assert_eq!(damaged(&mut backend), [true, false]);
    apply(&mut backend, &[put("192.0.2.7")]);
    assert_eq!(damaged(&mut backend), [false, false]);
}

#[test]
fn what_others_change_is_drift_and_our_own_changes_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hosts.deny");
    let mut backend = HostsDeny::new(&path);
    backend.ensure().unwrap();
    backend.list().unwrap();
    assert_eq!(backend.drift().unwrap(), None);
    apply(&mut backend, &[put("192.0.2.7"), put("192.0.2.8")]);
    apply(&mut backend, &[delete("192.0.2.7")]);
    fs::write(directory.path().join("hosts.allow"), "x").unwrap();
    assert_eq!(backend.drift().unwrap(), None, "our own changes, and another file");
    let ours = fs::read(&path).unwrap();
    let rename = || {
        fs::write(directory.path().join("new"), "x").unwrap();
        fs::rename(directory.path().join("new"), &path).unwrap();
    };
    let changes: [&dyn Fn(); 3] =
        [&|| fs::write(&path, "y").unwrap(), &|| fs::remove_file(&path).unwrap(), &rename];
    for change in changes {
        change();
        assert_eq!(backend.drift().unwrap(), Some(Drift::default()));
        // It is put back before anybody has listed.
        fs::write(&path, &ours).unwrap();
        assert_eq!(backend.drift().unwrap(), None, "it is as it was");
    }
    // Two of psentry's: the change of the other one is drift.
    apply(&mut HostsDeny::new(&path), &[put("192.0.2.9")]);
    assert_eq!(backend.drift().unwrap(), Some(Drift::default()));
    assert_eq!(scopes(&mut backend), ["192.0.2.8/32", "192.0.2.9/32"]);
    fs::write(&path, &ours).unwrap();
    backend.list().unwrap();
    assert_eq!(backend.drift().unwrap(), None, "it has been listed since");
}

#[test]
fn a_link_that_leads_elsewhere_is_followed() {
    let directory = tempfile::tempdir().unwrap();
    let [link, one, two] = ["hosts.deny", "one", "two"].map(|name| directory.path().join(name));
    fs::write(&one, "").unwrap();
    std::os::unix::fs::symlink(&one, &link).unwrap();
    let mut backend = HostsDeny::new(&link);
    backend.ensure().unwrap();
    apply(&mut backend, &[put("192.0.2.7")]);
    fs::write(&two, "").unwrap();
    std::os::unix::fs::symlink(&two, directory.path().join("new")).unwrap();
    fs::rename(directory.path().join("new"), &link).unwrap();
    assert_eq!(backend.drift().unwrap(), Some(Drift::default()));
    assert_eq!(scopes(&mut backend), [""; 0]);
    fs::write(&two, "mine\n").unwrap();
    assert_eq!(backend.drift().unwrap(), Some(Drift::default()), "it is watched where it is now");
}

/// What somebody took away just before psentry wrote the file is missed afterwards, too.
#[test]
fn what_others_did_before_a_write_of_our_own_is_drift() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hosts.deny");
    let mut backend = HostsDeny::new(&path);
    assert_eq!(scopes(&mut backend), [""; 0]);
    apply(&mut backend, &[put("192.0.2.7"), put("192.0.2.8")]);
    assert_eq!(backend.drift().unwrap(), None);
    fs::remove_file(&path).unwrap();
    apply(&mut backend, &[delete("192.0.2.8")]);
    assert_eq!(backend.drift().unwrap(), Some(Drift::default()));
    assert_eq!(scopes(&mut backend), [""; 0]);
    assert_eq!(backend.drift().unwrap(), None, "it is known");
}

#[test]
fn without_a_backup_nothing_is_written_in_place() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hosts.deny");
    fs::write(&path, "old").unwrap();
    overwrite(&path, b"old", b"new").unwrap();
    let backup = backup_of(&path);
    assert_eq!((fs::read(&path).unwrap(), fs::read(&backup).unwrap()), (b"new".to_vec(), b"old".to_vec()));
    fs::remove_file(&backup).unwrap();
    fs::create_dir(&backup).unwrap();
    let error = overwrite(&path, b"new", b"newer").unwrap_err().to_string();
    assert!(error.contains("hosts.deny.psentry-backup: cannot write it, and without a backup"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"new");
}
