//! The file as others find it: its rights, its links, its bytes.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::replacing::MODE;
use super::*;
use crate::backend::Block;
use psentry_records::Prefix;

fn change(scope: &str, block: bool) -> Change {
    let (scope, block_of) = (scope.parse::<Prefix>().unwrap(), Block::default());
    Change { scope, wish: if block { Wish::Block(block_of) } else { Wish::Release(block_of) } }
}

fn apply(backend: &mut HostsDeny, scope: &str, block: bool) -> Effect {
    backend.apply(&[change(scope, block)], Timestamp::now()).remove(0).unwrap()
}

#[test]
fn a_file_behind_a_link_keeps_its_rights_and_its_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let (real, link) = (directory.path().join("real"), directory.path().join("link"));
    fs::write(&real, b"\xff\xfe no text\nALL: x").unwrap();
    fs::set_permissions(&real, Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink("real", &link).unwrap();
    let mut backend = HostsDeny::new(&link);
    assert_eq!(apply(&mut backend, "192.0.2.7", true), Effect::Done);
    assert_eq!(apply(&mut backend, "192.0.2.7", true), Effect::Done);
    assert_eq!(backend.list().unwrap().len(), 1);
    assert_eq!(fs::metadata(&real).unwrap().mode() & 0o777, 0o640);
    assert!(link.is_symlink());
    assert_eq!(apply(&mut backend, "192.0.2.8", false), Effect::WasNotThere);
    assert_eq!(apply(&mut backend, "192.0.2.7", false), Effect::Done);
    assert_eq!(fs::read(&real).unwrap(), b"\xff\xfe no text\nALL: x");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[test]
fn a_section_without_blocks_goes_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hosts.deny");
    fs::write(&path, "mine\n# BEGIN psentry\n# END psentry\ntheirs").unwrap();
    assert_eq!(HostsDeny::new(&path).remove().unwrap(), []);
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine\ntheirs");
}

#[test]
fn a_file_that_was_not_there_is_not_there_afterwards() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hosts.deny");
    let mut backend = HostsDeny::new(&path);
    assert_eq!(backend.prepare().unwrap(), []);
    assert!(!path.exists());
    apply(&mut backend, "2001:db8::/64", true);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, MODE);
    assert_eq!(backend.remove().unwrap().len(), 1);
    assert!(!path.exists());
    assert_eq!(backend.remove().unwrap(), []);
}

#[test]
fn a_directory_that_is_not_there_is_an_error_with_its_name() {
    let mut backend = HostsDeny::new(Path::new("/nonexistent/hosts.deny"));
    assert!(backend.prepare().unwrap_err().to_string().starts_with("/nonexistent: "));
}
