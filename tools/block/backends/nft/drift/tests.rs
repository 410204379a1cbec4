//! What others do is drift and what we do is none, on messages as the kernel sends them.

use psentry_linux::netlink_attributes::put;

use super::super::encode;
use super::super::encode::tests::bytes;
use super::super::set_id::SetId;
use super::*;

const OWN: u32 = 7;
const NFT: u32 = 4711;

const NFT_MSG_NEWTABLE: u8 = 0;
const NFT_MSG_DELRULE: u8 = 8;

fn notifications() -> Notifications {
    Monitor::new(OWN).notifications
}

fn notify(notifications: &mut Notifications, portid: u32, kind: u8, message: &[u8]) {
    let mut header = NetlinkHeader::default();
    header.message_type = u16::from_le_bytes([kind, SUBSYSTEM]);
    header.port_number = portid;
    notifications.read(&header, message);
}

/// A message on an object of a table.
fn about(family: u8, table: &str) -> Vec<u8> {
    let mut message = vec![family, 0, 0, 0];
    put(&mut message, NFTA_TABLE, format!("{table}\0").as_bytes());
    message
}

fn end_with(name: &[u8]) -> Vec<u8> {
    let mut message = vec![0; HEADER];
    put(&mut message, NFTA_GEN_PROC_PID, &9u32.to_be_bytes());
    put(&mut message, NFTA_GEN_PROC_NAME, name);
    message
}

fn end(notifications: &mut Notifications, portid: u32) {
    notify(notifications, portid, NFT_MSG_NEWGEN, &end_with(b"nft\0"));
}

fn by_nft() -> Option<Drift> {
    Some(Drift { who: Some("'nft' (process 9)".to_owned()) })
}

#[test]
fn whatever_others_change_in_our_table_is_drift_once_the_transaction_is_over() {
    let deleted = bytes(encode::delete(SetId::FIRST[0], &[("192.0.2.7".parse().unwrap(), None)]));
    for (kind, message) in [
        (NFT_MSG_NEWTABLE, about(NFPROTO_INET, "psentry")),
        (NFT_MSG_DELRULE, about(NFPROTO_INET, "psentry")),
        (NFT_MSG_DELSETELEM, deleted),
        (99, about(NFPROTO_INET, "psentry")),
    ] {
        let mut read = notifications();
        notify(&mut read, NFT, kind, &message);
        assert_eq!(read.drift, None, "{kind}");
        end(&mut read, NFT);
        assert_eq!(read.drift.take(), by_nft(), "{kind}");
        end(&mut read, NFT);
        assert_eq!(read.drift, None, "the next transaction is another one");
    }
}

#[test]
fn our_own_changes_and_other_tables_are_no_drift() {
    let mut read = notifications();
    for (portid, message) in [
        (OWN, about(NFPROTO_INET, "psentry")),
        (NFT, about(NFPROTO_INET, "filter")),
        (NFT, about(2, "psentry")),
        (NFT, Vec::new()),
    ] {
        notify(&mut read, portid, NFT_MSG_DELRULE, &message);
        end(&mut read, portid);
        assert_eq!(read.drift, None, "{portid} {message:?}");
    }
}

#[test]
fn one_transaction_is_that_of_our_own_nft_and_a_second_one_is_not() {
    let ours = about(NFPROTO_INET, "psentry");
    let mut read = notifications();
    read.own_next = true;
    notify(&mut read, NFT, NFT_MSG_DELRULE, &about(NFPROTO_INET, "filter"));
    end(&mut read, NFT);
    assert!(read.own_next, "it did not touch our table");
    notify(&mut read, NFT, NFT_MSG_DELRULE, &ours);
    end(&mut read, NFT);
    assert_eq!(read.drift, None);
    notify(&mut read, NFT, NFT_MSG_DELRULE, &ours);
    end(&mut read, NFT);
    assert_eq!(read.drift, by_nft());
}

#[test]
fn after_a_loss_anybody_may_have_changed_anything() {
    let mut read = notifications();
    notify(&mut read, NFT, NFT_MSG_DELRULE, &about(NFPROTO_INET, "psentry"));
    read.lost();
    assert_eq!(read.drift.take(), Some(Drift::default()));
    end(&mut read, NFT);
    assert_eq!(read.drift, None);
}

#[test]
fn a_process_cannot_smuggle_anything_in_with_its_name() {
    assert_eq!(author(&end_with(b"a\x1b[0m \xff\n\0")).unwrap(), "'a?[0m???' (process 9)");
    for broken in [&[][..], &[1, 0], &[0, 0, 0, 0, 200, 0, 2, 0]] {
        assert_eq!(author(broken), None);
    }
}
